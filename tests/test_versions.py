"""Model versions: once per digest, served as trained from a fresh process elsewhere, and who is champion."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import graded_project
import numpy as np
import pytest
import yaml
from decision_project import make_case
from graded_project import OBJECTS, PIXELS
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from registry_project import enter_project, make_pictures, make_project

from pipeline import bundle
from pipeline.bundle import Bundle
from pipeline.dataset import Dataset
from pipeline.errors import UserError
from pipeline.params import Params
from pipeline.registry import attempts, champion, decisions, ledger, record, summary, versions
from pipeline.registry.champion import Version
from pipeline.registry.code import Code
from pipeline.registry.decisions import Refused
from pipeline.registry.record import Run
from pipeline.registry.verdict import Verdict

CODE = Code(commit="c" * 40, branch="main")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Params]:
    root = tmp_path_factory.mktemp("versions") / "project"
    return root, make_project(root)


@pytest.fixture
def run(made: tuple[Path, Params], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """An open run in a project whose stages have run."""
    client = enter_project(made[0], tmp_path / "project", monkeypatch)
    return record.open_run(client, attempts.begin(made[1], "d" * 64), made[1], CODE, {})


def registered(run: Run) -> Version:
    return versions.register(run, {"git.commit": "c"}, "words")


def model_folder(version: Version) -> Path:
    return Path(version.location).parents[1]


def retrained() -> None:
    """Another model takes the place of `out/model`."""
    path = Path("out/model/bundle.json")
    path.write_text(path.read_text().replace('"parameters": 130', '"parameters": 131'))


def test_one_digest_is_one_version(run: Run) -> None:
    first = registered(run)
    assert first == registered(run)
    assert (first.version, first.digest) == ("1", bundle.digest_of(Path("out/model")))
    retrained()
    assert registered(run).version == "2"
    found = run.client.get_model_version("digits", "1")
    assert found.tags == {"model.digest": first.digest, "dataset.digest": "d" * 64, "git.commit": "c"}
    assert (found.run_id, found.description) == (run.id, "words")


def test_files_elsewhere_are_fetched_by_one_of_many_at_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    version = registered(run)
    (logged,) = run.client.search_logged_models([run.experiment])
    far, fetches = version.model_copy(update={"location": f"models:/{logged.model_id}"}), []
    plain = champion._download
    monkeypatch.setattr(champion, "_download", lambda *about: (fetches.append(about), plain(*about)))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: champion.bundle_of(far), range(4)))
    assert set(found) == {champion.fetched(version.digest)} and len(fetches) == 1
    assert bundle.digest_of(found[0]) == version.digest


def test_a_kill_before_the_version_leaves_no_second_model(run: Run) -> None:
    first = registered(run)
    run.client.delete_model_version("digits", "1")
    second = registered(run)
    assert (second.version, second.location) == ("2", first.location)
    assert len(run.client.search_logged_models([run.experiment])) == 1


def test_a_version_whose_files_are_gone_is_registered_anew(run: Run) -> None:
    first = registered(run)
    shutil.rmtree(first.location)
    second = registered(run)
    assert (second.version, second.digest) == ("2", first.digest)
    assert bundle.digest_of(Path(second.location)) == first.digest


def test_a_registered_model_holds_nothing_pickled_and_says_what_it_takes(run: Run) -> None:
    folder = model_folder(registered(run))
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert not [name for name in files if name.endswith((".pkl", ".pickle", ".pth", ".pt", ".pyc"))]
    assert {"code/pipeline/bundle.py", "code/pipeline/tasks/classification.py", "served.py"} <= files
    assert "code/pipeline/train/loop.py" not in files
    about = yaml.safe_load((folder / "MLmodel").read_text())
    assert json.loads(about["signature"]["inputs"]) == [{"type": "binary", "name": "image", "required": True}]
    outputs = [column["name"] for column in json.loads(about["signature"]["outputs"])]
    assert outputs == ["label", "probability", "probabilities"]
    example = json.loads((folder / "input_example.json").read_text())
    assert base64.b64decode(example["data"][0][0]).startswith(b"\x89PNG")
    assert all("==" in line and "+" not in line for line in (folder / "requirements.txt").read_text().splitlines())


REGISTERING = """
import sys
from pipeline.registry import tracking, versions
from pipeline.registry.record import Run
client = tracking.connect()
where = client.get_experiment_by_name("digits").experiment_id
version = versions.register(Run(client, sys.argv[1], where, "digits", 0), {}, "words")
print(version.version, "torch" in sys.modules)
"""


def test_registering_imports_no_torch(run: Run) -> None:
    home = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", REGISTERING, run.id],
        env={**os.environ, "PYTHONPATH": home},
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1:] == ["1 False"], done.stderr


ELSEWHERE = """
import json, sys
from pathlib import Path
import pandas as pd
from mlflow.pyfunc import load_model
pictures = [path.read_bytes() for path in sorted(Path("pictures").iterdir())]
answers = load_model(sys.argv[1]).predict(pd.DataFrame({"image": pictures}))
import base64, pipeline
coded = lambda data: base64.b64encode(data).decode()
print(json.dumps([pipeline.__path__[0], answers.to_dict("records")], default=coded))
"""


def served(elsewhere: Path) -> list[Any]:
    """Where a fresh process finds the code of the model in a folder, and its answers to the pictures beside it."""
    # -I: neither the current folder nor the user's packages nor PYTHONPATH are looked at
    done = subprocess.run(
        [sys.executable, "-I", "-c", ELSEWHERE, "model"],
        cwd=elsewhere,
        env={key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found: list[Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_fresh_process_elsewhere_gives_the_answers_of_the_bundle(run: Run, tmp_path: Path) -> None:
    folder = model_folder(registered(run)).absolute()
    pictures, _ = make_pictures(7)
    bundle = Bundle.open()
    expected = np.stack(bundle.answer([bundle.prepare(picture) for picture in pictures]))
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "pictures").mkdir(parents=True)
    for index, picture in enumerate(pictures):
        (elsewhere / "pictures" / f"{index}.png").write_bytes(picture)
    folder.rename(elsewhere / "model")
    home, answers = served(elsewhere)
    assert Path(home).is_relative_to(elsewhere)
    found = np.array([[answer["probabilities"][name] for name in ("dark", "light")] for answer in answers])
    assert np.abs(found - expected).max() < 1e-9
    assert [answer["label"] for answer in answers] == [["dark", "light"][best] for best in expected.argmax(axis=1)]
    assert [next(iter(answer["probabilities"])) for answer in answers] == [answer["label"] for answer in answers]
    assert [answer["probability"] for answer in answers] == pytest.approx(expected.max(axis=1), abs=1e-9)


SERVED = {
    OBJECTS: [{"name": "objects", "type": "array"}],
    PIXELS: [
        {"name": "mask", "type": "binary"},
        {"name": "classes", "type": "array"},
        {"name": "shares", "type": "map"},
    ],
}


@pytest.mark.parametrize("task", SERVED)
def test_objects_and_masks_are_served_elsewhere_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str) -> None:
    graded_project.make_project(tmp_path / "project", task)
    monkeypatch.chdir(tmp_path / "project")
    bundle = Bundle.open()
    elsewhere = tmp_path / "elsewhere"
    versions.save(bundle, elsewhere / "model", "m-1", "r" * 32)
    about = yaml.safe_load((elsewhere / "model" / "MLmodel").read_text())
    outputs = json.loads(about["signature"]["outputs"])
    assert [{key: column[key] for key in ("name", "type")} for column in outputs] == SERVED[task]
    test = Dataset.open().split("test")
    (elsewhere / "pictures").mkdir()
    for index in range(len(test)):
        (elsewhere / "pictures" / f"{index:02}.png").write_bytes(test.read(index))
    home, answers = served(elsewhere)
    assert Path(home).is_relative_to(elsewhere)
    told = bundle.answer([bundle.prepare(test.read(index)) for index in range(len(test))])
    expected = [bundle.task.plain(one, bundle.info.classes) for one in told]
    assert answers == json.loads(json.dumps(expected, default=lambda data: base64.b64encode(data).decode()))


def alias(client: MlflowClient) -> str:
    return str(client.get_model_version_by_alias("digits", champion.ALIAS).version)


def promoted(run: Run, version: Version) -> None:
    """As the flow does it."""
    decisions.promoted_by_gate(make_case(version))
    champion.reconcile(run.client, "digits")


def test_a_promotion_is_in_the_ledger_once_and_the_alias_follows(run: Run) -> None:
    assert champion.current("digits") is None
    version = registered(run)
    case = make_case(version)
    entry = decisions.promoted_by_gate(case)
    assert entry is not None
    assert (entry.who, entry.via) == (f"the gate, for {decisions.person()}", "gate")
    assert decisions.promoted_by_gate(case) is None  # a run that was killed comes here again
    reigning = champion.current("digits")
    assert reigning is not None
    assert (reigning.version, reigning.epoch, reigning.why) == (version, 1, "Better than before.")
    champion.reconcile(run.client, "digits")
    assert alias(run.client) == "1"
    retrained()
    promoted(run, registered(run))
    assert alias(run.client) == "2"
    assert [(entry.from_version, entry.to_version) for entry in ledger.history("digits")] == [(None, "1"), ("1", "2")]


def test_the_alias_is_put_back_to_what_the_ledger_says(run: Run) -> None:
    version = registered(run)
    run.client.set_registered_model_alias("digits", champion.ALIAS, "1")  # nobody has decided so
    champion.reconcile(run.client, "digits")
    with pytest.raises(MlflowException):
        alias(run.client)
    promoted(run, version)
    retrained()
    registered(run)
    run.client.set_registered_model_alias("digits", champion.ALIAS, "2")  # somebody clicked in MLflow
    champion.reconcile(run.client, "digits")
    assert alias(run.client) == "1"
    run.client.delete_registered_model_alias("digits", champion.ALIAS)  # or a kill came between the two
    champion.reconcile(run.client, "digits")
    assert alias(run.client) == "1"


def test_a_decision_against_an_older_champion_is_refused(run: Run) -> None:
    first = make_case(registered(run))
    retrained()
    late = make_case(registered(run))
    decisions.promoted_by_gate(first)
    with pytest.raises(Refused, match="digits/2 was judged against another champion than the present one"):
        decisions.promoted_by_gate(late)
    champion.reconcile(run.client, "digits")
    assert alias(run.client) == "1"


def test_files_that_were_changed_are_neither_promoted_nor_served(run: Run) -> None:
    version = registered(run)
    weights = Path(version.location) / "weights.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole + b"x")
    with pytest.raises(Refused, match=r"version 1 of 'digits' in .* were changed after it was registered"):
        promoted(run, version)
    assert champion.current("digits") is None
    weights.write_bytes(whole)
    promoted(run, version)
    reigning = champion.current("digits")
    assert reigning is not None
    assert reigning.bundle() == Path(version.location)
    weights.unlink()
    with pytest.raises(UserError, match="files of version 1 of 'digits' are gone"):
        reigning.bundle()


def test_the_champion_of_a_remote_store_is_fetched_once(run: Run) -> None:
    version = registered(run)
    remote = version.model_copy(update={"location": run.client.get_model_version("digits", "1").source})
    folder = champion.bundle_of(remote)
    assert folder == champion.fetched(version.digest)
    assert bundle.digest_of(folder) == version.digest
    shutil.rmtree(version.location)
    assert champion.bundle_of(remote) == folder


def test_ledger_gate_and_champion_do_not_import_mlflow() -> None:
    modules = "attempts, cases, champion, code, decisions, gate, ledger"
    words = f"import sys; from pipeline.registry import {modules}; print('mlflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", words], cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


def test_the_description_reads_and_names_are_text(made: tuple[Path, Params], run: Run) -> None:
    verdict = Verdict(outcome="promote", reasons=["Better: <script>[x](y)"])
    text = summary.of_run(made[1], CODE, registered(run), verdict, reigns=True)
    assert text.startswith(
        "**Accuracy 0.900 on 40 test images (95 % interval 0.800 to 0.970)**\n\nVersion 1 of `digits`"
    )
    assert "is **the champion now**" in text
    assert r"\<script\>\[x\](y)" in text
    assert "80 images of 2 classes (40 train, 0 val, 40 test)" in text
    assert "check out `cccccccccccc`, put back" in text


def test_a_score_that_is_undefined_on_the_test_images_is_said(made: tuple[Path, Params], run: Run) -> None:
    Path("out/evaluation/metrics.json").write_text('{"images": 40}')
    verdict = Verdict(outcome="hold", reasons=["Accuracy is undefined on these test images."])
    text = summary.of_run(made[1], CODE, registered(run), verdict, reigns=False)
    assert text.startswith("**Accuracy undefined on 40 test images**\n\nVersion 1 of `digits` is **held back**.")
