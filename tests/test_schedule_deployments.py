"""prefect.yaml: read strictly, written so that comments stay, and refused in words when it is broken or hostile."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import yaml

from flows.schedule import deployments
from flows.schedule.request import Request
from pipeline.errors import ParamsError, UserError

SHIPPED = Path(__file__).parents[1] / "prefect.yaml"
HOURLY = Request.model_validate({"branch": "main", "set": ["seed=1"], "trigger": {"cron": "0 * * * *"}})
GOOD = """
deployments:
  - name: good
    entrypoint: flows/retrain.py:retrain
    tags: [convoy]
    work_pool: {name: convoy}
    parameters: {request: {branch: main}}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "prefect.yaml").write_text(SHIPPED.read_text())
    return tmp_path


def broken(project: Path, text: str) -> str:
    (project / "prefect.yaml").write_text(text)
    with pytest.raises(UserError) as error:
        deployments.read(project)
    return str(error.value)


def test_the_shipped_example_rests_and_trains_main_every_night() -> None:
    (nightly,) = deployments.read(SHIPPED.parent)
    assert nightly.paused and nightly.request.branch == "main"
    assert (nightly.request.trigger.cron, nightly.request.trigger.zone) == ("30 2 * * *", "UTC")


def test_adding_pausing_and_removing_leave_every_other_line_alone(project: Path) -> None:
    before = SHIPPED.read_text()
    deployments.add(project, "hourly", HOURLY)
    text = (project / "prefect.yaml").read_text()
    assert text.startswith(before)
    assert [found.name for found in deployments.read(project)] == ["nightly", "hourly"]
    assert deployments.find(project, "hourly").request == HOURLY
    deployments.set_paused(project, "nightly", False)
    changed = set((project / "prefect.yaml").read_text().splitlines()) ^ set(text.splitlines())
    assert len(changed) == 2 and all("paused" in line and "# an example" in line for line in changed)
    deployments.set_paused(project, "hourly", True)
    assert deployments.find(project, "hourly").paused
    deployments.set_paused(project, "nightly", True)
    deployments.remove(project, "hourly")
    assert (project / "prefect.yaml").read_text() == before


def test_removing_the_first_keeps_what_is_said_above_the_second(project: Path) -> None:
    with (project / "prefect.yaml").open("a") as file:
        file.write("\n  # What the team in Berlin asked for.\n" + GOOD.split("deployments:\n")[1])
    deployments.remove(project, "nightly")
    text = (project / "prefect.yaml").read_text()
    assert [found.name for found in deployments.read(project)] == ["good"]
    assert text.splitlines()[0] == SHIPPED.read_text().splitlines()[0]
    assert "# What the team in Berlin asked for." in text


def test_without_a_file_there_are_none_and_the_first_makes_it(tmp_path: Path) -> None:
    assert deployments.read(tmp_path) == []
    deployments.add(tmp_path, "hourly", HOURLY)
    assert [found.name for found in deployments.read(tmp_path)] == ["hourly"]
    deployments.remove(tmp_path, "hourly")
    assert deployments.read(tmp_path) == []
    deployments.add(tmp_path, "hourly", HOURLY)  # the list that is left empty takes one again
    assert yaml.safe_load((tmp_path / "prefect.yaml").read_text())["deployments"][0]["name"] == "hourly"


def test_what_is_refused_leaves_the_file_as_it_was(project: Path) -> None:
    for name, request, words in (
        (
            "nightly",
            HOURLY,
            "prefect.yaml has a deployment 'nightly' already. Edit it there, or `convoy",
        ),
        ("../x", HOURLY, "expected up to 64 letters, digits"),
        (
            "x",
            Request.model_validate({}),
            "x.parameters.request.branch: missing: a deployment trains a branch's",
        ),
    ):
        with pytest.raises(UserError) as error:
            deployments.add(project, name, request)
        assert words in str(error.value)
    with pytest.raises(UserError) as error:
        deployments.remove(project, "nigtly")
    assert str(error.value) == "prefect.yaml has no deployment 'nigtly'. Did you mean 'nightly'?"
    assert (project / "prefect.yaml").read_text() == SHIPPED.read_text()
    assert os.listdir(project) == ["prefect.yaml"]


def test_every_problem_comes_at_once_with_its_place(project: Path) -> None:
    second = GOOD.split("deployments:\n")[1]
    said = broken(
        project,
        GOOD.replace("[convoy]", "[mine]")
        + second.replace("{branch: main}", "{brnch: main, trigger: {cron: 61 2 * * *, zone: Europe/Berln}}")
        + second.replace("name: good", "name: other").replace("tags", "schedules: [{cron: 0 0 * * *}]\n    tags")
        + second.replace("name: good", "name: -x").replace("    work_pool: {name: convoy}\n", "")
        + second,
    )
    assert said.splitlines() == [
        "prefect.yaml: 8 problems",
        "  deployments.good.tags: 'convoy' is missing: by it the worker knows its deployments.",
        "  deployments.good.parameters.request.trigger.cron: '61 2 * * *' is no cron expression: bad minute.",
        "  deployments.good.parameters.request.trigger.zone: there is no zone 'Europe/Berln'. "
        "Did you mean 'Europe/Berlin'?",
        "  deployments.good.parameters.request.brnch: no such key. Did you mean 'branch'?",
        "  deployments.other.schedules: Prefect's own; say it in parameters.request.trigger, "
        "which minds daylight saving.",
        "  deployments.-x.name: expected up to 64 letters, digits and `_.-`, the first no sign; found '-x'.",
        "  deployments.-x.work_pool: missing.",
        "  deployments.good: a second deployment of this name; give it another.",
    ]


def test_what_is_somebody_elses_is_left_alone(project: Path) -> None:
    other = "deployments:\n  - {name: theirs, entrypoint: their/flow.py:flow, schedules: [{cron: 0 0 * * *}]}\n"
    (project / "prefect.yaml").write_text(other)
    assert deployments.read(project) == []
    deployments.add(project, "hourly", HOURLY)
    document = yaml.safe_load((project / "prefect.yaml").read_text())
    assert [entry["name"] for entry in document["deployments"]] == ["theirs", "hourly"]
    with pytest.raises(UserError, match="no deployment 'theirs'"):
        deployments.remove(project, "theirs")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("deployments: [", "the file: not valid YAML: line 1"),
        ("- a\n- b\n", "the file: expected `deployments:` and a list below it."),
        ("deployments: {a: 1}\n", "deployments: expected a list; found"),
        ("deployments: [1]\n", "deployments.0: expected a deployment, as in `- name: nightly`; found 1."),
        ("a: 1\na: 2\n", "not valid YAML"),
        ("a: !!python/object/apply:os.system ['touch hacked']\n", "the file: expected `deployments:`"),
        (GOOD.replace("main", "--upload-pack=x"), "'--upload-pack=x' cannot be the name of a branch"),
        (
            GOOD.replace("{branch: main}", "{branch: main, set: [seed]}"),
            "parameters.request.set: expected key=value, as in 'train.epochs=5'; found 'seed'",
        ),
        (GOOD.replace("parameters: {request: {branch: main}}", "parameters: 5"), "parameters: "),
        (GOOD + "x: " + "y" * 1_000_001, "it is larger than 1,000,000 bytes."),
    ],
)
def test_hostile_and_broken_files(project: Path, text: str, words: str) -> None:
    if "python/object" in text:  # an unknown tag is text like any other, and nothing is called
        (project / "prefect.yaml").write_text(text)
        assert deployments.read(project) == []
        assert os.listdir(project) == ["prefect.yaml"]
        return
    assert words in broken(project, text)


def test_a_bomb_of_aliases_costs_nothing(project: Path) -> None:
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30))
    start = time.process_time()
    said = broken(project, bomb + GOOD.replace("[convoy]", "[convoy, *a29]").replace("main", "*a29"))
    assert "deployments.good.tags.1: input should be a valid string" in said
    assert len(said) < 2000 and time.process_time() - start < 5


def test_a_file_that_is_not_text(project: Path) -> None:
    (project / "prefect.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ParamsError, match="the file: cannot be read"):
        deployments.read(project)
