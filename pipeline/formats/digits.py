"""The 1,797 scanned digits, 8 x 8 pixels, that come with scikit-learn: real pictures without a download.

Source: E. Alpaydin, C. Kaynak. Optical Recognition of Handwritten Digits. UCI repository, 1998 (its test part).
"""

from __future__ import annotations

import csv
import gzip
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from pipeline.contracts import FormatConfig, Found, LeftOut, Target
from pipeline.errors import UserError

SIDE = 8
LEVELS = 16


class Config(FormatConfig):
    """No options."""

    gives: ClassVar[frozenset[Target]] = frozenset({Target.LABEL})

    def fingerprint(self) -> Iterator[str]:
        """Size of the one file; its time is that of the installation and says nothing."""
        file = _file()
        yield f"{file.name}\t{file.stat().st_size}"

    def read(self) -> Iterator[Found | LeftOut]:
        """Each digit as a grey picture `digits/0007.png`, its label `0` to `9`."""
        import numpy as np

        from pipeline.images import encode_png

        with gzip.open(_file(), "rt", encoding="ascii", newline="") as file:
            rows = np.array([[float(value) for value in row] for row in csv.reader(file)])
        pixels = np.rint(rows[:, :-1] * (255 / LEVELS)).astype(np.uint8).reshape(-1, SIDE, SIDE, 1)
        for position, (picture, label) in enumerate(zip(pixels, rows[:, -1], strict=True)):
            yield Found(f"digits/{position:04}.png", encode_png(picture), {Target.LABEL: str(int(label))})


def _file() -> Path:
    """The file in scikit-learn's folder, found without importing it, which would take seconds."""
    package = importlib.util.find_spec("sklearn")
    for folder in (package.submodule_search_locations or ()) if package else ():
        file = Path(folder, "datasets", "data", "digits.csv.gz")
        if file.is_file():
            return file
    raise UserError("data: the digits come with scikit-learn, which is not installed here. Run `uv sync`.")
