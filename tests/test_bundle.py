"""The bundle: a model on disk that answers as the trained one did, whatever code is around it."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from pipeline import bundle
from pipeline.bundle import Bundle, BundleInfo, digest_of
from pipeline.contracts import Frame
from pipeline.errors import UserError
from pipeline.images import ImageError, encode_png

INFO = BundleInfo(
    task={"name": "classification", "score": "accuracy"},
    classes=["a", "b", "c"],
    channels=1,
    frame=Frame(),
    packed=12,
    size=8,
    mean=[0.4],
    deviation=[0.2],
    model={"name": "tiny"},
    parameters=99,
    dataset="d" * 64,
)


TILES = ((2, 3), (1, 1), (1, 4), (3, 1))
"""Rows and columns of the tiles of four pictures."""


def network() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    with torch.no_grad():
        net(torch.randn(16, 1, 8, 8))  # moves the running mean
    return net


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    bundle.write(folder, INFO, network())
    return folder


def outputs(opened: Bundle, pictures: np.ndarray) -> np.ndarray:
    """All at once."""
    return np.concatenate([np.zeros((0, 3), np.float32), *opened.outputs(pictures)])


@pytest.mark.parametrize("count", [0, 1, 2, 5, 300])
def test_it_answers_as_the_network_did(root, count):
    pictures = np.random.default_rng(count).integers(0, 256, (count, 12, 12, 1), dtype=np.uint8)
    answers = outputs(Bundle.open(root), pictures)
    net = network().eval()
    seen = torch.from_numpy(pictures[:, 2:10, 2:10].transpose(0, 3, 1, 2).copy()).float() / 255
    with torch.no_grad():
        expected = net((seen - 0.4) / 0.2).numpy() if count else np.zeros((0, 3), np.float32)
    assert answers.dtype == np.float32
    np.testing.assert_allclose(answers, expected, atol=1e-4)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits.astype(np.float64))
    return powers / powers.sum(axis=-1, keepdims=True)


def test_encoded_pictures_and_their_answers(root):
    opened = Bundle.open(root)
    pictures = [
        np.random.default_rng(0).integers(0, 256, (height, width, 1), dtype=np.uint8)
        for height, width in ((24, 36), (12, 12), (50, 12))
    ]
    prepared = [opened.prepare(encode_png(picture)) for picture in pictures]
    assert [one.size for one in prepared] == [(36, 24), (12, 12), (12, 50)]
    assert [one.squares.shape for one in prepared] == [(1, 12, 12, 1)] * 3
    assert (prepared[1].squares[0] == pictures[1]).all()  # as large as it is seen: nothing is interpolated
    assert (prepared[2].squares[0] == pictures[2][19:31]).all()  # the middle
    told = opened.answer(prepared)
    expected = softmax(outputs(opened, np.concatenate([one.squares for one in prepared])))
    assert np.stack(told) == pytest.approx(expected, abs=1e-6)
    assert np.stack(told).sum(axis=1) == pytest.approx(np.ones(3))
    (alone,) = opened.answer(prepared[:1])
    assert alone == pytest.approx(told[0], abs=1e-6)
    assert opened.answer([]) == []
    with pytest.raises(ImageError, match="the file is empty"):
        opened.prepare(b"")


def test_a_picture_in_tiles_is_one_answer_in_whatever_portions_it_comes(root, tmp_path, monkeypatch):
    for name in bundle.FILES:
        shutil.copy(root / name, tmp_path)
    tiled = INFO.model_copy(update={"frame": Frame(name="tiles", overlap=0)})
    (tmp_path / "bundle.json").write_text(tiled.model_dump_json())
    opened = Bundle.open(tmp_path)
    random = np.random.default_rng(1)
    pictures = [random.integers(0, 256, (12 * rows, 12 * columns, 1), dtype=np.uint8) for rows, columns in TILES]
    prepared = [opened.prepare(encode_png(picture)) for picture in pictures]
    assert [len(one.squares) for one in prepared] == [rows * columns for rows, columns in TILES]
    # row by row, each tile as it is
    assert (prepared[0].squares[1] == pictures[0][:12, 12:24]).all()
    assert (prepared[0].squares[3] == pictures[0][12:24, :12]).all()
    each = [softmax(outputs(opened, one.squares)).mean(axis=0) for one in prepared]  # classification takes the mean
    for portion in (1, 2, 4, 5, 100):
        monkeypatch.setattr(bundle, "BATCH", portion)
        assert np.stack(opened.answer(prepared)) == pytest.approx(np.stack(each), abs=1e-6)


def test_a_bundle_from_before_there_were_frames_shows_the_middle(root, tmp_path):
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    (tmp_path / "bundle.json").write_text(INFO.model_dump_json(exclude={"frame"}))
    picture = encode_png(np.random.default_rng(0).integers(0, 256, (24, 36, 1), dtype=np.uint8))
    ((old,), (new,)) = (opened.answer([opened.prepare(picture)]) for opened in map(Bundle.open, (tmp_path, root)))
    assert (old == new).all()


def test_answers_that_are_no_numbers_are_said(root, tmp_path):
    net = network()
    with torch.no_grad():
        net[-1].bias[1] = float("nan")
    bundle.write(tmp_path, INFO, net)
    opened = Bundle.open(tmp_path)
    with pytest.raises(UserError, match="answers 2 of 2 pictures with values that are not finite: its training div"):
        opened.answer([opened.prepare(encode_png(np.zeros((12, 12, 1), np.uint8)))] * 2)


def test_the_same_model_is_the_same_bytes_and_names_no_path(root, tmp_path):
    bundle.write(tmp_path, INFO, network())
    assert digest_of(tmp_path) == digest_of(root)
    archive = zipfile.ZipFile(root / "network.pt2")
    (graph,) = (name for name in archive.namelist() if name.endswith("models/model.json"))
    assert str(Path(torch.__file__).parent).encode() not in archive.read(graph)
    assert load_file(root / "weights.safetensors").keys() == network().state_dict().keys()


def test_a_changed_file_is_another_model(root, tmp_path):
    for name in bundle.FILES:
        (tmp_path / name).write_bytes((root / name).read_bytes())
    assert digest_of(tmp_path) == digest_of(root)
    (tmp_path / "weights.safetensors").write_bytes(b"x")
    assert digest_of(tmp_path) != digest_of(root)
    (tmp_path / "network.pt2").unlink()
    with pytest.raises(UserError, match="is incomplete"):
        digest_of(tmp_path)


def test_what_torch_cannot_export_is_said(tmp_path):
    class Fickle(nn.Module):
        def forward(self, x):
            return x.sum() if x.sum() > 0 else x.mean()

    with pytest.raises(UserError, match="cannot be exported, so it cannot be served"):
        bundle.write(tmp_path, INFO, Fickle())


def test_no_bundle(tmp_path):
    with pytest.raises(UserError, match=r"No model can be read in .*`convoy run` makes it\."):
        Bundle.open(tmp_path)
