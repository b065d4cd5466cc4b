"""`dvc.yaml` says the truth: a stage's deps are the files that it imports, its params the sections that it reads."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import yaml

from pipeline.params import PART_FOLDERS, AugmentParams, EvaluateParams, IngestParams, TrainParams

ROOT = Path(__file__).parents[1]
MAIN = ROOT / "pipeline" / "__main__.py"
SECTIONS = {"ingest": IngestParams, "augment": AugmentParams, "train": TrainParams, "evaluate": EvaluateParams}
NEUTRAL = {"train.checkpoint_seconds", "compute.loader_threads"}
"""Keys of listed sections that no result depends on."""


def modules(nodes) -> set[Path]:
    """The files of this project that some syntax imports, but for what only a type checker sees."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        names = []
        if isinstance(node, ast.ImportFrom):
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        places = [ROOT.joinpath(*name.split(".")) for name in names if name.startswith("pipeline.")]
        paths = [path for place in places for path in (place.with_suffix(".py"), place / "__init__.py")]
        found |= {path for path in paths if path.exists()} | modules(ast.iter_child_nodes(node))
    return found


def closure(files: set[Path]) -> set[Path]:
    seen: set[Path] = set()
    while files - seen:
        path = (files - seen).pop()
        seen.add(path)
        files |= modules(ast.parse(path.read_text()).body)
    return seen


def imports_of(stage: str, params: dict) -> set[str]:
    """What `python -m pipeline <stage>` loads: from its function, from the top of the module, and by name."""
    tree = ast.parse(MAIN.read_text())
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    top = [node for node in tree.body if not isinstance(node, ast.FunctionDef)]
    files = modules(top) | modules(functions[stage].body)
    for section in set(SECTIONS[stage].model_fields) & set(PART_FOLDERS):
        folder = ROOT / "pipeline" / PART_FOLDERS[section]
        chosen = folder / f"{params[section]['name']}.py"
        # The helpers that any part of the folder uses are listed for every part: a list cannot depend on the part.
        files |= {chosen} | (closure(set(folder.glob("*.py"))) - set(folder.glob("[!_]*.py")))
    if stage == "ingest":  # the format `auto` may come to any other
        files |= set((ROOT / "pipeline" / "formats").glob("*.py"))
    if stage == "train":  # the loss `sum` may name any other
        files |= set((ROOT / "pipeline" / "losses").glob("*.py"))
    if stage == "evaluate":  # every metric
        files |= set((ROOT / "pipeline" / "metrics").glob("*.py"))
    if stage == "train":  # the one that decides
        metrics = ROOT / "pipeline" / "metrics"
        files |= {metrics / f"{params['task']['score']}.py", *metrics.glob("_*.py")}
    return {str(path.relative_to(ROOT)) for path in closure(files) | {MAIN} if path.name != "__init__.py"}


def declared(stage: str, params: dict) -> set[str]:
    deps = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][stage]["deps"]
    found = set()
    for dep in deps:
        if dep.startswith("out/"):
            continue
        for section in PART_FOLDERS:
            for key in ("name", "score"):
                dep = dep.replace(f"${{{section}.{key}}}", params.get(section, {}).get(key, ""))
        path = ROOT / dep
        assert path.exists(), f"{stage} lists {dep}, which does not exist"
        found |= {path} if path.is_file() else set(path.rglob("*.py"))
    return {str(path.relative_to(ROOT)) for path in found if path.name != "__init__.py"}


@pytest.mark.parametrize("stage", SECTIONS)
def test_deps_are_what_the_stage_imports(stage):
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert declared(stage, params) == imports_of(stage, params)


@pytest.mark.parametrize("stage", SECTIONS)
def test_params_are_what_the_stage_reads(stage):
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    listed = set(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][stage]["params"])
    assert {key.partition(".")[0] for key in listed} == set(SECTIONS[stage].model_fields)
    for section in {key.partition(".")[0] for key in listed if "." in key}:
        keys = {f"{section}.{key}" for key in params[section]} - NEUTRAL
        if stage == "evaluate":  # computes in float32, laid out as it comes
            keys -= {
                f"compute.{name}"
                for name in ("precision", "memory_format", "compile", "pictures", "processes", "sharded")
            }
        assert {key for key in listed if key.startswith(section + ".")} == keys
