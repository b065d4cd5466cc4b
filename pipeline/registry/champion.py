"""The champion: the version in use. The ledger says which; MLflow's alias `champion` follows it."""

from __future__ import annotations

import fcntl
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.bundle import digest_of
from pipeline.contracts import Options
from pipeline.errors import UserError
from pipeline.failpoints import Point, passing
from pipeline.files import opened_lock, project, replacing_folder, shared
from pipeline.registry import ledger
from pipeline.registry.ledger import Entry

if TYPE_CHECKING:
    from mlflow import MlflowClient

ALIAS = "champion"
WITHIN = "artifacts/model"
"""Where a registered model keeps its bundle."""


class Version(Options):
    """One registered model."""

    name: str
    version: str
    digest: str
    """Of the bundle's files."""
    dataset: str
    """Digest of the dataset that it learnt from."""
    location: str
    """Of the bundle's files: a path relative to the project's root, or an MLflow URI."""

    @property
    def named(self) -> str:
        """As commands take it: `digits/3`."""
        return f"{self.name}/{self.version}"


class Champion(Options):
    """The version in use."""

    version: Version
    since: str
    """UTC, ISO 8601."""
    epoch: int
    """Of the ledger: a promotion says which champion it was decided against."""
    why: str

    @classmethod
    def of(cls, entry: Entry) -> Champion:
        """The champion that a move has made."""
        version = Version(
            name=entry.model,
            version=entry.to_version,
            digest=entry.model_digest,
            dataset=entry.dataset_digest,
            location=entry.location,
        )
        return cls(version=version, since=entry.when, epoch=entry.epoch, why=entry.why)

    def bundle(self) -> Path:
        """The folder of its files, fetched if they lie elsewhere.

        Raises:
            UserError: they are gone, or are not those that were promoted.
        """
        return bundle_of(self.version)


def current(name: str) -> Champion | None:
    """The champion of `name`, from the ledger alone: fast, and MLflow may be away."""
    entry = ledger.champion(name)
    return Champion.of(entry) if entry else None


def at(name: str, moment: str) -> Champion | None:
    """Who was the champion of `name` at a moment, UTC in ISO 8601, as `2026-05-01T12:00:00Z`."""
    before = [entry for entry in ledger.history(name) if entry.when <= moment]
    return Champion.of(before[-1]) if before else None


def line(name: str) -> list[Champion]:
    """Every champion that `name` has had, oldest first; one that came back stands there again."""
    return [Champion.of(entry) for entry in ledger.history(name)]


def reconcile(client: MlflowClient, name: str) -> None:
    """Set MLflow's alias to what the ledger says: a kill between the two, or a hand in MLflow, is mended here."""
    from mlflow.exceptions import MlflowException

    reigning = current(name)
    try:
        aliased = client.get_model_version_by_alias(name, ALIAS).version
    except MlflowException:  # no such model, or no such alias
        aliased = None
    if reigning and str(aliased) != reigning.version.version:
        client.set_registered_model_alias(name, ALIAS, reigning.version.version)
    elif not reigning and aliased is not None:  # set by hand: nobody has decided so
        client.delete_registered_model_alias(name, ALIAS)
    passing(Point.ALIAS_SET)


def bundle_of(version: Version) -> Path:
    """The folder of a version's files, checked against its digest, fetched if they lie elsewhere.

    Raises:
        UserError: they are gone or changed.
    """
    folder = project() / version.location
    if version.location.startswith("models:/"):
        folder = fetched(version.digest)
        _fetch(version.location, folder)
    what = f"version {version.version} of {version.name!r}"
    try:
        found = digest_of(folder)
    except UserError as error:
        raise UserError(f"The files of {what} are gone: {error}") from error
    if found != version.digest:
        raise UserError(
            f"The files of {what} in {folder} were changed after it was registered: their digest is {found[:12]}, "
            f"the recorded one {version.digest[:12]}. Put the files back from a copy."
        )
    return folder


def fetched(digest: str) -> Path:
    """Where the files of a model that lives in a remote store are kept."""
    return shared() / "cache" / "champions" / digest


def _fetch(location: str, folder: Path) -> None:
    """Get the files into `folder`, unless they are there; of two processes the second waits for the first."""
    if folder.exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with opened_lock(folder.with_suffix(".lock")) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _download(location, folder)


def _download(location: str, folder: Path) -> None:
    from mlflow.artifacts import download_artifacts

    from pipeline.registry.tracking import connect, reaching

    client = connect()
    with reaching(location), replacing_folder(folder) as temporary:
        home = client.get_logged_model(location.removeprefix("models:/")).artifact_location
        downloaded = Path(download_artifacts(artifact_uri=f"{home}/{WITHIN}"))
        for file in downloaded.iterdir():
            shutil.copyfile(file, temporary / file.name)
