"""Folders and archives as sources: the same names and bytes, and what hostile ones come to."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from pipeline.contracts import LeftOut
from pipeline.errors import UserError
from pipeline.source import Entry, Limits, Source, member_name, open_source, printable

DATA = Path(__file__).parents[2] / "shared" / "data"
FILES = {"train/cats/1.jpg": b"one", "train/dogs/2.jpg": b"x" * 512, "README": b"", "a b/ü.png": b"z" * 70_000}


def pack_tar(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def pack_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def pack_folder(path: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def contents(source: Source) -> dict[str, bytes]:
    names = {entry.name for entry in source.entries() if isinstance(entry, Entry)}
    return {item[0].name: item[1] for item in source.stream(names) if not isinstance(item, LeftOut)}


def left_out(source: Source) -> dict[str, str]:
    return {entry.name: entry.reason for entry in source.entries() if isinstance(entry, LeftOut)}


@pytest.mark.parametrize("kind", ["folder", "zip", "tar", "gz", "bz2", "xz"])
def test_every_kind_gives_the_same_names_and_bytes(tmp_path: Path, kind: str):
    place = tmp_path / "pets.data"  # the suffix says nothing: the contents do
    if kind == "folder":
        pack_folder(place, FILES)
    elif kind == "zip":
        pack_zip(place, FILES)
    else:
        pack_tar(place, FILES, "w" if kind == "tar" else f"w:{kind}")
    source = open_source(str(place))
    assert contents(source) == FILES
    assert {entry.name: entry.size for entry in source.entries()} == {name: len(data) for name, data in FILES.items()}
    assert [item[0].name for item in source.stream({"train/dogs/2.jpg"})] == ["train/dogs/2.jpg"]


def test_fingerprint_of_a_folder_has_a_line_per_file_and_of_an_archive_one(tmp_path: Path):
    folder = pack_folder(tmp_path / "pets", {"b/2": b"22", "a/1": b"1"})
    for name in ("a/1", "b/2"):
        os.utime(folder / name, ns=(0, 7))
    assert list(open_source(str(folder)).fingerprint()) == ["a/1\t1\t7", "b/2\t2\t7"]
    archive = pack_tar(tmp_path / "pets.tar", FILES)
    os.utime(archive, ns=(0, 9))
    assert list(open_source(str(archive)).fingerprint()) == [f"pets.tar\t{archive.stat().st_size}\t9"]


def test_home_and_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pack_folder(tmp_path / "pets", FILES)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert contents(open_source("~/pets")) == contents(open_source("pets")) == FILES


@pytest.mark.parametrize(
    ("raw", "name", "reason"),
    [
        ("./train//cats/1.jpg", "train/cats/1.jpg", None),
        ("train\\cats\\1.jpg", "train/cats/1.jpg", None),
        ("../../etc/passwd", None, "climbs out"),
        ("a/..", None, "climbs out"),
        ("..\\up", None, "climbs out"),
        ("/etc/passwd", None, "absolute"),
        ("\\\\server\\share", None, "absolute"),
        ("C:\\boot.ini", None, "drive letter"),
        ("a\nb/1.jpg", None, "control characters"),
        ("a\x00b", None, "control characters"),
        ("caf\udce9/1.jpg", None, "not UTF-8"),
        ("a" * 1001, None, "longer than 1000"),
        ("./", None, "no name"),
        ("a..b/...c", "a..b/...c", None),
    ],
)
def test_names_of_members_are_not_trusted(raw: str, name: str | None, reason: str | None):
    found, why = member_name(raw)
    assert (why is None) == (reason is None)
    assert reason is None or reason in str(why)
    assert name is None or found == name


def test_printable_names_can_be_stored():
    assert printable("a\nb\udce9") == "a\\u000ab\\udce9"
    assert len(printable("x" * 5000).encode()) < 1100


def test_hostile_members_are_left_out_and_nothing_is_written(tmp_path: Path):
    with tarfile.open(tmp_path / "evil.tar", "w") as archive:
        for name in ("../out.jpg", "/abs.jpg", "ok/1.jpg", "ok/1.jpg", "new\nline.jpg"):
            info = tarfile.TarInfo(name)
            info.size = 3
            archive.addfile(info, io.BytesIO(b"jpg"))
        for name, kind in (("ok/link", tarfile.SYMTYPE), ("ok/hard", tarfile.LNKTYPE), ("ok/fifo", tarfile.FIFOTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    before = sorted(tmp_path.rglob("*"))
    source = open_source(str(tmp_path / "evil.tar"))
    assert contents(source) == {"ok/1.jpg": b"jpg"}
    assert left_out(source) == {
        "../out.jpg": "its name climbs out of the archive (..)",
        "/abs.jpg": "its name is an absolute path",
        "ok/1.jpg": "the second file of that name in the archive",
        "new\\u000aline.jpg": "its name holds control characters or is not UTF-8",
        "ok/link": "a link or a device",
        "ok/hard": "a link or a device",
        "ok/fifo": "a link or a device",
    }
    assert sorted(tmp_path.rglob("*")) == before


def test_links_and_encrypted_files_in_a_zip_are_left_out(tmp_path: Path):
    path = tmp_path / "evil.zip"
    with zipfile.ZipFile(path, "w") as archive:
        link = zipfile.ZipInfo("link.jpg")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("../up.jpg", b"1")
        archive.writestr("cats/1.jpg", b"1")
        archive.writestr("secret.jpg", b"1")
        archive.infolist()[-1].flag_bits |= 1  # as the central directory then says
    source = open_source(str(path))
    assert left_out(source) == {
        "link.jpg": "a link or a device",
        "../up.jpg": "its name climbs out of the archive (..)",
        "secret.jpg": "encrypted",
    }
    assert contents(source) == {"cats/1.jpg": b"1"}


def test_links_in_a_folder_are_followed_to_files_within_it_only(tmp_path: Path):
    folder = pack_folder(tmp_path / "pets", {"cats/1.jpg": b"1"})
    pack_folder(tmp_path / "elsewhere", {"2.jpg": b"2"})
    (folder / "cats/in.jpg").symlink_to("1.jpg")
    (folder / "cats/out.jpg").symlink_to(tmp_path / "elsewhere/2.jpg")
    (folder / "cats/nowhere.jpg").symlink_to("gone")
    (folder / "cats/loop").symlink_to(folder)
    os.mkfifo(folder / "cats/pipe.jpg")
    source = open_source(str(folder))
    assert contents(source) == {"cats/1.jpg": b"1", "cats/in.jpg": b"1"}
    assert left_out(source) == {
        "cats/out.jpg": "a link that leads out of the source; put the file itself there",
        "cats/nowhere.jpg": "cannot be read: No such file or directory",
        "cats/loop": "a link to a folder; these are not followed",
        "cats/pipe.jpg": "a device or a pipe",
    }


def test_names_that_are_no_utf8_are_left_out_of_a_folder(tmp_path: Path):
    os.makedirs(os.fsencode(tmp_path) + b"/cats")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/cats/caf\xe9.jpg")).write_bytes(b"1")
    assert left_out(open_source(str(tmp_path))) == {
        "cats/caf\\udce9.jpg": "its name holds control characters or is not UTF-8"
    }


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Limits(files=3), "4 files; the limit is 3"),
        (Limits(file_bytes=60_000), "70,000 bytes in a b/ü.png; the limit is 60,000"),
        (Limits(total_bytes=1000), "the limit is 1,000"),
        (Limits(ratio=2, free_bytes=10), "times its own size when unpacked; the limit is 2"),
    ],
)
@pytest.mark.parametrize("kind", ["zip", "tar.gz", "folder"])
def test_limits_say_what_was_found_and_what_is_allowed(tmp_path: Path, limits: Limits, words: str, kind: str):
    place = tmp_path / f"pets.{kind}"
    if kind == "folder":
        pack_folder(place, FILES)
        if limits.ratio == 2:
            return  # a folder is not packed
    else:
        pack_zip(place, FILES) if kind == "zip" else pack_tar(place, FILES, "w:gz")
    with pytest.raises(UserError, match=words) as error:
        contents(open_source(str(place), limits))
    assert str(place) in str(error.value)


def test_a_bomb_in_a_tar_header_is_not_read_into_memory(tmp_path: Path):
    path = pack_tar(tmp_path / "bomb.tar.gz", {"a": b""}, "w:gz")
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 1 << 33
    path.write_bytes(gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + bytes(10_000)))
    with pytest.raises(UserError, match=r"a header of 8,589,934,592 bytes"):
        list(open_source(str(path)).entries())


@pytest.mark.parametrize("kind", ["", "gz"])
def test_a_size_below_zero_does_not_go_in_circles(tmp_path: Path, kind: str):
    path = tmp_path / "circle.tar"
    with tarfile.open(path, f"w:{kind}", format=tarfile.PAX_FORMAT) as archive:
        for name, size in (("a.jpg", "0"), ("b.jpg", "-3584")):  # the second leads back to the first
            info = tarfile.TarInfo(name)
            info.pax_headers = {"size": size}
            archive.addfile(info)
    with pytest.raises(UserError, match="points backwards"):
        list(open_source(str(path)).entries())


@pytest.mark.parametrize("kind", ["", "gz", "bz2", "xz", "zip"])
def test_an_archive_cut_anywhere_is_one_clear_error(tmp_path: Path, kind: str):
    files = {f"cats/{k}.jpg": os.urandom(700) for k in range(8)}
    whole = tmp_path / "whole"
    data = (pack_zip(whole, files) if kind == "zip" else pack_tar(whole, files, f"w:{kind}")).read_bytes()
    # of a plain tar the end is 1024 zeros and padding, which may be cut away without loss
    end = len(files) * 1536 if kind == "" else len(data)
    for length in {600, end // 3, end // 2 // 512 * 512, end - 1}:
        place = tmp_path / "cut"
        place.write_bytes(data[:length])
        with pytest.raises(UserError, match=r"cut: the archive is damaged or cut short \(.+\)\. Fetch it again"):
            contents(open_source(str(place)))


@pytest.mark.parametrize("kind", ["gz", "zip"])
def test_a_flipped_bit_is_found(tmp_path: Path, kind: str):
    files = {f"cats/{k}.jpg": os.urandom(5000) for k in range(4)}
    path = tmp_path / "whole"
    data = bytearray((pack_zip(path, files) if kind == "zip" else pack_tar(path, files, "w:gz")).read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    with pytest.raises(UserError, match="damaged or cut short"):
        contents(open_source(str(path)))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "it is empty, so its download may have failed"),
        (b"\n<!DOCTYPE html><title>Sign in</title>", "it holds a web page, so its download went wrong"),
        (b"\xff\xd8\xff\xe0 a jpeg", "it begins with"),
    ],
)
def test_a_file_that_is_no_archive(tmp_path: Path, data: bytes, words: str):
    (tmp_path / "pets.zip").write_bytes(data)
    with pytest.raises(UserError, match=rf"pets.zip' is no archive: {words}.*Expected a folder, .zip"):
        open_source(str(tmp_path / "pets.zip"))


def test_what_is_not_there(tmp_path: Path):
    with pytest.raises(UserError, match=r"data.path: '.*/pets' cannot be read: it does not exist\. Expected a folder"):
        open_source(str(tmp_path / "pets"))
    with pytest.raises(UserError, match="cannot be read"):
        open_source("~nobody-by-that-name/pets")
    with pytest.raises(UserError, match="cannot be read"):
        open_source("pets\x00")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read(tmp_path: Path):
    folder = pack_folder(tmp_path / "pets", {"cats/1.jpg": b"1"})
    (folder / "cats").chmod(0)
    with pytest.raises(UserError, match="cannot be read: Permission denied. Grant access"):
        contents(open_source(str(folder)))


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data are not here")
def test_downloads_that_went_wrong(tmp_path: Path):
    broken = contents(open_source(str(DATA / "broken-downloads/broken-downloads.tar.gz")))
    html = [data for name, data in broken.items() if "html-instead" in name]
    cut = [data for name, data in broken.items() if "truncated" in name]
    assert len(html) == len(cut) == 4
    for data in html + cut:
        (tmp_path / "download.tar.gz").write_bytes(data)
        with pytest.raises(UserError, match="web page|is empty|damaged or cut short"):
            contents(open_source(str(tmp_path / "download.tar.gz")))


def test_names_of_a_zip_from_macos_are_utf8_though_it_does_not_say_so(tmp_path: Path):
    path = pack_zip(tmp_path / "pets.zip", {"caf__/1.jpg": b"1", "old_/1.jpg": b"2"})
    data = path.read_bytes().replace(b"caf__", "café".encode()).replace(b"old_", b"old\x81")
    path.write_bytes(data)
    assert contents(open_source(str(path))) == {"café/1.jpg": b"1", "oldü/1.jpg": b"2"}, "the second one is CP437"


def test_folders_may_lie_deep_within_each_other(tmp_path: Path):
    place = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1100):
        os.mkdir("a", dir_fd=place)
        deeper = os.open("a", os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = deeper
    os.close(os.open("1.jpg", os.O_WRONLY | os.O_CREAT, dir_fd=place))
    os.close(place)
    try:
        assert list(left_out(open_source(str(tmp_path))).values()) == ["its name is longer than 1000 characters"]
    finally:
        subprocess.run(["rm", "-r", tmp_path / "a"], check=True)  # Python's own cannot


def test_a_tar_header_of_digits_ends(tmp_path: Path):
    path = tmp_path / "digits.tar"
    with path.open("wb") as file:
        header = tarfile.TarInfo("pax")
        header.type, header.size = tarfile.XHDTYPE, 900_000
        file.write(header.tobuf(tarfile.USTAR_FORMAT) + b"0" * 900_096 + bytes(1024))
    with pytest.raises(UserError, match="the archive is damaged or cut short"):
        list(open_source(str(path)).entries())


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_a_file_that_goes_once_it_was_listed_is_left_out(tmp_path: Path, kind: str):
    place = tmp_path / "pets"
    pack = {"folder": pack_folder, "zip": pack_zip, "tar": pack_tar}[kind]
    pack(place, {"1.jpg": b"1", "2.jpg": b"2"})
    source = open_source(str(place))
    names = [entry.name for entry in source.entries()]
    (place / "2.jpg").unlink() if kind == "folder" else pack(place, {"1.jpg": b"1"})
    first, gone = source.stream(names)
    assert isinstance(first, tuple) and first[1] == b"1"
    assert gone == LeftOut("2.jpg", "it has just gone")
