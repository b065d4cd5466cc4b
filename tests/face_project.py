"""A project whose champion recognises faces, made in a moment: networks that look at pixels, and learn nothing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from decision_project import make_case
from torch import Tensor, nn

from pipeline import bundle
from pipeline.bundle import BundleInfo, digest_of
from pipeline.contracts import Frame
from pipeline.registry import decisions
from pipeline.registry.champion import Version

ROOT = Path(__file__).parents[1]
NAME = "faces"
FACE, SCENE = 16, 64
THRESHOLD = 0.05


class Grid(nn.Module):
    """The brightness of the parts of a face, less its mean: an embedding."""

    def __init__(self, parts: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(parts)

    def forward(self, pictures: Tensor) -> Tensor:
        parts = self.pool(pictures.mean(dim=1, keepdim=True)).flatten(1)
        return nn.functional.normalize(parts - parts.mean(dim=1, keepdim=True))


class Bright(nn.Module):
    """A box around what is not black in each half of a scene; without such the score is 0."""

    def forward(self, pictures: Tensor) -> Tensor:
        rows = []
        for half, left in ((pictures[:, :, :, : SCENE // 2], 0), (pictures[:, :, :, SCENE // 2 :], SCENE // 2)):
            light = half.amax(dim=1) > -0.9
            across, down = light.any(dim=1).float(), light.any(dim=2).float()
            x1, y1 = left + across.argmax(dim=1), down.argmax(dim=1)
            x2, y2 = left + SCENE // 2 - across.flip(1).argmax(dim=1), SCENE - down.flip(1).argmax(dim=1)
            score = 0.9 * light.any(dim=2).any(dim=1).float()
            rows.append(torch.stack([x1, y1, x2, y2, score, torch.zeros_like(score)], dim=1))
        return torch.stack(rows, dim=1).float()


class Whitest(nn.Module):
    """The lightest pixel of the left and of the right half of a face: two eyes."""

    def forward(self, pictures: Tensor) -> Tensor:
        points = []
        grey = pictures.mean(dim=1)
        for half, left in ((grey[:, :, : SCENE // 2], 0), (grey[:, :, SCENE // 2 :], SCENE // 2)):
            place = half.flatten(1).argmax(dim=1)
            x, y = left + place % (SCENE // 2) + 0.5, place // (SCENE // 2) + 0.5
            points.append(torch.stack([x, y, torch.ones_like(x)], dim=1))
        return torch.stack(points, dim=1).float()


def make_bundle(root: Path, network: nn.Module, task: dict[str, Any], classes: list[str], size: int) -> Path:
    root.mkdir(parents=True)
    info = BundleInfo(
        task=task,
        classes=classes,
        channels=3,
        frame=Frame(name="pad"),
        packed=size,
        size=size,
        mean=[0.5] * 3,
        deviation=[0.5] * 3,
        model={"name": "embedding"},
        parameters=0,
        dataset="d" * 64,
    )
    bundle.write(root, info, network)
    return root


def make_project(root: Path) -> None:
    """`model` and `other` recognise, `detector` finds, `points` sees eyes."""
    root.mkdir(parents=True)
    shutil.copy(ROOT / "dvc.yaml", root)
    text = (ROOT / "params.yaml").read_text().replace("name: digits               # of", f"name: {NAME}  # of", 1)
    (root / "params.yaml").write_text(text)
    recognition = {"name": "face_recognition", "threshold": THRESHOLD}
    make_bundle(root / "model", Grid(4), {**recognition, "embedding": 16}, ["a", "b"], FACE)
    make_bundle(root / "other", Grid(2), {**recognition, "embedding": 4}, ["a", "b"], FACE)
    make_bundle(root / "detector", Bright(), {"name": "object_detection"}, ["face"], SCENE)
    make_bundle(root / "points", Whitest(), {"name": "keypoints"}, ["right_eye", "left_eye"], SCENE)


def crown(folder: str, number: str = "1") -> str:
    """The model in a folder of the current project becomes champion; its digest."""
    version = Version(name=NAME, version=number, digest=digest_of(Path(folder)), dataset="d" * 64, location=folder)
    decisions.promoted_by_gate(make_case(version))
    return version.digest


def face(person: int, shot: int = 0, side: int = FACE) -> np.ndarray:
    """One of a person's pictures, uint8 [side, side, 3]: the same parts, under another light each time."""
    parts = np.random.default_rng(person).uniform(60, 230, (4, 4))
    light = np.random.default_rng((person, shot)).uniform(-8, 8, (4, 4))
    pixels = np.kron(parts + light, np.ones((side // 4, side // 4)))
    return np.repeat(pixels.astype(np.uint8)[:, :, None], 3, axis=2)
