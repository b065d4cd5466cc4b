"""A bundle -> a model version in MLflow, once per digest."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlparse

from pipeline.bundle import Bundle
from pipeline.dataset import Dataset
from pipeline.errors import UserError
from pipeline.failpoints import Point, passing
from pipeline.files import STATE, project
from pipeline.plugin import imported
from pipeline.registry.champion import WITHIN, Version, bundle_of
from pipeline.registry.record import Run, scores
from pipeline.registry.tracking import address, reaching

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

SERVED = Path(__file__).with_name("served.py")
HOME = Path(__file__).parents[1]
REQUIREMENTS = ("mlflow", "numpy", "pandas", "pillow", "pyarrow", "pydantic", "torch")
ANSWER = Path("out/evaluation/answer.json")
"""What an answer holds."""
DIGEST = "model.digest"
"""The tag that says which model a version is."""


def register(run: Run, tags: dict[str, str], description: str) -> Version:
    """The version of `out/model`: a new one, or the one that has its digest already and whose files are whole.

    Args:
        run: that made it; its name is the registered model's.
        tags: of a new version.
        description: of a new version, in Markdown.

    Raises:
        UserError: the bundle is missing, or MLflow does not answer.
    """
    from mlflow.entities import LoggedModelOutput

    bundle = Bundle.open()
    digest = bundle.digest()
    with reaching(address()):
        found = _registered(run, digest)
        if found is None:
            model_id = _logged(run, digest) or _log(run, bundle, digest)
            _make_room_for(run)
            passing(Point.REGISTERED_MODEL_MADE)
            found = run.client.create_model_version(
                run.name,
                source=f"models:/{model_id}",
                run_id=run.id,
                tags={DIGEST: digest, "dataset.digest": bundle.info.dataset, **tags},
                description=description,
                model_id=model_id,
            )
            passing(Point.VERSION_MADE)
            shown = json.dumps([{"name": run.name, "version": str(found.version)}])
            run.client.set_logged_model_tags(model_id, {"mlflow.modelVersions": shown})  # for its page
            passing(Point.VERSION_SHOWN)
        model_id = _model_id(found)
        outputs = run.client.get_run(run.id).outputs
        if outputs is None or model_id not in {output.model_id for output in outputs.model_outputs}:
            run.client.log_outputs(run.id, [LoggedModelOutput(model_id, step=0)])
        return Version(
            name=run.name,
            version=str(found.version),
            digest=digest,
            dataset=bundle.info.dataset,
            location=_location(run.client, model_id),
        )


def save(bundle: Bundle, path: Path, model_id: str, run_id: str) -> None:
    """Write the bundle as an MLflow model into the new folder `path`; nothing in it is pickled.

    The model is not asked anything: what its answers hold, the stage `evaluate` has written down.
    """
    import mlflow.pyfunc
    import pandas as pd
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    signature = ModelSignature(
        inputs=Schema([ColSpec(DataType.binary, "image")]), outputs=Schema.from_json(ANSWER.read_text())
    )
    first = Dataset.open().split("test").read(0)
    with tempfile.TemporaryDirectory() as folder:
        code = _code(bundle, Path(folder) / "pipeline")
        mlflow.pyfunc.save_model(
            path,
            python_model=str(SERVED),
            artifacts={"model": str(bundle.root.absolute())},
            code_paths=[str(code)],
            signature=signature,
            input_example=pd.DataFrame({"image": [first]}),
            pip_requirements=[f"{name}=={installed(name).partition('+')[0]}" for name in REQUIREMENTS],
            mlflow_model=Model(model_uuid=model_id, run_id=run_id, model_id=model_id),
        )


def _code(bundle: Bundle, folder: Path) -> Path:
    """A copy of the modules that answering needs: what `served.py` imports, and the task that the bundle names."""
    needed = imported({SERVED, HOME / "tasks" / f"{bundle.info.task['name']}.py"})
    for module in needed - {SERVED}:
        target = folder / module.relative_to(HOME)
        for package in (folder, target.parent):
            package.mkdir(parents=True, exist_ok=True)
            (package / "__init__.py").touch()
        shutil.copyfile(module, target)
    return folder


def _registered(run: Run, digest: str) -> ModelVersion | None:
    """The version with this digest whose files are whole, if there is one."""
    for found in run.client.search_model_versions(f"name = '{run.name}' and tags.`{DIGEST}` = '{digest}'"):
        if found.status == "READY" and _whole(run.client, _model_id(found), digest):
            return found
    return None


def _logged(run: Run, digest: str) -> str | None:
    """The logged model with this digest: a kill may have left it without a version."""
    for model in run.client.search_logged_models([run.experiment], f"tags.`{DIGEST}` = '{digest}'"):
        if str(model.status) == "READY" and _whole(run.client, model.model_id, digest):
            return str(model.model_id)
    return None


def _log(run: Run, bundle: Bundle, digest: str) -> str:
    """A new logged model, whose page shows the params and the test scores of its run."""
    from mlflow.entities import Metric

    client = run.client
    params = client.get_run(run.id).data.params
    kind = bundle.info.task["name"]
    made = client.create_logged_model(run.experiment, run.name, run.id, {DIGEST: digest}, params, kind)
    passing(Point.LOGGED_MODEL_MADE)
    measured = [Metric(key, value, run.started, 0, made.model_id) for key, value in scores().items()]
    client.log_batch(run.id, metrics=measured)
    STATE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=STATE) as folder:
        save(bundle, Path(folder) / "model", made.model_id, run.id)
        client.log_model_artifacts(made.model_id, str(Path(folder) / "model"))
    passing(Point.MODEL_FILES_WRITTEN)
    client.finalize_logged_model(made.model_id, "READY")
    passing(Point.MODEL_FINALIZED)
    return str(made.model_id)


def _make_room_for(run: Run) -> None:
    """See that the registered model exists."""
    from mlflow.exceptions import MlflowException

    with contextlib.suppress(MlflowException):  # it exists
        run.client.create_registered_model(run.name)


def _model_id(found: ModelVersion) -> str:
    """Of the logged model behind a version; the registry keeps it in the source alone."""
    return str(found.source).removeprefix("models:/")


def _location(client: MlflowClient, model_id: str) -> str:
    """Where the files of a logged model's bundle lie: relative to the project's root, absolute, or an MLflow URI."""
    where = urlparse(client.get_logged_model(model_id).artifact_location)
    if where.scheme not in ("", "file"):
        return f"models:/{model_id}"
    path = Path(unquote(where.path)) / WITHIN
    root = project().absolute()
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def _whole(client: MlflowClient, model_id: str, digest: str) -> bool:
    """Whether the files are there, and are those of the digest."""
    where = _location(client, model_id)
    try:
        bundle_of(Version(name="", version="", digest=digest, dataset="", location=where))
    except UserError:
        return False
    return True
