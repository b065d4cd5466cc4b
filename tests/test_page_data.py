"""The pages about the data and the thumbnails on them: real datasets, in out/dataset and in DVC's cache, over HTTP."""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import data_project
import httpx
import numpy as np
import page_project
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_project import CLASSES, GONE, OUT, Made
from PIL import Image

from dashboard import datasets, pictures, versions
from dashboard.datasets import Away
from pipeline.dataset import Dataset
from pipeline.images import ImageError, decode, encode_png, thumbnail

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return data_project.make(tmp_path_factory.mktemp("data") / "project")


@pytest.fixture(scope="module")
def page(made: Made) -> Iterator[httpx.Client]:
    with page_project.serve(made.root) as url, httpx.Client(base_url=url, timeout=120) as client:
        yield client


@pytest.fixture
def project(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """A copy to spoil, as the current folder of this process."""
    shutil.copytree(made.root, tmp_path / "project", symlinks=True)
    monkeypatch.chdir(tmp_path / "project")
    for kept in (versions._records, datasets._opened, datasets._away, pictures._kept):
        kept.clear()
    monkeypatch.setattr(pictures, "_size", 0)
    return made


def rows(root: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(root / OUT / "samples.parquet").to_pylist()
    return found


def shown(text: str) -> list[str]:
    """The ids of the pictures on a page, in their order."""
    return re.findall(r'src="/pictures/[0-9a-f]{64}/([0-9a-f]{64})"', text)


def cells(text: str) -> str:
    """What a page says, without its tags."""
    return unescape(" ".join(re.sub(r"<[^>]*>", " ", text).split()))


# The versions


def test_versions_are_listed_newest_first_with_the_runs_that_learnt_from_them(page: httpx.Client, made: Made) -> None:
    text = page.get("/data").text
    found = re.findall(r'<a class="strong" href="/data/([0-9a-f]{64})">', text)
    assert found == [made.here, GONE, *made.cached[::-1]]
    lines = dict(zip(found, text.split('<th scope="row">')[1:], strict=True))
    assert ["in out/dataset" in lines[digest] for digest in found] == [True, False, False, False]
    assert "no run yet" in lines[made.here]
    for digest, runs in zip(made.cached, made.runs, strict=True):
        assert re.findall(r'href="/runs/([0-9a-f]{32})"', lines[digest]) == runs[::-1]
    assert "+60" in lines[made.cached[1]] and "120" in lines[made.cached[1]]


def test_no_data_yet(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    (tmp_path / "dvc.yaml").touch()
    with page_project.serve(tmp_path) as url:
        text = httpx.get(f"{url}/data", timeout=120).text
        assert "No data yet" in text
        assert httpx.get(f"{url}/data/{'a' * 64}", timeout=120).status_code == 404
        assert httpx.get(f"{url}/pictures/{'a' * 64}/{'b' * 64}", timeout=120).status_code == 404


def test_a_version_shows_its_counts_sizes_and_metadata(page: httpx.Client, made: Made) -> None:
    text = page.get(f"/data/{made.here}").text
    info = Dataset.open(made.root / OUT).info
    table = cells(text.split("<tbody>")[1])
    for name in info.classes:
        counts = [info.counts[split][name] for split in ("train", "val", "test")]
        assert f"{name} {' '.join(map(str, [*counts, sum(counts)]))}" in table
    said = cells(text)
    assert "12 pixels, all of them" in said
    assert "site text, 3 distinct" in said and "north 60" in said
    assert "angle numbers, 60 distinct" in said and "0 to 14.75" in said and "median 7.375" in said
    assert len(shown(text)) == 24


def test_a_version_in_the_cache_of_dvc_is_found_by_its_runs(page: httpx.Client, made: Made) -> None:
    for digest, images in zip(made.cached, (60, 120), strict=True):
        text = page.get(f"/data/{digest}?show=pictures").text
        assert f"{images} pictures" in text and len(shown(text)) == 60
        answer = page.get(f"/pictures/{digest}/{shown(text)[-1]}")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")


def test_a_version_whose_files_are_gone_says_so(page: httpx.Client, made: Made) -> None:
    answer = page.get(f"/data/{GONE}")
    assert answer.status_code == 200
    assert "are not in DVC&#39;s cache on this machine. <code>dvc fetch</code> with the dvc.lock" in answer.text
    assert made.gone[:8] in answer.text


@pytest.mark.parametrize("digest", ["a" * 64, "A" * 64, "abc", "..%2f..%2fetc%2fpasswd", "%00", "<script>"])
def test_a_version_that_nobody_knows(page: httpx.Client, digest: str) -> None:
    assert page.get(f"/data/{digest}").status_code == 404


# Its pictures, and what was left out


@pytest.mark.parametrize("split", ["", "train", "val", "test"])
@pytest.mark.parametrize("label", ["", "0", "2"])
def test_pictures_of_a_class_and_a_split_come_in_pages_of_sixty(
    page: httpx.Client, made: Made, split: str, label: str
) -> None:
    wanted = [row["id"] for row in rows(made.root) if split in ("", row["split"]) and label in ("", str(row["label"]))]
    found: list[str] = []
    for number in range(1, -(-len(wanted) // 60) + 1):
        asked = {"show": "pictures", "split": split, "label": label, "page": number}
        ids = shown(page.get(f"/data/{made.here}", params=asked).text)
        assert len(ids) <= 60
        found += ids
    assert found == wanted


def test_the_links_between_pages_keep_what_was_asked(page: httpx.Client, made: Made) -> None:
    text = page.get(f"/data/{made.here}?show=pictures&page=2").text
    assert re.findall(r'rel="(prev|next)" href="([^"]*)"', text) == [
        ("prev", f"/data/{made.here}?show=pictures&amp;page=1"),
        ("next", f"/data/{made.here}?show=pictures&amp;page=3"),
    ]
    asked = {"show": "pictures", "label": "1", "split": "train", "page": "99"}
    assert "any" in (last := page.get(f"/data/{made.here}", params=asked)).text
    assert len(shown(last.text)) == sum(row["label"] == 1 and row["split"] == "train" for row in rows(made.root))


@pytest.mark.parametrize("query", ["label=99", "label=-1", "label=x", "split=nowhere", "page=1000000", "show=other"])
def test_what_makes_no_sense_breaks_no_page(page: httpx.Client, made: Made, query: str) -> None:
    assert page.get(f"/data/{made.here}?show=pictures&{query}").status_code == 200


@pytest.mark.parametrize("query", ["page=0", "page=-3", "page=x"])
def test_no_page_of_that_number(page: httpx.Client, made: Made, query: str) -> None:
    assert 400 <= page.get(f"/data/{made.here}?{query}").status_code < 500


def test_what_was_left_out_has_its_reason(page: httpx.Client, made: Made) -> None:
    text = cells(page.get(f"/data/{made.here}?show=rejected").text)
    assert "amber/broken <b>.png not a picture (JPEG" in text
    assert "amber/copy.png the same bytes as amber/000.png" in text
    assert "the same bytes as another picture (1)" in text
    reason = "the same bytes as another picture"
    only = page.get(f"/data/{made.here}", params={"show": "rejected", "reason": reason}).text
    assert re.findall(r'<bdi class="mono">([^<]*)</bdi>', only) == ["amber/copy.png"]
    none = page.get(f"/data/{made.here}", params={"show": "rejected", "reason": "<script>"}).text
    assert "No file fits" in none


def test_names_stay_text(page: httpx.Client, made: Made) -> None:
    addresses = ["/data", *(f"/data/{made.here}?show={show}" for show in ("overview", "pictures", "rejected"))]
    for address in addresses:
        text = page.get(address).text
        assert "<script>document" not in text
        assert "b<i>ue" not in text
        assert "style=" not in text
        assert (CLASSES[2] in unescape(text)) == address.endswith(("overview", "pictures"))


# Thumbnails


def test_a_thumbnail_is_the_picture_enlarged_each_pixel_a_square(page: httpx.Client, made: Made) -> None:
    dataset = Dataset.open(made.root / OUT)
    for row in rows(made.root)[:20]:
        answer = page.get(f"/pictures/{made.here}/{row['id']}")
        assert answer.headers["content-type"] == "image/png"
        original = decode(dataset.read(row["shard"], row["row"]), 3)
        found = np.asarray(Image.open(io.BytesIO(answer.content)))
        np.testing.assert_array_equal(found, original.repeat(21, 0).repeat(21, 1))  # 12 pixels to 252


def test_a_browser_keeps_a_thumbnail_for_ever_and_to_itself(page: httpx.Client, made: Made) -> None:
    address = f"/pictures/{made.here}/{rows(made.root)[0]['id']}"
    answer = page.get(address)
    assert answer.headers["cache-control"] == "private, max-age=31536000, immutable"
    again = page.get(address, headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", answer.headers["etag"])


@pytest.mark.parametrize(
    ("dataset", "image", "words"),
    [
        ("here", "f" * 64, "no such picture"),
        ("here", "abc", "no such picture"),
        ("here", "..%5c..%5cparams.yaml", "no such picture"),
        ("b" * 64, "f" * 64, "not on this machine"),
        (GONE, "f" * 64, "not on this machine"),
    ],
)
def test_a_missing_picture_is_a_drawing_that_says_so(
    page: httpx.Client, made: Made, dataset: str, image: str, words: str
) -> None:
    answer = page.get(f"/pictures/{made.here if dataset == 'here' else dataset}/{image}")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "image/svg+xml")
    assert answer.headers["cache-control"] == "no-store"
    assert words in answer.text


def test_a_large_picture_is_shrunk_and_a_huge_one_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 600, 3), np.uint8)
    data, kind = thumbnail(encode_png(pixels), 3, 256)
    assert (kind, Image.open(io.BytesIO(data)).size) == ("image/jpeg", (256, 128))
    grey, kind = thumbnail(encode_png(pixels[:40, :20, :1]), 1, 256)
    assert (kind, Image.open(io.BytesIO(grey)).size, Image.open(io.BytesIO(grey)).mode) == (
        "image/png",
        (120, 240),
        "L",
    )
    assert Image.open(io.BytesIO(thumbnail(encode_png(pixels[:1]), 3, 256)[0])).size == (256, 1)
    monkeypatch.setattr("pipeline.images.MAX_SHOWN", 179_999)
    with pytest.raises(ImageError, match="600 x 300 pixels"):
        thumbnail(encode_png(pixels), 3, 256)


# Files that are there, and then are not


def test_bytes_that_are_not_those_of_their_id_are_not_shown(project: Made) -> None:
    shard = next((OUT / "shards").iterdir())
    image = rows(Path())[0]["id"]
    picture = datasets.opened(project.here).picture(image)
    assert picture and hashlib.sha256(picture).hexdigest() == image
    data = shard.read_bytes()
    shard.unlink()
    shard.write_bytes(data.replace(picture, bytes(len(picture))))
    datasets._opened.clear()
    with pytest.raises(Away, match="its bytes are not those of its id"):
        datasets.opened(project.here).picture(image)
    with pytest.raises(pictures.Missing, match="not on this machine"):
        pictures.thumbnail(project.here, image)


def test_a_version_that_leaves_the_tree_is_no_longer_shown_from_there(project: Made) -> None:
    image = rows(Path())[0]["id"]
    assert datasets.opened(project.here).picture(image)
    (OUT.parent / "next").mkdir()
    shutil.rmtree(OUT)
    data_project.lay(range(90, 93))
    shutil.rmtree("source/amber")
    new = data_project.ingest("{name: folder, path: source}")
    with pytest.raises(Away, match="No run that is recorded here has learnt from this version"):
        datasets.opened(project.here)
    assert datasets.opened(new).info.digest == new
    assert datasets.opened(project.cached[0]).info.images == 60  # from DVC's cache, as before


def test_shards_are_mapped_and_few_versions_open(project: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    dice = np.random.default_rng(0)
    for number in range(30):
        path = Path("large", "ab"[number % 2], f"{number}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_png(dice.integers(0, 256, (200, 200, 3), np.uint8)))
    digest = data_project.ingest("{name: folder, path: large}")
    before = pa.total_allocated_bytes()
    images = [row["id"] for row in rows(Path())]
    assert all(datasets.opened(digest).picture(image) for image in images)
    assert (OUT / "shards/00000.arrow").stat().st_size > 3_600_000
    assert pa.total_allocated_bytes() - before < 200_000
    monkeypatch.setattr(pictures, "KEPT_BYTES", 60_000)
    assert len({pictures.thumbnail(digest, image).data for image in images}) == 30
    kept = list(pictures._kept.values())
    assert 0 < sum(len(one.data) for one in kept) == pictures._size <= 60_000
    for other in project.cached:
        assert datasets.opened(other).info.digest == other
    assert list(datasets._opened) == project.cached


def test_many_shards(project: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.ingest.shards.SHARD_BYTES", 9000)
    digest = data_project.ingest("{name: folder, path: source}")
    assert len(list((OUT / "shards").iterdir())) == 8
    opened = datasets.opened(digest)
    for row in rows(Path()):
        assert opened.picture(row["id"]) == Path("source", row["source"]).read_bytes()
    assert opened.picture("0" * 64) is None


def test_records_that_cannot_be_read_are_passed_over(project: Made) -> None:
    assert len(versions.known()) == 4
    for number, text in enumerate(("", "[]", "{}", '{"data": 3, "id": 4}')):
        folder = Path(".convoy/runs", f"{number:032x}")
        folder.mkdir()
        (folder / "record.json").write_text(text)
    assert len(versions.known()) == 4
    shutil.rmtree(Path(".convoy/runs", project.gone))
    assert len(versions.known()) == 3
    (OUT / "dataset.json").write_text("[]")
    assert len(versions.known()) == 2


def test_these_pages_import_nothing_heavy() -> None:
    code = (
        "import sys; import dashboard.views.data, dashboard.views.pictures, dashboard.views.schedules\n"
        "print(sorted({'prefect', 'mlflow', 'torch', 'scipy', 'dvc', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
