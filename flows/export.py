"""`convoy export`: the dataset in a format that other tools read."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from flows import settings
from pipeline.files import DATASET


class Format(StrEnum):
    """What can be written; one file of `pipeline/export/` each."""

    COCO = "coco"
    FOLDER = "folder"
    MASKS = "masks"
    VOC = "voc"
    YOLO = "yolo"


def export(
    dest: Annotated[Path, typer.Argument(metavar="DEST", help="A folder that is new or empty.")],
    form: Annotated[
        Format, typer.Option("--as", help="coco, voc and yolo hold objects, masks pixels, folder classes.")
    ],
    dataset: Annotated[Path | None, typer.Option(metavar="FOLDER", help="By default out/dataset.")] = None,
) -> None:
    """Write the dataset that `ingest` made back in a format that other tools read.

    Pictures are written as they came. What the format cannot hold is said; where it holds everything, `ingest` makes
    the same dataset of it, to the last bit.
    """
    dest, dataset = dest.absolute(), dataset and dataset.absolute()  # typed relative to where the user stands
    settings.enter_project()
    from pipeline.dataset import Dataset
    from pipeline.export.run import export as write
    from pipeline.progress import track
    from pipeline.source import quoted

    opened = Dataset.open(dataset or DATASET)
    try:
        with track("export", opened.info.images) as advance:
            made = write(dest, form, opened, advance)
    except KeyboardInterrupt:
        typer.echo("Stopped; nothing half-written is left.", err=True)
        raise typer.Exit(130) from None
    typer.echo(f"Wrote {made.images:,} pictures to {dest}.")
    for sentence in made.lost:
        typer.echo(f"  {sentence}.")
    options = ", ".join(f"{key}: {value if key == 'name' else quoted(value)}" for key, value in made.data.items())
    same = (
        "It is read again"
        if made.lost
        else f"It is the same dataset (digest {opened.info.digest[:12]}) that is read again"
    )
    typer.echo(f"{same} by `data: {{{options}}}`.")
