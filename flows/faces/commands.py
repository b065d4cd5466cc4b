"""`convoy faces`: people put into the gallery and taken out, and faces in pictures recognised.

Everything heavy is imported by the command that needs it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows import settings

if TYPE_CHECKING:
    from flows.faces.asking import How

app = typer.Typer(
    no_args_is_help=True,
    help="Recognise people by the champion of `task: {name: face_recognition}`: a gallery on this machine alone.",
)
Name = Annotated[str, typer.Argument(metavar="NAME", help="Of the person.", show_default=False)]
Detector = Annotated[
    str,
    typer.Option(metavar="MODEL", help="Finds the faces first: folder of a detection model, or name of a champion."),
]
Points = Annotated[
    str, typer.Option(metavar="MODEL", help="Finds the eyes, by which faces are set upright: likewise, of keypoints.")
]
Margin = Annotated[
    float, typer.Option(min=0, max=2, help="Around a face that is found, in shares of the longer side of its box.")
]
Square = Annotated[bool, typer.Option("--square", help="Cut squares around faces that are found.")]


@app.command()
def enrol(
    name: Name,
    pictures: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Of that person.", show_default=False)],
    detector: Detector = "",
    points: Points = "",
    margin: Margin = 0,
    square: Square = False,
) -> None:
    """Put a person into the gallery, by one picture or several; with --detector the largest face of each counts.

    Either all of the pictures are taken or none.
    """
    pictures, how = _entered(pictures, detector, points, margin, square)
    from flows.faces import asking

    asking.enrol(name, pictures, how)


@app.command(name="list")
def show() -> None:
    """Who is in the gallery, by how many pictures, and since when."""
    settings.enter_project()
    from flows.faces import asking

    asking.show()


@app.command()
def delete(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Take a person out of the gallery: name, pictures and all that was computed from them, overwritten.

    Pictures that a model learnt from are not touched: they are in its dataset, and in DVC's cache.
    """
    settings.enter_project()
    from flows.faces import asking

    asking.delete(name, yes)


@app.command()
def identify(
    pictures: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="Pictures, or folders of them.", show_default=False)
    ],
    json: Annotated[bool, typer.Option("--json", help="One JSON object per line, with all that is known.")] = False,
    detector: Detector = "",
    points: Points = "",
    margin: Margin = 0,
    square: Square = False,
) -> None:
    """Say who of the gallery is on each picture, and `unknown` of everybody else."""
    pictures, how = _entered(pictures, detector, points, margin, square)
    from flows.faces import asking

    asking.identify(pictures, how, json)


@app.command()
def verify(
    first: Annotated[Path, typer.Argument(metavar="IMAGE", show_default=False)],
    second: Annotated[Path, typer.Argument(metavar="IMAGE", show_default=False)],
    detector: Detector = "",
    points: Points = "",
    margin: Margin = 0,
    square: Square = False,
) -> None:
    """Say whether two pictures show the same person; the gallery is not asked, and nothing is kept."""
    pictures, how = _entered([first, second], detector, points, margin, square)
    from flows.faces import asking

    asking.verify(pictures[0], pictures[1], how)


def _entered(pictures: list[Path], detector: str, points: str, margin: float, square: bool) -> tuple[list[Path], How]:
    """Pictures and models as they are called from the project's root, into which this goes."""
    pictures = [picture.absolute() for picture in pictures]  # typed relative to where the user stands
    folders = {model: str(Path(model).absolute()) for model in (detector, points) if model and Path(model).is_dir()}
    settings.enter_project()
    from flows.faces.asking import How

    return pictures, How(folders.get(detector, detector), folders.get(points, points), margin, square)
