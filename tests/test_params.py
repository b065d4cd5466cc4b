"""The door: every problem at once, each with its place, what was found, and the nearest valid name."""

from pathlib import Path

import pytest

from pipeline.door import parse
from pipeline.errors import ParamsError
from pipeline.params import AugmentParams, Params, TrainParams, described

SHIPPED = (Path(__file__).parents[1] / "params.yaml").read_text()


def problems(text, wanted=Params):
    with pytest.raises(ParamsError) as raised:
        parse(wanted, text)
    return str(raised.value).splitlines()


def test_the_shipped_file_passes():
    params = parse(Params, SHIPPED)
    assert described(params)["model"]["name"] == "convnet"
    assert described(params)["task"] == {
        "name": "classification",
        "score": "accuracy",
        "unsure_below": 0.0,
        "unsure_mirrored": True,
    }


def test_all_problems_come_back_together():
    text = (
        SHIPPED.replace("name: convnet", "name: convnett")
        .replace("epochs: 10", "epoch: 12")
        .replace("batch_size: 64", "batch_size: 0")
        .replace("flow:", "flwo:")
    )
    lines = problems(text)
    assert lines[0] == "params.yaml: 5 problems"
    assert "  flwo: no such section. Did you mean 'flow'?" in lines
    assert "  flow: missing." in lines
    assert any(
        line.startswith("  model: no model named 'convnett'. Did you mean 'convnet'? pipeline/models/ has: airbench")
        for line in lines
    )
    assert "  train.epoch: no such key. Did you mean 'epochs'?" in lines
    assert "  train.batch_size: input should be greater than or equal to 1; found 0." in lines


def test_options_of_parts_have_their_place():
    lines = problems(SHIPPED.replace("label_smoothing: 0.05", "label_smoothing: 2"))
    assert lines[1].startswith("  loss.label_smoothing: input should be less than")
    assert lines[1].endswith("found 2.")


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("name: convnet", "name: ../../etc/passwd", "no model named '../../etc/passwd'."),
        ("name: convnet", "name: _private", "no model named '_private'."),
        ("name: convnet", "name: [1]", "expected a part by its name, as in {name: airbench}; found {'name': [1]"),
        (
            "device: auto",
            "device: gpu",
            "  compute.device: no device is named 'gpu'; set auto (the first GPU, or else the processor), cpu, cuda "
            "(the first GPU), cuda:1 (another one, by its number from 0) or mps (that of an Apple).",
        ),
        (
            "mixing:\n  name: none",
            "mixing: cutmix\n#",
            "  mixing: expected a part by its name, as in {name: cutmix}; found 'cutmix'.",
        ),
        (
            "mixing:\n  name: none",
            "mixing: mixupp\n#",
            "expected a part by its name, as in {name: mixup}; found 'mixupp'.",
        ),
        ("promote: auto", "promote: maybe", "gate.promote: input should be 'auto', 'ask' or 'never'; found 'maybe'."),
        ("val: 0.15", "val: 0.9", "split: val + test is 1.1, which leaves nothing to train on."),
        ("score: accuracy", "score: acuracy", "Did you mean 'accuracy'?"),
        ("name: convnet", "name: timm\n  architecture: resnet81", "named 'resnet81'. Did you mean 'resnet18'?"),
        ("name: digits  ", "name: a/b  ", "  name: expected at most 64 letters, digits, dots, hyphens"),
        (
            "accumulation: 1",
            "accumulation: 65",
            "  train.accumulation: a batch of 64 images has no 65 parts; set 64 or less.",
        ),
    ],
)
def test_words(old, new, line):
    assert old in SHIPPED
    assert any(line in found for found in problems(SHIPPED.replace(old, new, 1)))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("seed: 0\nseed: 1\n", "line 2: the key 'seed' stands twice; keep one"),
        ("a: &x [1]\nb: *x\n", "line 2: aliases (*name) are not read; write the value out"),
        ("- 1\n", "expected `key: value` lines, one section each."),
        ("a: [1\n", "not valid YAML: line 2: expected ',' or ']', but got '<stream end>'."),
        ("a: 1\n b: 2\n", "not valid YAML: line 2: mapping values are not allowed here."),
        ("", "expected `key: value` lines, one section each."),
        ("a: !!python/object/apply:os.system [id]\n", "not valid YAML"),
        ("[" * 5000, "not valid YAML"),
    ],
)
def test_what_is_no_params_file(text, line):
    assert line in problems(text)[1]


def test_a_stage_reads_its_own_sections_only():
    text = SHIPPED.replace("name: convnet", "name: nonsense")
    assert parse(AugmentParams, text).augment.size == 32
    assert len(problems(text, TrainParams)) == 2


@pytest.mark.parametrize("wanted", [Params, TrainParams])
def test_what_is_too_long_for_a_training_is_refused_by_its_stage_too(wanted):
    text = SHIPPED.replace("name: shuffled", "name: curriculum").replace("frozen_epochs: 0", "frozen_epochs: 1")
    text = text.replace("thawing_epochs: 0", "thawing_epochs: 1").replace("epochs: 10", "epochs: 2")
    lines = problems(text, wanted)
    assert lines[0] == "params.yaml: 2 problems"
    assert [line.split()[3] for line in lines[1:]] == ["order", "layers.frozen_epochs"]


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_as_shipped_any_number_of_epochs_will_do(epochs):
    assert parse(Params, SHIPPED.replace("epochs: 10", f"epochs: {epochs}")).train.epochs == epochs


def test_parts_that_do_not_fit_each_other(monkeypatch):
    from pipeline.contracts import Output
    from pipeline.models import convnet

    monkeypatch.setattr(convnet.Config, "gives", Output.MAP)
    line = problems(SHIPPED)[1]
    assert line == (
        "  the parts together: task 'classification' needs one vector per image [B, K], but model 'convnet' gives "
        "one vector per pixel [B, K, H, W]."
    )
