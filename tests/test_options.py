"""`convoy options`: every option of every part and section is told, with its docstring."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from flows.options import told
from pipeline.contracts import Options
from pipeline.errors import UserError
from pipeline.params import PART_FOLDERS, Params
from pipeline.plugin import config_class, names

ROOT = Path(__file__).parents[1]
PARTS = [(section, name) for section, folder in PART_FOLDERS.items() for name in names(folder)]
SECTIONS = [section for section in Params.model_fields if section not in PART_FOLDERS]


def lines(place: str = "") -> list[str]:
    return [" " * line.indent + line.text for line in told(place)]


def assert_all_told(options: type[Options], said: list[str]) -> None:
    for key, field in options.model_fields.items():
        (at,) = (i for i, line in enumerate(said) if line.startswith(f"  {field.alias or key}: "))
        assert said[at].endswith("; must be set") if field.is_required() else "; default " in said[at]
        assert field.description, f"{key} has no docstring"
        assert said[at + 1].split() == field.description.split()


@pytest.mark.parametrize(("section", "name"), PARTS)
def test_every_option_of_every_part_is_told(section: str, name: str) -> None:
    part, said = config_class(PART_FOLDERS[section], name), lines(f"{section}.{name}")
    assert said[0] == f"{section}: {{name: {name}}}"
    assert part.__doc__ and part.__doc__.split()[0] in " ".join(said).split()
    assert_all_told(part, said)


@pytest.mark.parametrize("section", SECTIONS)
def test_every_option_of_every_section_is_told(section: str) -> None:
    options = Params.model_fields[section].annotation
    if isinstance(options, type) and issubclass(options, Options):
        assert_all_told(options, lines(section))
    else:
        assert lines(section)[3].strip() == Params.model_fields[section].description


def test_step() -> None:
    assert lines("schedule.step") == [
        "schedule: {name: step}",
        "  Steps: the rate stays as it is for long, and drops at once, some times, after a warm-up.",
        "  Source: He, Zhang, Ren, Sun. Deep Residual Learning for Image Recognition, 2015, section 4.2, where it "
        "drops after half and after three quarters of the training.",
        "  Where it drops is said in shares of the training, so that another number of epochs needs no other options.",
        "",
        "  warmup_epochs: number, 0 or more; default 1.0",
        "    Epochs, or a part of one, in which the rate climbs evenly to its full height; at most half of those "
        "before the first drop.",
        "",
        "  drops: list, each number, more than 0, less than 1; default [0.5, 0.75]",
        "    The shares of the training after which it drops.",
        "",
        "  leaves: number, more than 0, less than 1; default 0.1",
        "    What each drop leaves of the rate, as a share of what it was.",
    ]


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("", "schedule     constant cosine one_cycle plateau polynomial step"),
        ("", "train        How long and in what portions, and what becomes of a training that goes wrong."),
        ("mixing", "none    No blending: each picture is learnt as it is."),
        ("train.epochs", "  epochs: whole number, 1 or more; default 10"),
        ("seed", "  seed: whole number, 0 or more, less than 4294967296; default 0"),
        ("train.when_diverging", "  when_diverging: stop | rollback; default stop"),
        ("compute.sharded", "  sharded: true or false; default false"),
        (
            "name",
            "  name: text, at most 64 letters, digits, dots, hyphens and underscores, a letter or digit first; must be "
            "set",
        ),
        ("augment.light.size", "  size: whole number, 4 to 4096; must be set"),
        ("augment.light.frame", "  frame.tile: whole number, 0 to 30000; default 0"),
        ("augment.strong.flip", "  flip: true | false | alternating; default true"),
        ("schedule.one_cycle.warmup_epochs", "  warmup_epochs: number, 0 or more, or null; default null"),
        ("loss.sum.terms.weight", "  terms.weight: number, more than 0, 1000000 or less; default 1.0"),
        ("notify.email", "  email: list, each text, name@host, 50 of them or fewer; default []"),
        ("task.regression.circular", "  circular: keys, each with number, more than 0; default {}"),
        (
            "optimizer.adamw.betas",
            "  betas: list of 2: number, 0 or more, less than 1; number, 0 or more, less than 1; default [0.9, 0.999]",
        ),
        ("average.none", "average: {name: none}"),
        ("data.table", "      image,mask                                        a mask for each picture"),
    ],
)
def test_words(place: str, line: str) -> None:
    assert line in lines(place)


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("trian", "trian: no such section of params.yaml. Did you mean 'train'? `convoy options` lists them."),
        ("step", "step: no such section of params.yaml. Did you mean 'schedule.step'? `convoy options` lists them."),
        (
            "schedule.stepp",
            "schedule.stepp: no schedule named 'stepp'. Did you mean 'step'? pipeline/schedules/ has: constant, "
            "cosine, one_cycle, plateau, polynomial, step.",
        ),
        ("schedule.step.drop", "schedule.step: no option named 'drop'. Did you mean 'drops'?"),
        ("schedule.step.x", "schedule.step: no option named 'x'. It has: warmup_epochs, drops, leaves."),
        ("order.shuffled.x", "order.shuffled: no option named 'x'. It has none."),
        ("train.epoch", "train: no option named 'epoch'. Did you mean 'epochs'?"),
    ],
)
def test_what_there_is_not_gets_the_nearest_name(place: str, words: str) -> None:
    with pytest.raises(UserError) as raised:
        list(told(place))
    assert str(raised.value) == words


def test_torch_is_loaded_for_none_of_the_sections() -> None:
    code = (
        "import sys; from flows.options import show; [show(place) for place in ('', 'train', 'loss', 'schedule.step')];"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def test_a_terminal_is_filled_to_80_columns_and_a_pipe_gets_a_paragraph_a_line() -> None:
    command = [sys.executable, "-m", "flows.cli", "options", "train"]
    piped = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert piped.splitlines() == lines("train")
    ours, its = pty.openpty()
    with subprocess.Popen(command, cwd=ROOT, stdout=its, env={**os.environ, "COLUMNS": "200"}):
        os.close(its)
        shown = b""
        while chunk := _read(ours):
            shown += chunk
    os.close(ours)
    wrapped = shown.decode().splitlines()
    assert max(map(len, wrapped)) <= 80 < max(map(len, piped.splitlines()))
    assert shown.decode().split() == piped.split()


def _read(handle: int) -> bytes:
    try:
        return os.read(handle, 1 << 16)
    except OSError:  # the other end is closed
        return b""
