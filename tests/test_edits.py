"""`--set` and `--params`: comments stay, and what the door would refuse is not written."""

from pathlib import Path

import pytest
import yaml

from flows.edits import combinations, edited, replace_params
from flows.run import change_params, up_to_date
from pipeline.door import parse
from pipeline.errors import UserError
from pipeline.files import write_json
from pipeline.params import Named
from pipeline.registry import attempts
from pipeline.registry.attempts import Finished

SHIPPED = (Path(__file__).parents[1] / "params.yaml").read_text()


def test_values_change_and_every_other_line_stays():
    text = edited(SHIPPED, ["train.epochs=5", "optimizer.lr=1e-2", "data={name: folder, path: ~/pets}"])
    params = yaml.safe_load(text)
    assert params["train"]["epochs"] == 5
    assert float(params["optimizer"]["lr"]) == 0.01
    assert params["data"] == {"name": "folder", "path": "~/pets"}
    before, after = SHIPPED.splitlines(), text.splitlines()
    changed = [line for line in before if line not in after]
    assert len(changed) <= 4, changed
    assert sum("#" in line for line in after) >= sum("#" in line for line in before) - 2


def test_nothing_to_change_is_byte_for_byte_the_same():
    assert edited(SHIPPED, ["train.epochs=10"]) == SHIPPED


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("train.epochs", "expected key=value, as in --set train.epochs=5"),
        ("=5", "expected key=value"),
        ("trian.epochs=5", "trian.epochs: no such section. Did you mean 'train'?"),
        ("train.epochs.more=5", "train.epochs.more: no such section."),
        ("train.epochs=[1", "'[1' is not valid YAML"),
        ("name=2026-13-45", "'2026-13-45' is not valid YAML"),  # a date that is none
        ("name=" + "[" * 5000, "is not valid YAML"),
    ],
)
def test_words(assignment, words):
    with pytest.raises(UserError) as raised:
        edited(SHIPPED, [assignment])
    assert words in str(raised.value)


def test_a_refused_value_leaves_the_file_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(SHIPPED)
    with pytest.raises(UserError, match="train.epochs: found 0; set 1 or more"):
        change_params(["train.epochs=0"], None)
    assert Path("params.yaml").read_text() == SHIPPED
    assert not Path(".convoy").exists()


def test_the_text_from_before_is_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(SHIPPED)
    other = tmp_path / "other.yaml"
    other.write_text(SHIPPED.replace("epochs: 10", "epochs: 7"))
    change_params(["train.batch_size=32"], other)
    params = yaml.safe_load(Path("params.yaml").read_text())
    assert (params["train"]["epochs"], params["train"]["batch_size"]) == (7, 32)
    (kept,) = Path(".convoy/params").iterdir()
    assert kept.read_text() == SHIPPED
    assert str(kept) in capsys.readouterr().out
    assert replace_params(Path("params.yaml"), Path("params.yaml").read_text()) is None
    with pytest.raises(UserError, match="cannot be read"):
        change_params([], tmp_path / "none.yaml")


def test_lines_end_as_they_did(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = SHIPPED.replace("\n", "\r\n").encode()
    Path("params.yaml").write_bytes(before)
    change_params(["train.epochs=10"], None)
    assert Path("params.yaml").read_bytes() == before
    change_params(["train.epochs=7"], None)
    assert Path("params.yaml").read_bytes() == before.replace(b"epochs: 10", b"epochs: 7")
    (kept,) = Path(".convoy/params").iterdir()
    assert kept.read_bytes() == before


def test_a_params_file_that_is_no_text_is_told_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_bytes("name: café".encode("latin-1"))
    other = tmp_path / "other.yaml"
    other.write_text("seed: 1\n")
    for assignments, file in ((["seed=1"], None), ([], other)):
        with pytest.raises(UserError, match=r"^params\.yaml: cannot be read: 'utf-8' codec"):
            change_params(assignments, file)
    assert up_to_date(tmp_path) is None  # what comes after it says the same in the door's words
    Path("params.yaml").rename("other.yaml")
    with pytest.raises(UserError, match=r"^--params other\.yaml: cannot be read"):
        change_params([], Path("other.yaml"))


def test_a_run_whose_record_is_gone_is_none_that_was_done(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(SHIPPED)
    done = Finished(id="a" * 32, run="b" * 32, version="1", outcome="hold", champion=False, reasons=[])
    write_json(attempts._outcome(SHIPPED), done.model_dump())
    assert attempts.finished(SHIPPED) == done
    assert up_to_date(tmp_path) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seed: 1\nname: 2026-13-45\n", "line 2: '2026-13-45' looks like a date or a number and is none; quote it"),
        ("seed: 1\nname: !!timestamp soon\n", "line 2: 'soon' looks like a date or a number and is none; quote it"),
        ("data: {name: folder, path: {{home}}/pets}\n", "line 1: "),
        ("seed: 1\nname: {{home}}\n", "line 2: a key must be a word; put quotes around a text that has braces"),
    ],
)
def test_what_no_yaml_is_comes_with_its_line(text, words):
    with pytest.raises(UserError) as raised:
        parse(Named, text)
    assert f"params.yaml: 1 problem\n  the file: not valid YAML: {words}" in str(raised.value)


def test_several_values_are_several_runs():
    assert combinations(["seed=1,2", "train.epochs=3"]) == [["seed=1", "train.epochs=3"], ["seed=2", "train.epochs=3"]]
    assert combinations(["a=1, 2", "b=x,y"]) == [["a=1", "b=x"], ["a=1", "b=y"], ["a=2", "b=x"], ["a=2", "b=y"]]
    assert combinations([]) == [[]]


def test_a_comma_within_brackets_or_quotes_is_part_of_the_value():
    for one in ("optimizer={name: sgd, lr: 0.1}", "train.list=[1, [2, 3]]", "data.path='a,b'", 'name="it\'s, so"'):
        assert combinations([one]) == [[one]]
    assert combinations(["optimizer={name: sgd, lr: 1},{name: adamw, lr: 2}"]) == [
        ["optimizer={name: sgd, lr: 1}"],
        ["optimizer={name: adamw, lr: 2}"],
    ]
