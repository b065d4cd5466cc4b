"""The stage ingest: the same source gives the same bytes, splits stay put, and what is hostile ends with its reason."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import signal
import struct
import subprocess
import sys
import tarfile
import time
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline import masks
from pipeline.annotations import Layer, Painted
from pipeline.contracts import AnnotationRules, Found, LeftOut, Target
from pipeline.dataset import SAMPLE_COLUMNS, Dataset
from pipeline.door import parse
from pipeline.errors import UserError
from pipeline.files import replacing_folder
from pipeline.images import encode_png
from pipeline.ingest import decoding, shards, stage, writing
from pipeline.ingest.child import Job
from pipeline.ingest.decoding import Verdict, decode_all
from pipeline.ingest.painting import packed, paint
from pipeline.ingest.shards import Spool, shard_bits, write_shards
from pipeline.ingest.sifting import Picture, sift
from pipeline.ingest.splits import assign, place
from pipeline.params import IngestParams, SplitOptions
from pipeline.plugin import HOME, imported
from pipeline.progress import track
from pipeline.tasks.classification import Config

DATA = Path(__file__).parents[2] / "shared" / "data"
OUT = Path("out/dataset")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "project"
    home.mkdir()
    monkeypatch.chdir(home)
    return home


def picture(seed: int, grey: bool = False) -> bytes:
    return encode_png(np.random.default_rng(seed).integers(0, 256, (5, 4, 1 if grey else 3), dtype=np.uint8))


def pets(count: int = 20, start: int = 0, prefix: str = "") -> dict[str, bytes]:
    names = ("ants", "bees")
    return {
        f"{prefix}{name}/{start + k}.png": picture(1000 * c + start + k)
        for c, name in enumerate(names)
        for k in range(count)
    }


def lay(files: dict[str, bytes], root: str = "source") -> None:
    for name, data in files.items():
        Path(root, name).parent.mkdir(parents=True, exist_ok=True)
        Path(root, name).write_bytes(data)


def params(
    data: str = "{name: folder, path: source}",
    split: str = "{val: 0.2, test: 0.25}",
    task: str = "classification",
    rules: str = "{}",
) -> IngestParams:
    return parse(IngestParams, f"data: {data}\nannotations: {rules}\nsplit: {split}\ntask: {{name: {task}}}\n")


def rows(name: str = "samples") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(OUT / f"{name}.parquet").to_pylist()
    return found


def rejected() -> dict[str, str]:
    return {row["source"]: row["reason"] for row in rows("rejected")}


def outputs() -> dict[str, str]:
    return {str(p.relative_to(OUT)): hashlib.sha256(p.read_bytes()).hexdigest() for p in OUT.rglob("*") if p.is_file()}


# The dataset as a whole


def test_what_went_in_comes_out():
    files = pets()
    lay({**files, "README": b"hello"})
    result = stage.run(params(), OUT)
    dataset = Dataset.open(OUT)
    assert dataset.info.classes == ["ants", "bees"]
    assert (dataset.info.images, dataset.info.channels, dataset.info.rejected) == (40, 3, 1)
    assert dataset.info.bytes == sum(map(len, files.values()))
    assert (result.new, result.images, result.classes, result.rejected) == (True, 40, 2, 1)
    assert sum(result.splits.values()) == 40
    for split in ("train", "val", "test"):
        part = dataset.split(split)
        assert result.splits[split] == len(part) == sum(dataset.info.counts[split].values())
        for position, row in enumerate(part.samples.to_pylist()):
            assert part.read(position) == files[row["source"]]
            assert row["id"] == hashlib.sha256(files[row["source"]]).hexdigest()
            assert (row["width"], row["height"], row["group"]) == (4, 5, None)
            assert row["label"] == ["ants", "bees"].index(row["source"].split("/")[0])
    assert [row["id"] for row in rows()] == sorted(row["id"] for row in rows())
    assert rejected() == {"README": "outside any class folder"}


def test_the_same_source_gives_the_same_bytes_in_any_order_time_and_packing(project: Path):
    files = {**pets(), "ants/copy.png": picture(0), "ants/bad.png": b"no picture"}
    lay(files)
    stage.run(params(), OUT)
    first = outputs()
    for order in (sorted(files), sorted(files, reverse=True), random.Random(0).sample(sorted(files), len(files))):
        with tarfile.open("packed.tar", "w") as archive:
            for name in order:
                info = tarfile.TarInfo(name)
                info.size, info.mtime = len(files[name]), random.Random(name).randrange(10**9)
                archive.addfile(info, io.BytesIO(files[name]))
        assert stage.run(params("{name: folder, path: packed.tar}"), OUT).new
        assert outputs() == first
    text = b"".join(path.read_bytes() for path in OUT.rglob("*") if path.is_file())
    assert str(project).encode() not in text
    assert b"packed.tar" not in text


def test_digits_are_grey_and_stratified_enough():
    result = stage.run(params("{name: digits}", "{}"), OUT)
    info = Dataset.open(OUT).info
    assert (result.images, info.channels, info.rejected, len(info.classes)) == (1797, 1, 0, 10)
    # shares by independent hashes: within four standard deviations of a binomial
    for split, share in (("val", 0.15), ("test", 0.2)):
        assert abs(result.splits[split] - 1797 * share) < 4 * (1797 * share * (1 - share)) ** 0.5
    assert min(count for counts in info.counts.values() for count in counts.values()) > 10


def test_channels_are_one_only_if_every_picture_is_grey():
    grey = {f"{name}/{k}.png": picture(k + 50 * c, grey=True) for c, name in enumerate("ab") for k in range(5)}
    lay(grey)
    stage.run(params(), OUT)
    assert Dataset.open(OUT).info.channels == 1
    lay({"a/colour.png": picture(99)})
    stage.run(params(), OUT)
    assert Dataset.open(OUT).info.channels == 3


# Metadata


FACTS = "{name: folder, path: source, metadata: facts.csv}"


def facts(*columns: str, rows: Iterable[tuple[str, ...]]) -> bytes:
    return "".join(",".join(cells) + "\n" for cells in [("file", *columns), *rows]).encode()


def test_metadata_becomes_columns():
    files = pets()
    told = {name: (f"site {k % 3}", str(k / 2), "" if k else "1e3", f"00{k}") for k, name in enumerate(files)}
    del told["ants/7.png"]
    lay({**files, "facts.csv": facts("site", "age", "dose", "code", rows=((n, *v) for n, v in told.items()))})
    stage.run(params(FACTS), OUT)
    info = Dataset.open(OUT).info
    assert info.metadata == ["site", "age", "dose", "code"]
    table = pq.read_table(OUT / "samples.parquet")
    assert [str(table.schema.field(name).type) for name in info.metadata] == ["string", "double", "double", "double"]
    for row in rows():
        site, age, dose, code = told.get(row["source"], ("",) * 4)
        numbers = [float(text) if text else None for text in (age, dose, code)]
        assert [row[name] for name in info.metadata] == [site or None, *numbers]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        *((text, "double") for text in ("1", "-2.5", "+.5", "3.", "1e-3", "0007")),
        *((text, "string") for text in ("nan", "inf", "1e999", "1_000", "0x1", "1,5", "\u0661", "1 m")),
    ],
)
def test_what_counts_as_a_number(text: str, kind: str):
    lay(
        {**pets(), "facts.csv": facts("a", rows=[("ants/0.png", f'"{text}"'), ("ants/1.png", "1"), ("bees/0.png", "")])}
    )
    stage.run(params(FACTS), OUT)
    assert str(pq.read_table(OUT / "samples.parquet").schema.field("a").type) == kind


def test_without_metadata_a_dataset_is_what_it_was_before_there_was_any():
    lay(pets())
    stage.run(params(), OUT)
    assert pq.read_schema(OUT / "samples.parquet").names == [*SAMPLE_COLUMNS, "label"]
    # Noted at commit 4a91a56: a data set that was is the same now.
    assert Dataset.open(OUT).info.digest[:16] == "3457842f6b9f673a"


def test_the_digest_covers_metadata_and_groups():
    lay(pets())
    seen = {stage.run(params(), OUT).digest}
    for column, value in (("site", "a"), ("site", "b"), ("place", "b"), ("place", ""), ("group", "b"), ("group", "c")):
        lay({"facts.csv": facts(column, rows=[("ants/0.png", value)])})
        seen.add(stage.run(params(FACTS), OUT).digest)
    assert len(seen) == 7
    assert not stage.run(params(FACTS), OUT).new
    assert Dataset.open(OUT).info.metadata == []


def test_the_digest_covers_what_is_kept_together_beyond_groups():
    def digest(*together: str | None) -> str:
        pictures = [Picture(f"{k}", f"{k}", "a", "train", g, 1, 1, True) for k, g in enumerate([None, None, "x", "x"])]
        joined = [replace(one, together=name) for one, name in zip(pictures, together, strict=True)]
        return writing._digest(["a"], joined, [{"label": 0}] * 4, {})

    by_groups = digest(None, None, "group x", "group x")
    assert by_groups == digest(None, None, None, None)  # groups are in it themselves
    assert len({by_groups, digest("1", "1", "group x", "group x"), digest(None, *["group x"] * 3)}) == 3


def test_the_same_picture_encoded_anew_has_the_same_name_in_a_column():
    smooth = Image.fromarray(np.random.default_rng(0).integers(0, 256, (5, 5)).astype(np.uint8)).resize((40, 40), 3)
    for kind in ("png", "webp"):
        out = io.BytesIO()
        smooth.save(out, kind, lossless=True)
        lay({f"ants/twin.{kind}": out.getvalue()})
    lay(pets())
    stage.run(params(), OUT)
    found = {row["source"]: row for row in rows()}
    first = found["ants/twin.png"]["id"]
    assert {name: row["together"] for name, row in found.items() if row["together"]} == {
        "ants/twin.png": first,
        "ants/twin.webp": first,
    }


def test_groups_and_splits_of_the_metadata_decide():
    files = pets()
    told = [(name, f"colony {k % 8}", "test" if k in (3, 23) else "") for k, name in enumerate(files)]
    lay({**files, "facts.csv": facts("group", "split", rows=told)})
    stage.run(params(FACTS), OUT)
    homes: dict[str, set[str]] = {}
    for row in rows():
        homes.setdefault(row["group"], set()).add(row["split"])
    assert all(len(splits) == 1 for splits in homes.values()), "a group lies in one split"
    assert homes["colony 3"] == homes["colony 7"] == {"test"}  # 3 and 23 are of these, and take their groups along
    assert sum(splits == {"test"} for splits in homes.values()) == 2


def test_a_pattern_that_finds_no_group_is_refused():
    lay(pets())
    with pytest.raises(UserError) as refused:
        stage.run(params(split="{group: '([^/]+)_[0-9]+[.]jpg'}"), OUT)
    assert str(refused.value) == (
        "params.yaml: split.group: '([^/]+)_[0-9]+[.]jpg' finds no group in the name of any of 40 pictures, such as "
        "'ants/0.png', so that none would be kept together. Mend it, or leave it out."
    )
    assert not OUT.exists()
    stage.run(params(split="{group: '([0-9])[.]png'}"), OUT)  # by the last digit
    assert {row["group"] for row in rows()} == set("0123456789")


def test_a_group_that_the_source_parts_is_refused():
    told = [("ants/0.png", "g", "test"), ("ants/1.png", "g", "train"), ("bees/1.png", "h", "train")]
    lay({**pets(), "facts.csv": facts("group", "split", rows=told)})
    words = r"1 group of pictures in several splits, 'g' for one \(test: ants/0\.png; train: ants/1\.png\)\. Put each"
    with pytest.raises(UserError, match=words):
        stage.run(params(FACTS), OUT)


def test_a_column_of_the_dataset_s_own_is_refused():
    lay({**pets(), "facts.csv": facts("width", "site", "label", rows=[("ants/0.png", "1", "a", "2")])})
    words = r"columns of its own that are named 'width', 'label'\. Give those of the metadata other names"
    with pytest.raises(UserError, match=words):
        stage.run(params(FACTS), OUT)
    assert not OUT.exists()


def test_other_metadata_makes_a_source_new():
    lay({**pets(), "facts.csv": facts("site", rows=[("ants/0.png", "north")])})
    stage.run(params(FACTS), OUT)
    assert stage.unchanged(params(FACTS), OUT)
    assert not stage.unchanged(params(), OUT)
    lay({"facts.csv": facts("site", rows=[("ants/0.png", "south")])})
    assert not stage.unchanged(params(FACTS), OUT)


# Nothing new


def test_an_unchanged_source_is_left_alone(capsys: pytest.CaptureFixture[str]):
    lay(pets())
    assert not stage.unchanged(params(), OUT)
    stage.run(params(), OUT)
    before = {path: path.stat().st_mtime_ns for path in OUT.rglob("*")}
    assert stage.unchanged(params(), OUT)
    assert not stage.run(params(), OUT).new
    assert {path: path.stat().st_mtime_ns for path in OUT.rglob("*")} == before
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("ingest: 40 images of 2 classes; train ")
    assert second == first.replace("ingest: ", "ingest: nothing new; ")


def test_what_makes_a_source_new():
    lay(pets())
    stage.run(params(), OUT)
    assert not stage.unchanged(params(split="{val: 0.2, test: 0.25, seed: 1}"), OUT)
    os.utime("source/ants/0.png", ns=(1, 1))
    assert not stage.unchanged(params(), OUT)
    assert stage.run(params(), OUT).new
    assert stage.unchanged(params(), OUT)
    lay(pets(1, start=100))
    assert not stage.unchanged(params(), OUT)


def test_outputs_are_known_by_content_when_only_their_times_changed():
    lay(pets())
    stage.run(params(), OUT)
    for path in OUT.rglob("*"):
        os.utime(path, ns=(5, 5))
    assert stage.unchanged(params(), OUT)
    damaged = OUT / "shards" / "00000.arrow"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\x00")
    assert not stage.unchanged(params(), OUT)
    assert stage.run(params(), OUT).new
    (OUT / "extra").write_text("?")
    assert not stage.unchanged(params(), OUT)
    (OUT / "extra").unlink()
    (OUT / "dataset.json").unlink()
    assert not stage.unchanged(params(), OUT)


@pytest.mark.parametrize("text", ["", "[]", '{"inputs": 3}', '{"inputs": "x", "outputs": []}', "\x00\xff"])
def test_damaged_memory_costs_a_run_and_no_more(text: str):
    lay(pets())
    stage.run(params(), OUT)
    first = outputs()
    for name in ("fingerprint.json", "verdicts.json"):
        Path(".convoy/ingest", name).write_text(text)
    assert stage.run(params(), OUT).new
    assert outputs() == first


def test_only_what_is_new_is_decoded(monkeypatch: pytest.MonkeyPatch):
    decoded: list[str] = []

    def counted(pictures: Iterable[tuple[str, Job]]) -> Iterable[tuple[str, Verdict]]:
        for content, verdict in decode_all(pictures):
            decoded.append(content)
            yield content, verdict

    monkeypatch.setattr("pipeline.ingest.sifting.decode_all", counted)
    lay({**pets(), "ants/bad.png": b"bad"})
    stage.run(params(), OUT)
    assert len(decoded) == 41
    decoded.clear()
    lay({"bees/new.png": picture(77)})
    stage.run(params(), OUT)
    assert decoded == [hashlib.sha256(picture(77)).hexdigest()]
    assert rejected()["ants/bad.png"].startswith("not a picture")


def test_a_failed_run_leaves_the_old_outputs_and_its_verdicts():
    lay(pets())
    stage.run(params(), OUT)
    first = outputs()
    lay({f"cats/{k}.png": b"bad %d" % k for k in range(3)})
    with pytest.raises(UserError, match="None of the 3 pictures of 'cats' can be used"):
        stage.run(params(), OUT)
    assert outputs() == first
    assert len(json.loads(Path(".convoy/ingest/verdicts.json").read_text())["verdicts"]) == 43
    assert [path.name for path in OUT.parent.iterdir()] == ["dataset"]


def test_an_unchanged_source_imports_no_heavy_library():
    lay(pets())
    stage.run(params(), OUT)
    code = (
        "import sys\nfrom pathlib import Path\nfrom pipeline.ingest import fingerprint, stage\n"
        "before = set(sys.modules)\n"
        "from pipeline.formats import digits, folder\n"
        "assert list(folder.Config(path='source').fingerprint()) and list(digits.Config().fingerprint())\n"
        "print(sorted({'numpy', 'pyarrow', 'PIL', 'torch', 'sklearn', 'rich', 'pandas'} & set(sys.modules)))"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(stage.__file__).parents[2])}
    assert subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True).stdout == b"[]\n"


# Duplicates, contradictions, rejects


def sifted(items: list[Found | LeftOut]) -> tuple[dict[str, Picture], dict[str, str]]:
    with Spool(Path("spool")) as spool:
        found = sift(items, Config(), AnnotationRules(), spool, {}, lambda count: None)
    return {picture.name: picture for picture in found.pictures}, dict(found.rejected)


def found(name: str, data: bytes, label: str = "a", split: str | None = None) -> Found:
    return Found(name, data, {Target.LABEL: label}, split)


def test_of_exact_duplicates_one_is_kept():
    items: list[Found | LeftOut] = [found(name, picture(1)) for name in ("a/3", "a/1", "a/2")]
    for order in (items, items[::-1]):
        pictures, left = sifted(order)
        assert list(pictures) == ["a/1"]
        assert left == {"a/2": "the same bytes as a/1", "a/3": "the same bytes as a/1"}


def test_groups_with_a_picture_in_common_are_kin_whichever_file_stays():
    """House 72 is house 59: its kitchen is left out as a copy, and its bedroom must not go where 59 is not."""
    items: list[Found | LeftOut] = [
        Found(f"{house}_{room}", picture(shade), {Target.LABEL: label}, group=house)
        for house, room, shade, label in (
            *(("59", "kitchen", 1, "a"), ("72", "kitchen", 1, "a"), ("72", "bedroom", 2, "a")),
            *(("7", "front", 3, "a"), ("8", "front", 3, "b"), ("9", "front", 4, "b")),  # 7 and 8 contradict each other
        )
    ]
    with Spool(Path("spool")) as spool:
        sifting = sift(items, Config(), AnnotationRules(), spool, {}, lambda count: None)
    assert sifting.kin == [("59", "72"), ("7", "8")]
    assert sorted(one.name for one in sifting.pictures) == ["59_kitchen", "72_bedroom", "9_front"]


def test_the_copy_in_the_test_split_is_the_one_that_stays():
    items: list[Found | LeftOut] = [
        found(f"{split}/a/1", picture(1), split=split) for split in ("train", "val", "test")
    ]
    pictures, left = sifted(items)
    assert list(pictures) == ["test/a/1"]
    assert left == {"train/a/1": "the same bytes as test/a/1", "val/a/1": "the same bytes as test/a/1"}
    assert list(sifted(items[:2])[0]) == ["val/a/1"]


def test_the_same_bytes_with_two_labels_are_all_rejected():
    items: list[Found | LeftOut] = [found("a/1", picture(1), "a"), found("b/1", picture(1), "b")]
    items += [found("a/2", picture(2), "a"), found("b/2", picture(3), "b"), LeftOut("README", "no class")]
    pictures, left = sifted(items)
    assert sorted(pictures) == ["a/2", "b/2"]
    assert left == {
        "README": "no class",
        "a/1": "labelled 'a', but b/1, the same bytes, 'b'",
        "b/1": "labelled 'b', but a/1, the same bytes, 'a'",
    }


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([], r"The source holds no pictures\."),
        ([LeftOut("x", "hidden")], r"The source holds no pictures\. x: hidden\."),
        (
            [found("a/1", b""), found("a/2", b"text"), found("b/1", b"TEXT", "b")],
            r"None of the 3 pictures of the source can be used\. a/1: the file is empty\. a/2: not a picture .*\. Mend",
        ),
        (
            [found("a/1", picture(1)), found("b/1", b"", "b"), found("b/2", b"", "b")],
            r"None of the 2 pictures of 'b' can be used\. b/1: the file is empty\. Mend or remove them\.",
        ),
    ],
)
def test_nothing_left_says_why(items: list[Found | LeftOut], words: str):
    with pytest.raises(UserError, match=words):
        sifted(items)


# Splits


def kept(
    count: int, label: str = "a", split: str | None = None, group: str | None = None, start: int = 0
) -> list[Picture]:
    ids = [hashlib.sha256(f"{label}{split}{start + k}".encode()).hexdigest() for k in range(count)]
    return [Picture(content, content[:6], label, split, group, 4, 5, False) for content in ids]


def split_of(pictures: list[Picture], **options: Any) -> dict[str, str | None]:
    return {picture.id: picture.split for picture in assign(pictures, SplitOptions(**options), str)}


def test_place_is_the_hash_by_hand():
    digest = hashlib.sha256(b"3:cat").digest()
    assert place(3, "cat") == pytest.approx(int.from_bytes(digest[:6]) / 2**48, abs=0)
    assert place(3, "cat") != place(4, "cat")


def test_splits_follow_the_places():
    pictures = kept(500)
    for content, split in split_of(pictures, val=0.3, test=0.1, seed=7).items():
        at = place(7, content)
        assert split == ("test" if at < 0.1 else "val" if at < 0.4 else "train")


def test_a_new_picture_moves_no_other():
    pictures = kept(200) + kept(200, "b")
    whole = split_of(pictures)
    fewer = split_of(pictures[17:])
    assert fewer == {content: whole[content] for content in fewer}
    # another share of val moves no test picture
    assert {c for c, s in split_of(pictures, val=0.3).items() if s == "test"} == {
        c for c, s in whole.items() if s == "test"
    }
    assert split_of(pictures, seed=1) != whole


def test_given_splits_stay_and_a_missing_one_is_taken_from_train():
    given = kept(100, split="train") + kept(30, split="test")
    splits = split_of(given)
    assert all(splits[picture.id] == "test" for picture in given[100:])
    assert {c for c, s in splits.items() if s == "val"} == {p.id for p in given[:100] if place(0, p.id) < 0.15}
    complete = [*given, *kept(10, split="val")]
    assert split_of(complete) == {picture.id: picture.split for picture in complete}


def test_another_split_can_be_learnt_from():
    pictures = kept(9, split="val") + kept(9, split="test", start=20)
    splits = Counter(split_of(pictures, train="val").values())
    assert splits["test"] == 9 and splits["train"] + splits["val"] == 9 and splits["val"] > 0


@pytest.mark.parametrize("count", range(3, 12))
def test_every_class_is_in_every_split_that_is_taken(count: int):
    for label in ("rare", "scarce", "few"):
        pictures = kept(300) + kept(count, label)
        splits = split_of(pictures, val=0.05, test=0.05)
        assert {splits[picture.id] for picture in pictures[300:]} == {"train", "val", "test"}
        assert {p.id: splits[p.id] for p in pictures[:300]} == split_of(pictures[:300], val=0.05, test=0.05)


def test_the_nearest_pictures_fill_a_split_that_has_none():
    few = [picture for picture in kept(50, "b") if place(0, picture.id) > 0.1][:3]  # all three would be in train
    splits = split_of(kept(300) + few, val=0.05, test=0.05)
    order = sorted(few, key=lambda picture: place(0, picture.id))
    assert [splits[picture.id] for picture in order] == ["test", "val", "train"]


@pytest.mark.parametrize("seed", range(30))
def test_groups_of_several_classes_give_every_class_to_every_split(seed: int):
    dice = random.Random(seed)
    pictures = [
        one
        for k in range(14)
        for label in dice.sample("abcdef", dice.randint(1, 4))
        for one in kept(1, label, group=f"patient {k}", start=k)
    ] + [one for label in "abcdef" for k in range(3) for one in kept(1, label, group=f"{label} {k}", start=100 + k)]
    splits = split_of(pictures, val=0.1, test=0.1, seed=seed)
    for label in "abcdef":
        found = {splits[picture.id] for picture in pictures if picture.annotation == label}
        assert found == {"train", "val", "test"}, label


def test_groups_that_cannot_give_every_class_to_every_split():
    pairs = enumerate(("ab", "bc", "ca"))  # two of the three are in one split, and with them all of one class
    pictures = [one for k, labels in pairs for label in labels for one in kept(1, label, group=f"p{k}", start=k)]
    with pytest.raises(UserError, match="no way was found to share them out so that every class is in every split"):
        split_of([*pictures, *kept(3, "a", split="test")])


def test_groups_are_not_parted():
    pictures = [p for k in range(60) for p in kept(5, "ab"[k % 2], group=f"patient {k}", start=5 * k)]
    splits = split_of(pictures)
    groups = {picture.group: set() for picture in pictures}
    for picture in pictures:
        groups[picture.group].add(splits[picture.id])
    assert all(len(found) == 1 for found in groups.values())
    assert Counter(next(iter(found)) for found in groups.values()).keys() == {"train", "val", "test"}


@pytest.mark.parametrize(
    ("pictures", "words"),
    [
        (
            kept(9) + kept(2, "b") + kept(1, "c"),
            r"Too few usable pictures of 'b' \(2\), 'c' \(1\): each class needs 3 or more, "
            r"one for each of train, val, test\.",
        ),
        (
            kept(9, split="train") + kept(1, "b", split="train") + kept(3, split="test"),
            r"of 'b' \(1\): each class needs 2 or more, one for each of train, val\.",
        ),
        (
            kept(9, split="train") + kept(3, "b", split="test"),
            r"1 class to validate or test with, but none of it to train on: 'b' \(test\)",
        ),
        (
            kept(9, split="val") + kept(9, split="test", start=20),
            "for val and test, but none to train on. Set split.train to the one to learn from",
        ),
    ],
)  # fmt: skip
def test_too_little_to_split(pictures: list[Picture], words: str):
    with pytest.raises(UserError, match=words):
        split_of(pictures)


def test_one_class_is_nothing_to_tell_apart():
    lay({f"ants/{k}.png": picture(k) for k in range(9)})
    with pytest.raises(UserError, match="two classes or more"):
        stage.run(params(), OUT)
    assert not OUT.exists()


# Shards


def test_the_number_of_shards_is_a_power_of_two_by_bytes():
    sizes = [0, 128_000_000, 128_000_001, 256_000_000, 256_000_001, 10**12]
    assert [shard_bits(total) for total in sizes] == [0, 0, 1, 1, 2, 13]


def test_shards_hold_what_went_in_and_one_more_picture_changes_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shards, "SHARD_BYTES", 5000)
    monkeypatch.setattr(shards, "BATCH_BYTES", 700)
    data = {hashlib.sha256(b"%d" % k).hexdigest(): os.urandom(k % 300) for k in range(200)}
    written = []
    for contents in (sorted(data)[1:], sorted(data)):
        with Spool(Path("spool")) as spool:
            for content in random.Random(1).sample(contents, len(contents)):
                spool.add(content, data[content])
            folder = Path(f"shards{len(contents)}")
            places = write_shards(spool, contents, folder)
        table = pa.table({"shard": [shard for shard, _ in places]})
        dataset = Dataset(Path("."), None, table)  # type: ignore[arg-type]
        (Path("shards")).unlink(missing_ok=True)
        Path("shards").symlink_to(folder)
        assert [dataset.read(*at) for at in places] == [data[content] for content in contents]
        assert [shard for shard, _ in places] == sorted(shard for shard, _ in places)
        written.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert sorted(written[0]) == [f"{shard:05}.arrow" for shard in range(4)]  # 19,900 bytes
    assert sum(written[0][name] != written[1][name] for name in written[0]) == 1


# Decoding in processes that may die


def bomb(side: int = 14_000) -> bytes:
    """An RGBA PNG of a few hundred kB whose pixels take more than the memory limit on the way to RGB on white."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    packer = zlib.compressobj(9)
    row = bytes(1 + side * 4)
    body = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def numbered(pictures: list[bytes]) -> Iterable[tuple[str, Job]]:
    return ((str(k), Job(False, data)) for k, data in enumerate(pictures))


def test_decoding_keeps_the_order_and_the_facts():
    pictures = [encode_png(np.zeros((1 + k % 7, 3, 1 + 2 * (k % 2)), np.uint8)) for k in range(300)]
    verdicts = list(decode_all(numbered(pictures), children=2))
    assert [(k, v._replace(look=b"")) for k, v in verdicts] == [
        (str(k), Verdict(3, 1 + k % 7, k % 2 == 0)) for k in range(300)
    ]
    assert list(decode_all([])) == []


def with_child_limits(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Start children with other limits: the same module, after a line that changes it."""
    start = f"import pipeline.ingest.child as c\n{code}\nc.main()"
    real = subprocess.Popen

    def popen(command: list[str], **rest: Any) -> Any:
        return real([command[0], "-c", start], **rest)

    monkeypatch.setattr(decoding.subprocess, "Popen", popen)


def test_a_picture_beyond_the_memory_limit_is_rejected_and_the_rest_goes_on(monkeypatch: pytest.MonkeyPatch):
    with_child_limits(monkeypatch, "c.MEMORY_BYTES = 600 << 20")
    verdicts = [verdict for _, verdict in decode_all(numbered([picture(1), bomb(8000), picture(2)]), children=1)]
    assert [verdict.reason is None for verdict in verdicts] == [True, False, True]
    assert "emory" in str(verdicts[1].reason)


def test_a_picture_beyond_the_time_limit_is_rejected_and_the_rest_goes_on(monkeypatch: pytest.MonkeyPatch):
    with_child_limits(monkeypatch, "c.CPU_SECONDS = 0.3")
    slow = io.BytesIO()
    Image.new("RGB", (9000, 9000)).save(slow, "WEBP", method=0)
    verdicts = [verdict for _, verdict in decode_all(numbered([picture(1), slow.getvalue(), picture(2)]), children=1)]
    assert [verdict.reason for verdict in verdicts] == [None, "takes more than 30 s to decode", None]
    assert [verdict.lasting for verdict in verdicts] == [True, False, True]


def test_a_child_that_dies_takes_only_the_picture_it_was_at(monkeypatch: pytest.MonkeyPatch):
    code = (
        "import os\nold = c.examine\n"
        "c.examine = lambda data: os.kill(os.getpid(), 11) if data == b'deadly' else old(data)"
    )
    with_child_limits(monkeypatch, code)
    pictures = [b"deadly", picture(1), b"deadly", b"deadly", picture(2), b"", b"deadly"]
    verdicts = [verdict for _, verdict in decode_all(numbered(pictures), children=2)]
    deadly = "the decoder died of it: it was killed by SIGSEGV"
    assert [verdict.reason for verdict in verdicts] == [deadly, None, deadly, deadly, None, "the file is empty", deadly]


def test_a_child_that_cannot_start_is_not_the_fault_of_a_picture(monkeypatch: pytest.MonkeyPatch):
    with_child_limits(monkeypatch, "raise SystemExit(3)")
    with pytest.raises(RuntimeError, match="cannot start"):
        list(decode_all(numbered([picture(1)])))


def lives(group: int) -> bool:
    """Whether a process of that group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_ctrl_c_leaves_the_old_outputs_and_no_process_behind(project: Path):
    lay(pets())
    stage.run(params(), OUT)
    first = outputs()
    lay(pets(1500, start=100))
    Path("params.yaml").write_text(
        "data: {name: folder, path: source}\nannotations: {}\nsplit: {val: 0.2, test: 0.25}\n"
        "task: {name: classification}\n"
    )
    code = (
        "from pathlib import Path\nfrom pipeline import interrupts\nfrom pipeline.door import load\n"
        "from pipeline.ingest import stage\nfrom pipeline.params import IngestParams\n"
        "params = load(IngestParams)\ninterrupts.listen()\nprint('go', flush=True)\n"
        "try:\n    stage.run(params, Path('out/dataset'))\nexcept KeyboardInterrupt:\n    print('stopped')\n"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(stage.__file__).parents[2])}
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "go\n"
        time.sleep(0.4)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the children too
        assert "stopped" in process.communicate(timeout=240)[0]
    end = time.monotonic() + 60
    while lives(process.pid):
        assert time.monotonic() < end
        time.sleep(0.05)
    assert outputs() == first
    assert [path.name for path in OUT.parent.iterdir()] == ["dataset"]


@pytest.mark.parametrize("leftovers", [(".dataset.old", ".dataset.tmp"), (".dataset.tmp",)])
def test_a_kill_between_or_before_the_two_renames_loses_nothing(leftovers: tuple[str, ...]):
    lay(pets())
    stage.run(params(), OUT)
    first = outputs()
    for name in leftovers:  # as the kill would have left them
        OUT.rename(OUT.parent / name) if name.endswith("old") else (OUT.parent / name).mkdir()
    with pytest.raises(KeyboardInterrupt), replacing_folder(OUT):
        raise KeyboardInterrupt
    assert outputs() == first
    assert [path.name for path in OUT.parent.iterdir()] == ["dataset"]


# Progress


def test_progress_off_a_terminal_is_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    with track("ingest", 1000) as advance:
        advance(10)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("pipeline.progress.LINE_SECONDS", 0)
    with track("ingest", 1000) as advance:
        advance(250)
        advance(250)
    with track("ingest") as advance:
        advance(7)
    assert capsys.readouterr().err == "ingest: 250 of 1,000 (25%)\ningest: 500 of 1,000 (50%)\ningest: 7\n"


# Real data


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data are not here")
def test_hymenoptera_keeps_its_val_and_gets_a_test_split():
    result = stage.run(params(f"{{name: folder, path: {DATA}/hymenoptera/hymenoptera.tar.gz}}", "{}"), OUT)
    assert (result.images, result.classes, result.rejected, result.splits["val"]) == (398, 2, 0, 153)
    assert result.splits["train"] + result.splits["test"] == 245
    dataset = Dataset.open(OUT)
    assert all("/val/" in name for name in dataset.split("val").samples.column("source").to_pylist())


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data are not here")
def test_the_x_ray_archive_has_one_duplicate():
    path = f"{DATA}/covid19-xray/covid19-xray.tar.gz"
    result = stage.run(params(f"{{name: folder, path: {path}, inside: covid19-xray/small}}", "{}"), OUT)
    assert (result.images, result.rejected) == (1123, 13)
    folder = "covid19-xray/small/X-Ray Image DataSet/No_findings"
    assert rejected()[f"{folder}/00002658_002.jpg"] == f"the same bytes as {folder}/00002658_001.jpg"


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data are not here")
def test_broken_downloads_are_no_data():
    path = f"{DATA}/broken-downloads/broken-downloads.tar.gz"
    with pytest.raises(UserError, match="None of the 8 pictures of the source can be used"):
        stage.run(params(f"{{name: folder, path: {path}}}", "{}"), OUT)


def test_code_that_a_format_imports_makes_a_source_new():
    needed = {path.relative_to(HOME).as_posix() for path in imported({HOME / "formats" / "folder.py"})}
    assert {"formats/_metadata.py", "sources/folder.py", "archives.py"} <= needed
    assert {"contracts/__init__.py", "contracts/formats.py", "contracts/nouns.py"} <= needed, "packages too"


def test_a_mask_of_numbers_below_0_and_beyond_16_bits():
    out = io.BytesIO()
    Image.fromarray(np.array([[-1, 7, 70_000, 7]], np.int32)).save(out, "TIFF")
    layer = Layer("m.tif", out.getvalue(), {7: "road"}, frozenset({-1}))
    answer, mask = paint(packed(Painted((layer,))))
    assert answer == [4, 1, [2], {0: {"70000": 1}}]
    assert masks.decode(mask).tolist() == [[255, 0, 255, 0]]


def test_a_shard_that_is_missing_or_cut_is_no_other_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shards, "SHARD_BYTES", 1000)
    lay(pets())
    stage.run(params(), OUT)
    second = sorted((OUT / "shards").iterdir())[1]
    data = second.read_bytes()
    second.write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match="The dataset cannot be read: out/dataset/shards: "):
        Dataset.open(OUT).split("train").read(0)
    second.unlink()
    with pytest.raises(UserError, match=r"shards: \d+ of \d+ files are there\. Remove out/dataset"):
        Dataset.open(OUT).split("train").read(0)
