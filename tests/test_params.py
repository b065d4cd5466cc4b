"""The door: every problem at once, each with its place, what was found, and the nearest valid name."""

from pathlib import Path

import pytest
from ready_files import clashes

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
    assert "  train.batch_size: found 0; set 1 or more." in lines


def test_options_of_parts_have_their_place():
    lines = problems(SHIPPED.replace("label_smoothing: 0.05", "label_smoothing: 2"))
    assert lines[1:] == ["  loss.label_smoothing: found 2; set less than 1."]


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("name: convnet", "name: ../../etc/passwd", "no model named '../../etc/passwd'."),
        ("name: convnet", "name: _private", "no model named '_private'."),
        ("name: convnet", "name: [1]", "expected a part by its name, as in {name: airbench}; found {'name': [1]"),
        (
            "device: auto",
            "device: gpu",
            "  compute.device: expected a device: auto (the first GPU, or else the processor), cpu, cuda (the first "
            "GPU), cuda:1 (another one, by its number from 0) or mps (that of an Apple); found 'gpu'.",
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
        ("promote: auto", "promote: maybe", "gate.promote: expected 'auto', 'ask' or 'never'; found 'maybe'."),
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
    ("old", "new", "line"),
    [
        (
            "epochs: 10",
            "epochs: true",
            "train.epochs: expected a number; found true, which YAML also makes of yes and on.",
        ),
        (
            "epochs: 10",
            "epochs: off",
            "train.epochs: expected a number; found false, which YAML also makes of no and off.",
        ),
        ("seed: 0", "seed: yes", "seed: expected a number; found true, which YAML also makes of yes and on."),
        (
            "name: cosine",
            "name: step\n  drops: [0.5, true]",
            "schedule.drops: expected a number; found true, which YAML also makes of yes and on.",
        ),
        (
            "epochs: 10",
            "epochs: 1e9",
            "train.epochs: expected a whole number; found '1e9', which YAML reads as text: write 1000000000.",
        ),
        ("epochs: 10", "epochs: many", "train.epochs: expected a whole number; found 'many'."),
        ("epochs: 10", "epochs: 2.5", "train.epochs: expected a whole number; found 2.5."),
        ("epochs: 10", "epochs:", "train.epochs: expected a whole number; found nothing."),
        ("epochs: 10", "epochs: 0", "train.epochs: found 0; set 1 or more."),
        ("seed: 0", "seed: 4294967296", "seed: found 4294967296; set less than 4294967296."),
        ("lr: 0.003", "lr: 0", "optimizer.lr: found 0; set more than 0."),
        ("lr: 0.003", "lr: fast", "optimizer.lr: expected a number; found 'fast'."),
        ("lr: 0.003", "lr: .nan", "optimizer.lr: expected a finite number; found nan."),
        ("full_size_from: 0.7", "full_size_from: 2", "train.full_size_from: found 2; set 1 or less."),
        ("name: convnet", "name: yolo\n  width: 33", "model.width: found 33; set a multiple of 32."),
        ("name: convnet", "name: airbench\n  widths: []", "model.widths: found []; set 1 or more of them."),
        ("slices: []", "slices: group", "gate.slices: expected a list; found 'group'."),
        (
            "when_diverging: stop",
            "when_diverging: on",
            "train.when_diverging: expected 'stop' or 'rollback'; found true.",
        ),
        ("sharded: false", "sharded: never", "compute.sharded: expected true or false; found 'never'."),
        (
            "name: light ",
            "name: light\n  erase: 0.5 ",
            "augment.erase: 'light' has no such key; 'shifted', 'standard' and 'strong' have it. Left over from there? "
            "Remove it, as --set 'augment={name: light, size: 32}' does.",
        ),
        (
            "name: cross_entropy",
            "name: focal",
            "loss.label_smoothing: 'focal' has no such key; 'binary_cross_entropy' and 'cross_entropy' have it. Left "
            "over from there? Remove it, as --set 'loss={name: focal}' does.",
        ),
        ("name: light ", "name: light\n  framed: pad ", "augment.framed: no such key. Did you mean 'frame'?"),
        (
            "flow:\n",
            "flow: 3\nignored:\n",
            "flow: expected a section, as in `flow: {retries: 1}`; found 3.",
        ),
        (
            "checkpoint_seconds: 30",
            "checkpoint_seconds: .inf",
            "train.checkpoint_seconds: expected a finite number; found inf.",
        ),
        (
            "first_size: 0",
            "first_size: 1",
            "train.first_size: found 1; set 4 or more, or 0 to have all epochs see pictures of full size.",
        ),
        ("label_smoothing: 0.05", "label_smoothing: 1", "loss.label_smoothing: found 1; set less than 1."),
    ],
)
def test_words_about_values(old, new, line):
    assert old in SHIPPED
    assert f"  {line}" in problems(SHIPPED.replace(old, new, 1))


def test_true_and_false_stay_where_they_are_values():
    text = SHIPPED.replace("recompute: false", "recompute: on").replace("name: light ", "name: strong\n  flip: false ")
    params = parse(Params, text)
    assert params.train.recompute is True
    assert params.augment.flip is False


def test_what_a_task_learns_is_told_in_words_alone():
    line = problems(SHIPPED.replace("score: accuracy", "score: acuracy"))[1]
    assert "no metric of that name scores one class per image. Did you mean 'accuracy'?" in line


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
    text = text.replace("name: convnet", f"name: convnet\n  weights: here.pth\n  weights_sha256: '{64 * '0'}'")
    lines = problems(text, wanted)
    assert lines[0] == "params.yaml: 2 problems"
    assert [line.split()[3] for line in lines[1:]] == ["order", "layers.frozen_epochs"]


FITTING = {
    "task": ("classification-folder", "task.score=map50", "task.score is 'map50', but no metric of that name scores"),
    "loss": ("classification-folder", "loss={name: dice}", "which loss 'dice' does not take."),
    "model": (
        "classification-folder",
        "model={name: unet}",
        "needs one vector per image [B, K], but model 'unet' gives",
    ),
    "order": ("segmentation-lists", "order={name: runs}", "order 'runs' goes by the class of each picture, but task"),
    "mixing": ("detection-yolo", "mixing={name: mixup}", "mixing 'mixup' does not blend boxes with classes per image"),
    "first_size": ("segmentation-lists", "train.first_size=16", "learns where things are, and those places do not"),
    "ensemble": ("detection-yolo", "ensemble.members=2", "ensemble.join is 'average', but answers of task"),
}


@pytest.mark.parametrize("wanted", [Params, TrainParams])
@pytest.mark.parametrize(("ready", "change", "words"), FITTING.values(), ids=FITTING)
def test_the_stage_hears_what_does_not_fit_as_the_door_does(ready, change, words, wanted):
    (said,) = clashes(ready, change, wanted=wanted)
    assert words in said
    assert not clashes(ready, wanted=wanted)


@pytest.mark.parametrize("wanted", [Params, TrainParams])
def test_a_loss_that_compares_has_something_to_compare(wanted):
    def said(size, *changes):
        loss = "loss={name: triplet}", f"train.batch_size={size}"
        return clashes("faces-folder", *loss, *changes, wanted=wanted)

    runs = "order={name: runs, images_per_class: 8}"
    assert said(1) == [
        "  the parts together: loss 'triplet' compares pictures of several classes, but train.batch_size 1 makes "
        "batches of a single picture, from which nothing is learnt; set train.batch_size to 4 or more."
    ]
    assert said(4, runs) == [
        "  the parts together: loss 'triplet' compares pictures of several classes, but train.batch_size 4 makes "
        "batches of 4 pictures of one class (order 'runs'), from which nothing is learnt; set train.batch_size to 16 "
        "or more."
    ]
    assert said(8, runs) and not said(16, runs) and not said(2)
    assert "train.accumulation: 2 would let it see parts of a batch" in said(16, runs, "train.accumulation=2")[0]


def test_blends_need_another_picture():
    changes = "mixing.name=cutmix", "train.batch_size=2"
    assert not clashes("classification-folder", *changes)
    assert clashes("classification-folder", *changes, "compute.processes=2") == [
        "  the parts together: mixing 'cutmix' blends a picture with another of its batch, but train.batch_size 2 "
        "leaves none beside it in each of 2 processes; set train.batch_size to 4 or more, or mixing to none."
    ]
    (one,) = clashes("classification-folder", "mixing.name=cutmix", "train.batch_size=1")
    assert "train.batch_size 1 leaves none beside it; set train.batch_size to 2 or more, or mixing to none." in one


def test_a_floor_without_slices_is_refused():
    text = SHIPPED.replace("slice_floor: 0 ", "slice_floor: 0.5 ")
    assert problems(text)[1] == (
        "  gate: slice_floor is 0.5, and slices names no column, so that nothing is held to it; name some in slices, "
        "as in [group], or set slice_floor to 0."
    )
    assert parse(Params, text.replace("slices: []", "slices: [group]")).gate.slice_floor == 0.5


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
