"""Pictures and masks in folders, each mask a picture whose values are classes.

    train/images/1.jpg   train/masks/1.png         folders beside each other: images and masks, image and label,
    train/1.jpg          trainannot/1.png          img and annot, JPEGImages and SegmentationClass, ...
    1.jpg                1_mask.png                beside each other by name: _mask, _label, _L, _gt, ...
    7/images/7.png       7/masks/a.png, b.png      a mask for each object, in a folder for each picture
    label_colors.txt                               names of the classes: see `_class_files`

A picture with a mask for each object tells its objects apart; overlaps of these are kept.

What values mean is said in `_mask_kinds`, which mask belongs to which picture in `_mask_pairs`. A mask with a palette
counts by its indices. Files that are named `_predict` say what a model thought, and are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

from pydantic import Field

from pipeline.annotations import Flaw, FlawKind
from pipeline.contracts import FormatConfig, Found, LeftOut, Recognised, Target
from pipeline.errors import UserError, did_you_mean
from pipeline.formats import _class_files, _mask_kinds
from pipeline.formats._class_files import ClassName
from pipeline.formats._class_lists import Names
from pipeline.formats._files import PICTURES, Listing, below, clutter, folder, parent, suffix
from pipeline.formats._mask_look import look
from pipeline.formats._mask_pairs import Pairs, pair
from pipeline.formats._names import folder_splits
from pipeline.formats._samples import joined, lines, lost
from pipeline.source import open_source


class Config(FormatConfig):
    """Options of a source of pictures and masks."""

    gives: ClassVar[frozenset[Target]] = frozenset({Target.MASK, Target.INSTANCES})

    path: str = Field(min_length=1)
    """A folder, .zip, .tar, .tar.gz (.tgz), .tar.bz2 or .tar.xz; `~` is your home."""
    inside: str = ""
    """A folder within it, where it holds several data sets."""
    pictures: str = ""
    """The folder within it that pictures lie in; empty: found out by names."""
    masks: str = ""
    """The folder within it that masks lie in, in the same order as pictures; empty: found out by names."""
    classes: dict[int, ClassName] | tuple[ClassName, ...] = ()
    """Names of the values, `{0: sky, 1: road}` or in order; empty: from a file of the source, or numbered."""
    void: tuple[int, ...] | None = None
    """Values that say nothing of a pixel; empty: 255, unless it has a class."""

    @classmethod
    def recognise(cls, names: Sequence[str], peek: Callable[[str], bytes]) -> Recognised | None:
        """By pairs of names."""
        pictures = [name for name in names if suffix(name) in PICTURES and not clutter(name)]
        try:
            pairs = pair(pictures)
        except UserError as error:
            return Recognised(1, str(error))
        masked = [(picture, masks[0]) for picture, masks in sorted(pairs.masks.items()) if masks]
        if not masked:
            return None
        why = f"{len(masked):,} of {len(pairs.masks):,} pictures have masks: {masked[0][0]} has {masked[0][1]}"
        return Recognised(2 if 4 * len(masked) >= len(pairs.masks) else 1, why)

    def fingerprint(self) -> Iterator[str]:
        """Name, size and time of each file, or of the archive."""
        yield from open_source(self.path).fingerprint()

    def listing(self) -> Iterator[str]:
        """Name, size and time of each picture and of its masks."""
        listing = Listing.of(self.path, self.inside)
        yield from lines(listing, self._pairs(listing).masks, {})

    def read(self) -> Iterator[Found | LeftOut | Flaw]:
        """Every picture with its masks as they stand; these are not decoded, but for a look at a few."""
        listing = Listing.of(self.path, self.inside)
        pairs = self._pairs(listing)
        masks = sorted(name for several in pairs.masks.values() for name in several)
        named, flaws = _class_files.find(listing, masks[0]) if not self.classes else (Names(), [])
        seen = look(listing, masks)
        meaning = _mask_kinds.meaning(seen, named, self.classes, self.void)
        if pairs.by_object:
            meaning = _mask_kinds.by_object(meaning, seen)
        yield from listing.left_out
        yield from flaws
        yield from (LeftOut(name, reason) for name, reason in pairs.other.items())
        yield from (Flaw(FlawKind.NO_PICTURE, name, "", reason) for name, reason in pairs.alone.items())
        read = {named.file, *(flaw.source for flaw in flaws)}
        for name in listing.names:
            if name not in listing.pictures and name not in read:
                yield LeftOut(name, "by its suffix no picture")
        yield from self._samples(listing, pairs, meaning)

    def _samples(self, listing: Listing, pairs: Pairs, meaning: _mask_kinds.Meaning) -> Iterator[Found | LeftOut]:
        splits = folder_splits(pairs.masks)
        for item in joined(listing, pairs.masks):
            if isinstance(item, LeftOut):
                yield item
                continue
            names = pairs.masks[item.name]
            whole = [data for data in item.parts if data is not None]
            annotation: dict[Target, Any] = {}
            if names and len(whole) == len(names):
                annotation[Target.MASK] = meaning.painted(names, whole)
                if pairs.by_object:
                    annotation[Target.INSTANCES] = meaning.pieces(names, whole)
            yield Found(item.name, item.data, annotation, splits[item.name], flaws=lost(item, names))

    def _pairs(self, listing: Listing) -> Pairs:
        """The pictures of the source and their masks.

        Raises:
            UserError: there is no mask, or one of the folders.
        """
        places = [_placed(listing, self.pictures, "pictures"), _placed(listing, self.masks, "masks")]
        pairs = pair(listing.pictures, *places)
        if not any(pairs.masks.values()):
            alone = "".join(f" {name}: {reason}." for name, reason in sorted(pairs.alone.items())[:2])
            raise UserError(
                f"{self.path}: none of its {len(pairs.masks):,} pictures has a mask.{alone} Expected folders such as "
                "images and masks, or names such as 1.jpg and 1_mask.png; else set data.pictures and data.masks."
            )
        return pairs


def _placed(listing: Listing, path: str, option: str) -> str:
    """A folder of the options as it lies in the source, whether or not it is given from `inside`.

    Raises:
        UserError: there is no such folder.
    """
    for place in (folder(path), folder(f"{listing.inside}/{path}")):
        if not path or any(below(name, place) for name in listing.names):
            return place if path else ""
    folders = {parent(name) for name in listing.pictures} - {""}
    near = did_you_mean(path, folders) or f" It has: {', '.join(sorted(folders)[:8]) or 'none'}."
    raise UserError(f"data.{option}: {listing.path} has no folder {path!r} with files.{near}")
