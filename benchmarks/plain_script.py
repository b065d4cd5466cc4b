"""The five steps by hand: what a competent user writes with Prefect, DVC and MLflow, and no more.

`python plain_script.py`, in a project, with PREFECT_API_URL and MLFLOW_TRACKING_URI set: ingest, augment, train and
evaluate by `dvc repro`, then log, register, and move the alias if the score is higher. benchmarks/overhead.py times it.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import mlflow
import yaml
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from prefect import flow, task

NAME = "plain"


@task
def reproduce() -> None:
    """Every stage that anything has changed for, in one call of DVC: four calls would cost four starts of it."""
    subprocess.run(["dvc", "repro"], check=True)


@task
def log_and_register(client: MlflowClient) -> str:
    """A run with params, scores and report, and a version of the model unless its digest has one already."""
    digest = hashlib.sha256(Path("out/model/weights.safetensors").read_bytes()).hexdigest()
    scores = json.loads(Path("out/evaluation/metrics.json").read_text())
    mlflow.set_experiment(NAME)
    with mlflow.start_run() as run:
        mlflow.log_params({key: str(value) for key, value in yaml.safe_load(Path("params.yaml").read_text()).items()})
        mlflow.log_metrics({key: value["value"] for key, value in scores.items() if isinstance(value, dict)})
        mlflow.log_artifacts("out/evaluation", "evaluation")
        if found := client.search_model_versions(f"name = '{NAME}' and tags.digest = '{digest}'"):
            return str(found[0].version)
        mlflow.log_artifacts("out/model", "model")
        if not client.search_registered_models(f"name = '{NAME}'"):
            client.create_registered_model(NAME)
        tags = {"digest": digest, "accuracy": str(scores["accuracy"]["value"])}
        source = f"{run.info.artifact_uri}/model"
        return str(client.create_model_version(NAME, source, run.info.run_id, tags).version)


@task
def gate(client: MlflowClient, version: str) -> bool:
    """Promote if the stored number is higher; whether the version is the champion now."""
    try:
        champion = client.get_model_version_by_alias(NAME, "champion")
    except MlflowException:
        champion = None
    new = client.get_model_version(NAME, version)
    if champion is None or float(new.tags["accuracy"]) > float(champion.tags["accuracy"]):
        client.set_registered_model_alias(NAME, "champion", version)
        return True
    return str(champion.version) == version


@flow(name="plain")
def plain() -> None:
    """The whole."""
    client = MlflowClient()
    reproduce()
    version = log_and_register(client)
    print(f"version {version} {'is' if gate(client, version) else 'is not'} the champion")


if __name__ == "__main__":
    plain()
