"""The run that a name means: of those recorded here, in MLflow (a team's server), or in the DVC remote."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from pipeline.door import load
from pipeline.errors import UserError
from pipeline.files import shared
from pipeline.params import Named
from pipeline.registry import champion, glances
from pipeline.registry.glances import SHORTEST, SHOWN, Glance

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from pipeline.registry.runs import RunRecord

PLAIN = re.compile(r"[A-Za-z0-9_.-]{1,100}(/[0-9]{1,9})?")
"""Nothing else is asked for elsewhere: neither a filter of MLflow nor a path can be written with it."""
CHAMPION = "champion"


def find(name: str) -> RunRecord:
    """The finished run that `name` means.

    Args:
        name: `latest`, `champion` or `champion:MODEL`; an id, or its first characters, of the run, its MLflow run or
            its Prefect flow run; its DVC experiment; a model version as `digits/3`, or `3` of the project's own model.

    Raises:
        UserError: there is none, it fits several, or the run has not finished.
    """
    found = look_up(name)
    if not isinstance(found, Glance):
        return found
    why = f" ({found.reason.strip().splitlines()[0]!r})" if found.reason.strip() else ""
    state = "is at work" if found.state == "working" else f"stopped short{why}"
    raise UserError(
        f"Run {found.id[:SHOWN]} has no record yet: it {state}. `convoy show {found.id[:SHOWN]}` tells how far it came."
    )


def look_up(name: str) -> RunRecord | Glance:
    """As `find`; a run that has not finished is given as its glance."""
    known = glances.read_all()
    found = _champion(name, known) if _is_champion(name) else glances.resolve(name, known, _model)
    if found and found.state != "finished":
        return found
    if found and (record := _read(found.id)):
        return record
    asked = []
    for place in (_in_mlflow, _in_remote):
        try:
            if record := place(name):
                return record
        except UserError as problem:
            asked.append(str(problem).splitlines()[0])  # what to do next is said for a run that stopped
    raise UserError(" ".join([_unknown(name, known), *asked]))


def _read(run: str) -> RunRecord | None:
    from pipeline.registry import runs  # and with it scipy, which takes a second

    return runs.read(run)


def _is_champion(name: str) -> bool:
    return name == CHAMPION or name.startswith(f"{CHAMPION}:")


def _model_of(name: str) -> str:
    """The model that `champion` or `champion:MODEL` is about."""
    return name.partition(":")[2] or _model()


def _model() -> str:
    return load(Named).name


def _champion(name: str, known: list[Glance]) -> Glance | None:
    """The run that made the champion: the first with its digest, for a later one found it again."""
    model = _model_of(name)
    if (reigning := champion.current(model)) is None:
        return None
    return next((run for run in known if run.model == model and run.digest == reigning.version.digest), None)


def _in_mlflow(name: str) -> RunRecord | None:
    """From the artifact of the MLflow run that one of its tags or its id names."""
    from pipeline.registry import tracking

    if _is_champion(name) or name == "latest" or not PLAIN.fullmatch(name):
        return None
    server = os.environ.get("MLFLOW_TRACKING_URI", "").startswith(("http:", "https:"))
    if not server and not (shared() / tracking.DATABASE).exists():
        return None
    client = tracking.connect()
    from mlflow.exceptions import MlflowException

    with suppress(MlflowException):  # no such run, version, or artifact
        if run := _run_of(client, name):
            return _downloaded(client, run)
    return None


def _run_of(client: MlflowClient, name: str) -> str | None:
    from mlflow.exceptions import MlflowException

    from pipeline.registry.record import ATTEMPT

    if "/" in name or name.isdecimal():
        model, _, version = name.rpartition("/")
        with suppress(MlflowException):
            return str(client.get_model_version(model or _model(), version).run_id)
    with suppress(MlflowException):
        return str(client.get_run(name).info.run_id)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    filters = [f"tags.`prefect.flow_run` = '{name}'", f"tags.`dvc.experiment` = '{name}'"]
    if len(name) >= SHORTEST and name.isalnum():
        filters.append(f"tags.`{ATTEMPT}` LIKE '{name.lower()}%'")
    for wanted in filters:
        found = client.search_runs(experiments, wanted, max_results=2)
        if len(found) > 1:
            raise UserError(f"{name!r} fits several runs in MLflow. Give more characters.")
        if found:
            return str(found[0].info.run_id)
    return None


def _downloaded(client: MlflowClient, run: str) -> RunRecord | None:
    import tempfile

    from pipeline.registry.runs import ARTIFACT

    with tempfile.TemporaryDirectory() as folder:
        return _parsed(Path(client.download_artifacts(run, ARTIFACT, folder)).read_bytes(), f"MLflow run {run}")


def _in_remote(name: str) -> RunRecord | None:
    """From the DVC remote, where a run that was pushed leaves its record."""
    from dvc.config import Config

    if not Config(".dvc", validate=False).get("core", {}).get("remote") or not (wanted := _published_as(name)):
        return None
    from flows.remote import moving as remote

    pattern, root = wanted, Path.cwd()
    names = [pattern] if pattern.endswith(".json") else remote.list_published(root, pattern)
    if len(names) > 1:
        raise UserError(f"{name!r} fits {len(names)} runs in the DVC remote. Give more characters.")
    data = remote.published(root, names[0]) if names else None
    return _parsed(data, f"{names[0]} in the DVC remote") if data else None


def _published_as(name: str) -> str:
    """What the name of the record in the remote begins with; empty if it cannot be told."""
    if _is_champion(name):
        return f"champions/{_model_of(name)}.json"
    run = name.rpartition("-")[2]  # an experiment's name ends with the first characters of its run
    return f"records/{run}" if re.fullmatch(rf"[0-9a-f]{{{SHORTEST},32}}", run) else ""


def _parsed(data: bytes, where: str) -> RunRecord:
    from pipeline.registry.runs import RunRecord

    try:
        return RunRecord.model_validate_json(data)
    except ValidationError as error:
        raise UserError(
            f"The record of {where} cannot be read: {error.error_count()} problems; "
            f"another version of Convoy may have written it."
        ) from error


def _unknown(name: str, known: list[Glance]) -> str:
    if _is_champion(name):
        reigning = champion.current(model := _model_of(name))
        if reigning is None:
            return f"{model!r} has no champion here: `convoy run` trains a model, and the gate decides."
        return f"The champion of {model!r} is version {reigning.version.version}, and no run recorded here made it."
    if not known:
        return f"No run {name!r}: none is recorded here. `convoy run` makes one."
    if name == "latest":
        return f"No run has finished here yet; {len(known):,} stopped short or are at work: `convoy runs` lists them."
    called = {shown.lower(): shown for glance in known for shown in glances.names(glance)}
    near = [called[found] for found in get_close_matches(name.lower(), called, n=3, cutoff=0.5)]
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    count = f"{len(known):,} run{'' if len(known) == 1 else 's'}"
    return f"No run {name!r} among the {count} recorded here.{hint} `convoy runs` lists them."
