"""Sources elsewhere: S3 and web servers on loopback, for real, and data that DVC tracks; and what goes wrong there."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import ssl
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

from pipeline.contracts import LeftOut
from pipeline.errors import UserError
from pipeline.source import Entry, Limits, Source, open_source
from pipeline.sources import ahead, fetching, s3, web

pytestmark = pytest.mark.slow

FILES = {f"{kind}/{k}.jpg": f"{kind} {k} ".encode() * 50 for kind in ("ants", "bees") for k in range(9)}


def packed(files: dict[str, bytes], kind: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", kind) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return out.getvalue()


PACKED = packed(FILES)
SHA = hashlib.sha256(PACKED).hexdigest()


def contents(source: Source) -> dict[str, bytes]:
    names = {entry.name for entry in source.entries() if isinstance(entry, Entry)}
    return {item[0].name: item[1] for item in source.stream(names) if not isinstance(item, LeftOut)}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of its own, no account of this machine, and no patience."""
    for name in os.environ:
        if name.startswith("AWS_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    values = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_MAX_ATTEMPTS": "1", "HOME": str(tmp_path / "home")}
    values |= {"AWS_ACCESS_KEY_ID": "AKIA0", "AWS_SECRET_ACCESS_KEY": "secret", "DVC_NO_ANALYTICS": "1"}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(fetching, "PAUSES", (0.01, 0.01))
    project = tmp_path / "project"
    (project / ".convoy").mkdir(parents=True)
    monkeypatch.chdir(project)
    return project


def kept() -> list[str]:
    return sorted(path.name for path in fetching.home().glob("*"))


# S3


class Quiet(WSGIRequestHandler):
    def log(self, *_: Any) -> None:
        pass


class Moto:
    """moto's S3, with ways to go wrong."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.buckets: set[str] = set()
        self.pause = 0.0
        self._application = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self, threaded=True, request_handler=Quiet)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def __call__(self, environ: dict[str, Any], respond: Any) -> Iterable[bytes]:
        asked = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}?{environ['QUERY_STRING']}"
        self.asked.append(asked)
        if self.pause:
            time.sleep(self.pause)
        return self._application(environ, respond)  # type: ignore[no-any-return]

    def put(self, bucket: str, files: dict[str, bytes]) -> None:
        import boto3

        client = boto3.client("s3", endpoint_url=self.url, region_name="us-east-1")
        if bucket not in self.buckets:
            client.create_bucket(Bucket=bucket)
            self.buckets.add(bucket)
        for name, data in files.items():
            client.put_object(Bucket=bucket, Key=name, Body=data)

    def demand_credentials(self, demand: bool) -> None:
        after = "0" if demand else "inf"
        requests.post(f"{self.url}/moto-api/reset-auth", data=after, timeout=120).raise_for_status()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Moto]:
    server = Moto()
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    requests.post(f"{server.url}/moto-api/reset", timeout=120).raise_for_status()
    yield server
    server.close()


def test_a_folder_on_s3_reads_like_one_on_disk(store: Moto):
    store.put("pets", {f"sets/one/{name}": data for name, data in FILES.items()} | {"sets/one/": b"", "sets/two": b"2"})
    for path in ("s3://pets/sets/one", "s3://pets/sets/one/"):
        source = open_source(path)
        assert contents(source) == FILES
        assert [entry.name for entry in source.entries()] == sorted(FILES)
    some = {"bees/3.jpg", "ants/1.jpg"}
    assert [item[0].name for item in source.stream(some)] == sorted(some)
    assert dict(source.heads(some, 6)) == {"ants/1.jpg": b"ants 1", "bees/3.jpg": b"bees 3"}
    assert contents(open_source("s3://pets")) == {f"sets/one/{name}": data for name, data in FILES.items()} | {
        "sets/two": b"2"
    }
    assert "secret" not in "".join(store.asked)


def test_fingerprint_of_a_folder_on_s3_is_name_size_and_etag_and_reads_nothing(store: Moto):
    store.put("pets", {"set/1.jpg": b"one", "set/2.jpg": b""})
    store.asked.clear()
    lines = list(open_source("s3://pets/set").fingerprint())
    assert lines == [f"{k}.jpg\t{len(d)}\t{hashlib.md5(d).hexdigest()}" for k, d in ((1, b"one"), (2, b""))]
    assert not [asked for asked in store.asked if asked.startswith("GET") and ".jpg" in asked]
    store.put("pets", {"set/1.jpg": b"two"})
    assert list(open_source("s3://pets/set").fingerprint()) != lines


def test_hostile_keys_are_names_like_those_of_an_archive(store: Moto):
    store.put("pets", {"set/a//1.jpg": b"first", "set/a/1.jpg": b"second", "set/b\\2.jpg": b"2"})
    store.put("pets", {"set/" + "c" * 1001: b"3"})
    source = open_source("s3://pets/set")
    assert contents(source) == {"a/1.jpg": b"first", "b/2.jpg": b"2"}
    reasons = {entry.name: entry.reason for entry in source.entries() if isinstance(entry, LeftOut)}
    assert reasons == {
        "a/1.jpg": "the second file of that name in the source",
        "c" * 999 + "…": "its name is longer than 1000 characters",
    }


def test_many_files_come_in_order_and_a_bounded_number_ahead(store: Moto, monkeypatch: pytest.MonkeyPatch):
    files = {f"{k:03}.jpg": bytes([k]) * 10 for k in range(60)}
    store.put("pets", files)
    monkeypatch.setattr(ahead, "AHEAD", 5)
    source = open_source("s3://pets")
    store.asked.clear()
    stream = source.stream(set(files))
    first = next(stream)
    assert not isinstance(first, LeftOut) and first[0].name == "000.jpg"
    time.sleep(0.2)
    assert sum(".jpg" in asked for asked in store.asked) <= 6
    assert [item[0].name for item in stream if not isinstance(item, LeftOut)] == sorted(files)[1:]


def test_listings_of_several_pages(store: Moto, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(s3, "PAGE", 4)
    store.put("pets", FILES)
    store.asked.clear()
    assert [entry.name for entry in open_source("s3://pets").entries()] == sorted(FILES)
    assert sum("list-type" in asked for asked in store.asked) == 6  # one to see that there is something
    with pytest.raises(UserError, match="10 files; the limit is 9"):
        list(open_source("s3://pets", Limits(files=9)).entries())


def test_an_archive_on_s3_is_fetched_once_and_again_when_it_changes(store: Moto, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(s3, "PIECE", 1000)
    store.put("pets", {"set.zip": PACKED})
    source = open_source("s3://pets/set.zip")
    line = next(source.fingerprint())
    assert not kept()
    assert contents(source) == FILES
    store.asked.clear()
    assert contents(open_source("s3://pets/set.zip")) == FILES
    assert all(asked.startswith("HEAD") for asked in store.asked)
    store.put("pets", {"set.zip": packed({"new/1.jpg": b"1"})})
    assert contents(open_source("s3://pets/set.zip")) == {"new/1.jpg": b"1"}
    assert next(open_source("s3://pets/set.zip").fingerprint()) != line
    assert len(kept()) == 2
    old = min(fetching.home().glob("*"), key=lambda path: path.stat().st_mtime)
    os.utime(old, (0, 0))
    store.put("pets", {"set.zip": packed({"newer/1.jpg": b"1"})})
    assert contents(open_source("s3://pets/set.zip")) == {"newer/1.jpg": b"1"}
    assert old.name not in kept() and len(kept()) == 2


def test_an_archive_on_s3_may_have_a_checksum_and_keys_a_hash_sign(store: Moto):
    store.put("pets", {"a#1.zip": PACKED})
    assert (
        contents(open_source("s3://pets/a#1.zip")) == contents(open_source(f"s3://pets/a#1.zip#sha256={SHA}")) == FILES
    )
    with pytest.raises(UserError, match=f"its sha256 is\n  {SHA}, and data.path says\n  {'0' * 64}"):
        contents(open_source(f"s3://pets/a#1.zip#sha256={'0' * 64}"))
    with pytest.raises(UserError, match="followed by 'abc'; expected 64 hexadecimal digits"):
        open_source("s3://pets/a#1.zip#sha256=abc")


def test_what_s3_can_say_no_to(store: Moto, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    store.put("pets", {"set/1.jpg": b"1", "note.txt": b"no archive"})
    for path, words in {
        "s3://pets/sett": "s3://pets/sett: the bucket has no such object or folder",
        "s3://cats/set": "there is no bucket 'cats' there. Is the name right, and AWS_ENDPOINT_URL",
        "s3://pets/note.txt": "is no archive: it begins with b'no archi'",
        "s3:///set": "expected an address such as s3://bucket/folder",
        "S3://pets/set": "expected an address such as s3://bucket/folder",
        "s3://AKIA:hush@pets/set": r"found 's3://\.\.\.@pets/set'",
    }.items():
        with pytest.raises(UserError, match=words):
            contents(open_source(path))
    store.demand_credentials(True)
    with pytest.raises(UserError, match=r"S3 refuses \(.*403.*AWS_PROFILE, or AWS_ACCESS_KEY_ID"):
        open_source("s3://pets/set")
    store.demand_credentials(False)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    from s3fs import S3FileSystem

    S3FileSystem.clear_instance_cache()
    with pytest.raises(UserError, match=r"no credentials \(Unable to locate credentials\).*FSSPEC_S3_ANON=true"):
        open_source("s3://pets/set")
    S3FileSystem.clear_instance_cache()


@pytest.mark.slow
def test_s3_that_is_away_or_says_nothing(store: Moto, monkeypatch: pytest.MonkeyPatch):
    store.put("pets", {"set/1.jpg": b"1"})
    monkeypatch.setattr(s3, "TIMEOUTS", {"connect_timeout": 60, "read_timeout": 0.2})
    store.pause = 5
    with pytest.raises(UserError, match=r"s3://pets/set cannot be reached: Read timeout .*Is the server up"):
        open_source("s3://pets/set")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="cannot be reached: Could not connect to the endpoint URL"):
        open_source("s3://pets/set")


def test_an_object_that_goes_or_changes_while_it_is_read(store: Moto, monkeypatch: pytest.MonkeyPatch):
    store.put("pets", {"set/1.jpg": b"1", "set/2.jpg": b"22"})
    source = open_source("s3://pets/set")
    monkeypatch.setattr(s3.S3Folder, "find", lambda self, name: None)
    monkeypatch.setattr(s3.Client, "read", lambda self, key, start, end: b"other")
    with pytest.raises(UserError, match=r"1.jpg has 5 bytes, and was listed with 1: it was replaced meanwhile"):
        list(source.stream({"1.jpg"}))
    monkeypatch.undo()


# Ingest


@pytest.mark.slow
def test_the_same_data_set_from_anywhere(store: Moto, site: Web, place: Path):
    """The same digest from disk, S3 and the web; with nothing new, no picture is asked for."""
    from pipeline.door import parse
    from pipeline.ingest import stage
    from pipeline.params import IngestParams

    files = {f"{kind}/{k}.png": picture(k + 50 * n) for n, kind in enumerate(("ants", "bees")) for k in range(12)}
    for name, data in files.items():
        Path("pets", name).parent.mkdir(parents=True, exist_ok=True)
        Path("pets", name).write_bytes(data)
    site.body = packed(files)
    store.put("pets", {f"set/{name}": data for name, data in files.items()} | {"set.zip": site.body})
    sha = hashlib.sha256(site.body).hexdigest()
    digests = set()
    for path in ("pets", "s3://pets/set", "s3://pets/set.zip", f"{site.url}#sha256={sha}"):
        split = "split: {val: 0.2, test: 0.25}\ntask: {name: classification}\nannotations: {}\n"
        params = parse(IngestParams, f"data: {{name: auto, path: '{path}'}}\n{split}")
        digests.add(stage.run(params, Path("out")).digest)
        store.asked.clear()
        site.asked.clear()
        assert not stage.run(params, Path("out")).new
        assert not site.asked and not [asked for asked in store.asked if "GET" in asked and ".png" in asked]
    assert len(digests) == 1


def picture(seed: int) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.effect_noise((8, 8), 10 + seed).save(out, "PNG")
    return out.getvalue()


# The web


class Web(ThreadingHTTPServer):
    """A web server whose every page is what the test says."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Page)
        self.scheme = "http"
        self.body = PACKED
        self.status = 200
        self.headers: dict[str, str] = {}
        self.ranges = True
        self.promised: int | None = None
        """Content-Length, where it is a lie."""
        self.breaks: list[int] = []
        """After how many bytes each of the next answers breaks off."""
        self.pause = 0.0
        self.asked: list[str | None] = []
        """The Range of each request."""
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_address[1]}/set.zip"


class Page(BaseHTTPRequestHandler):
    server: Web

    def do_GET(self) -> None:
        web, asked = self.server, self.headers.get("Range")
        web.asked.append(asked)
        time.sleep(web.pause)
        start = int(asked[6:-1]) if asked and web.ranges else 0
        status, body = web.status, web.body[start:]
        headers = dict(web.headers)
        if start and start >= len(web.body):
            status, body, headers["Content-Range"] = 416, b"", f"bytes */{len(web.body)}"
        elif start:
            status, headers["Content-Range"] = 206, f"bytes {start}-{len(web.body) - 1}/{len(web.body)}"
        self.send_response(status)
        headers.setdefault("Content-Length", str(len(body) if web.promised is None else web.promised - start))
        for name, value in headers.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: web.breaks.pop(0)] if web.breaks else body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def site() -> Iterator[Web]:
    server = Web()
    yield server
    server.shutdown()
    server.server_close()


def test_an_archive_on_the_web_is_fetched_once_and_its_fingerprint_asks_nobody(site: Web):
    source = open_source(f"{site.url}#sha256={SHA.upper()}")
    assert list(source.fingerprint()) == [f"{site.url}\t{SHA}"]
    assert not site.asked
    assert contents(source) == contents(open_source(f"{site.url}#sha256={SHA}")) == FILES
    assert dict(source.heads({"ants/0.jpg"}, 4)) == {"ants/0.jpg": b"ants"}
    assert site.asked == [None]
    assert len(kept()) == 1


def test_https_and_a_certificate_that_nobody_trusts(site: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    certificate = _certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    site.socket = context.wrap_socket(site.socket, server_side=True)
    site.scheme = "https"
    with pytest.raises(UserError, match="the certificate of the server is not trusted.*SSL_CERT_FILE"):
        contents(open_source(f"{site.url}#sha256={SHA}"))
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert contents(open_source(f"{site.url}#sha256={SHA}")) == FILES
    shutil.rmtree(fetching.home())
    other = Web()
    site.status, site.headers = 302, {"Location": other.url}
    with pytest.raises(UserError, match="from https to http nobody is followed"):
        contents(open_source(f"{site.url}#sha256={SHA}"))
    assert not other.asked
    other.shutdown()
    other.server_close()


def _certificate(folder: Path) -> Path:
    """Of 127.0.0.1, made here, key and all."""
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "loopback")])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = folder / "certificate.pem"
    path.write_bytes(made.public_bytes(pem) + secret)
    return path


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("https://host/set.zip", r"https://host/set.zip says no checksum.*https://host/set.zip#sha256=<64 hexadecimal"),
        ("https://host/set.zip#md5=1", "ends in #md5=1. Expected the sha256"),
        ("https://host/set.zip?key=hush", r"data.path: https://host/set.zip says no checksum"),
        ("http://host/set.zip#sha256=" + SHA, "http is for this machine alone; from host files come by https"),
        ("http://127.0.0.1.evil.org/set.zip#sha256=" + SHA, "http is for this machine alone"),
        ("https://me:hush@host/set.zip#sha256=" + SHA, "holds a user or a password"),
        ("https://me:hush@@@ü/set.zip#sha256=" + SHA, "found 'https://...@ü/set.zip'"),
        ("https://me:hush?@ü/set.zip?key=hush", "found 'https://...@ü/set.zip'"),
        ("https:///set.zip#sha256=" + SHA, "expected an address such as"),
        ("https://[/set.zip#sha256=" + SHA, "expected an address such as"),
        ("https://host:99999/set.zip#sha256=" + SHA, "expected an address such as"),
        ("ftp://host/set.zip", r"ftp:// cannot be read. Expected a path on this machine, s3://bucket/folder"),
        ("file:///etc/passwd", r"file:// cannot be read"),
    ],
)
def test_addresses_that_nobody_asks(path: str, words: str):
    with pytest.raises(UserError, match=words) as error:
        open_source(path)
    assert "hush" not in str(error.value)
    assert not kept()


def test_another_file_than_expected_says_both_checksums_and_leaves_nothing(site: Web):
    expected = "0" * 64
    with pytest.raises(UserError) as error:
        contents(open_source(f"{site.url}#sha256={expected}"))
    assert SHA in str(error.value) and expected in str(error.value)
    assert [path.stat().st_size for path in fetching.home().glob("*")] == [0]


def test_a_download_that_breaks_goes_on_where_it_was(site: Web):
    site.breaks = [1000, 700, 0]
    assert contents(open_source(f"{site.url}#sha256={SHA}")) == FILES
    assert site.asked == [None, "bytes=1000-", "bytes=1700-", "bytes=1700-"]


def test_a_download_that_was_killed_goes_on_in_the_next_process(site: Web):
    path = f"{site.url}#sha256={SHA}"
    site.breaks = [1234, 0, 0]
    with pytest.raises(UserError, match="cannot be fetched: .*What has come is kept; run the same command again"):
        contents(open_source(path))
    assert [name.endswith(".part") for name in kept()] == [True]
    site.asked.clear()
    assert contents(open_source(path)) == FILES
    assert site.asked == ["bytes=1234-"]
    assert [name.endswith(".part") for name in kept()] == [False]


def test_ctrl_c_keeps_what_has_come(site: Web, monkeypatch: pytest.MonkeyPatch):
    site.body = packed({"a/1.jpg": os.urandom(1_000_000)})
    path = f"{site.url}#sha256={hashlib.sha256(site.body).hexdigest()}"
    given, calls = fetching._check_size, iter(range(100))

    def interrupted(*arguments: Any) -> None:
        if next(calls) == 4:
            raise KeyboardInterrupt
        given(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(fetching, "_check_size", interrupted)
        with pytest.raises(KeyboardInterrupt):
            contents(open_source(path))
    come = next(fetching.home().glob("*.part")).stat().st_size
    assert 0 < come < len(site.body)
    assert contents(open_source(path)).keys() == {"a/1.jpg"}
    assert site.asked == [None, f"bytes={come}-"]


def test_a_server_without_ranges_and_a_part_of_another_file_begin_anew(site: Web):
    site.ranges = False
    site.breaks = [1000]
    assert contents(open_source(f"{site.url}#sha256={SHA}")) == FILES
    part = next(fetching.home().glob("*"))
    part.rename(part.with_name(part.name + ".part"))
    site.ranges = True
    for wrong in (b"another file", PACKED + b"and more", b"x" * len(PACKED)):
        part.with_name(part.name + ".part").write_bytes(wrong)
        assert contents(open_source(f"{site.url}#sha256={SHA}")) == FILES
        part.unlink()


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (404, r"there is no such file on the server \(404 Not Found\)"),
        (403, r"the server refuses \(403 Forbidden\)"),
        (503, r"cannot be fetched: the server says 503 Service Unavailable\. What has come is kept"),
        (204, "the server says 204 No Content; expected the file"),
    ],
)
def test_what_a_web_server_can_say_no_to(site: Web, status: int, words: str):
    site.status = status
    with pytest.raises(UserError, match=words):
        contents(open_source(f"{site.url}#sha256={SHA}"))


def test_a_server_that_lies_about_the_size(site: Web):
    path = f"{site.url}#sha256={SHA}"
    site.promised, site.ranges = len(PACKED) + 500, False
    with pytest.raises(UserError, match="cannot be fetched"):
        contents(open_source(path))
    site.promised = 700  # what comes after the promised bytes is not read
    with pytest.raises(UserError, match="is not the file that you expect"):
        contents(open_source(path))
    site.promised, site.headers = None, {"Content-Length": ""}
    assert contents(open_source(path)) == FILES  # it says nothing: the checksum decides


def test_limits_of_a_download(site: Web, monkeypatch: pytest.MonkeyPatch):
    path = f"{site.url}#sha256={SHA}"
    with pytest.raises(UserError, match=rf"{len(PACKED):,} bytes; the limit is 1,000"):
        contents(open_source(path, Limits(total_bytes=1000)))
    site.headers = {"Content-Length": ""}
    with pytest.raises(UserError, match=r"bytes; the limit is 1,000"):
        contents(open_source(path, Limits(total_bytes=1000)))
    site.headers = {}
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 8, 1))  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="only 0 MB are free in .*Make room"):
        contents(open_source(path))


def test_a_server_that_says_nothing(site: Web, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(web, "READ_SECONDS", 0.2)
    site.pause = 5
    with pytest.raises(UserError, match=r"cannot be fetched: the server has said nothing for 0\.2 s"):
        contents(open_source(f"{site.url}#sha256={SHA}"))


def test_redirects_are_followed_a_few_times(site: Web):
    target = Web()
    site.status, site.headers = 302, {"Location": target.url}
    assert contents(open_source(f"{site.url}#sha256={SHA}")) == FILES
    shutil.rmtree(fetching.home())
    site.headers = {"Location": site.url}
    with pytest.raises(UserError, match="leads on and on"):
        contents(open_source(f"{site.url}#sha256={SHA}"))
    site.headers = {"Location": "http://example.org/set.zip"}
    with pytest.raises(UserError, match="leads on to http://example.org/set.zip: http is for this machine alone"):
        contents(open_source(f"{site.url}#sha256={SHA}"))
    target.shutdown()
    target.server_close()


def test_of_two_that_fetch_one_waits(site: Web, capsys: pytest.CaptureFixture[str]):
    site.pause = 1.5
    found: list[dict[str, bytes]] = []
    threads = [
        threading.Thread(target=lambda: found.append(contents(open_source(f"{site.url}#sha256={SHA}"))))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [FILES] * 3
    assert len(site.asked) == 1 and len(kept()) == 1
    assert "Another process is fetching" in capsys.readouterr().err


def test_outside_of_a_project_archives_lie_in_the_users_cache(site: Web, place: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(place.parent)
    assert contents(open_source(f"{site.url}#sha256={SHA}")) == FILES
    assert fetching.home() == place.parent / "home/.cache/convoy/sources"
    assert len(kept()) == 1


def test_a_hash_sign_in_a_local_name_is_no_checksum(place: Path):
    Path("a#sha256=1.zip").write_bytes(PACKED)
    Path("b#1").mkdir()
    Path("b#1/x#.jpg").write_bytes(b"x")
    assert contents(open_source("a#sha256=1.zip")) == FILES
    assert contents(open_source("b#1")) == {"x#.jpg": b"x"}


# DVC


def dvc(*arguments: str) -> None:
    from dvc.cli import main

    assert main(list(arguments)) == 0


@pytest.fixture
def tracked(place: Path, tmp_path: Path) -> Path:
    """A folder and an archive in DVC's cache, and no longer in the tree."""
    subprocess.run(["git", "init", "--quiet"], check=True)
    dvc("init", "--quiet")
    dvc("remote", "add", "--quiet", "-d", "store", str(tmp_path / "remote"))
    for name, data in FILES.items():
        path = Path("data/pets", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    Path("data/pets.zip").write_bytes(PACKED)
    dvc("add", "--quiet", "data/pets", "data/pets.zip")
    shutil.rmtree("data/pets")
    Path("data/pets.zip").unlink()
    return place


def test_what_dvc_tracks_is_read_from_its_cache(tracked: Path, monkeypatch: pytest.MonkeyPatch):
    for path in ("data/pets", "data/pets/", "./data/pets", str(tracked / "data/pets")):
        assert contents(open_source(path)) == FILES
    assert contents(open_source("data/pets/ants")) == {n[5:]: d for n, d in FILES.items() if n.startswith("ants")}
    lines = list(open_source("data/pets").fingerprint())
    assert lines[0] == f"ants/0.jpg\t350\t{hashlib.md5(FILES['ants/0.jpg']).hexdigest()}"
    assert contents(open_source("data/pets.zip")) == FILES
    assert dict(open_source("data/pets").heads({"bees/8.jpg"}, 4)) == {"bees/8.jpg": b"bees"}
    assert not kept(), "the cache holds it: nothing is copied"
    assert not Path("data/pets").exists()
    monkeypatch.chdir("data")
    assert contents(open_source("pets")) == FILES


def test_what_is_checked_out_is_read_as_it_lies_there(tracked: Path):
    Path("data/pets").mkdir()
    Path("data/pets/new.jpg").write_bytes(b"new")
    assert contents(open_source("data/pets")) == {"new.jpg": b"new"}


def test_what_dvc_has_in_its_remote_alone(tracked: Path):
    dvc("push", "--quiet")
    shutil.rmtree(".dvc/cache")
    assert contents(open_source("data/pets")) == FILES
    assert contents(open_source("data/pets.zip")) == FILES
    assert not [name for name in kept() if name.endswith(".part")]


def test_what_dvc_has_nowhere(tracked: Path):
    for md5 in (hashlib.md5(FILES["ants/0.jpg"]).hexdigest(), hashlib.md5(PACKED).hexdigest()):
        Path(".dvc/cache/files/md5", md5[:2], md5[2:]).unlink()
    with pytest.raises(UserError, match=r"'data/pets' cannot be read: it is neither there nor in DVC's cache.*"):
        contents(open_source("data/pets"))
    with pytest.raises(UserError, match=r"`dvc pull data/pets\.zip\.dvc` brings it"):
        contents(open_source("data/pets.zip"))
    shutil.rmtree(".dvc/cache")
    with pytest.raises(UserError, match=r"`dvc pull data/pets\.dvc` brings it"):
        contents(open_source("data/pets"))
    with pytest.raises(UserError, match="DVC's note on the data; write 'data/pets'"):
        open_source("data/pets.dvc")
    with pytest.raises(UserError, match="cannot be read"):
        open_source("data/pets/no/such")


def test_what_dvc_imports_from_another_repository(tracked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for command in (
        ["add", "."],
        ["-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "--quiet", "-m", "x"],
    ):
        subprocess.run(["git", *command], check=True)
    dvc("push", "--quiet")
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.chdir(other)
    dvc("init", "--quiet", "--no-scm")
    dvc("import", "--quiet", str(tracked), "data/pets", "-o", "cats")
    shutil.rmtree("cats")
    assert contents(open_source("cats")) == FILES


def test_data_of_dvc_outside_of_a_repository(place: Path):
    Path("data").mkdir()
    Path("data/pets.dvc").write_text("outs:\n- path: pets\n")
    with pytest.raises(UserError, match=r"data/pets.dvc lies in no repository of DVC"):
        open_source("data/pets")


@pytest.mark.slow
def test_dvc_reads_within_its_own_repro(tracked: Path):
    """A stage that reads tracked data while `dvc repro` holds the repository."""
    code = "from pipeline.source import open_source; print(sum(1 for _ in open_source('data/pets').entries()))"
    Path("dvc.yaml").write_text(f'stages:\n  ingest:\n    cmd: {sys.executable} -c "{code}" > out.txt\n')
    dvc("repro", "--quiet")
    assert Path("out.txt").read_text() == "18\n"
