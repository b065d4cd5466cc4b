"""The bundle: a trained model as a folder that answers without the code that trained it.

    bundle.json          classes, preprocessing, architecture
    weights.safetensors  the network's weights, to train on from
    network.pt2          the network as an exported program, uint8 pictures in, logits or boxes out

The exported program holds its own graph, so a champion answers the same after the code of its architecture has changed.
Nothing in it is pickled, and the same model gives the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from pydantic import Field, ValidationError

from pipeline import frames
from pipeline.contracts import Frame, Options, TaskConfig, Views
from pipeline.errors import UserError
from pipeline.files import write_bytes, write_json
from pipeline.images import center_crop, cut, decode
from pipeline.plugin import config_class
from pipeline.telling import Held

if TYPE_CHECKING:
    import torch
    from torch import nn

BUNDLE = Path("out/model")
BATCH = 32
"""Squares that a network sees at a time where many are asked about: maps of many classes are large."""
FILES = ("bundle.json", "network.pt2", "weights.safetensors")


class BundleInfo(Options):
    """`bundle.json`."""

    task: dict[str, Any]
    """The task's name and options."""
    classes: list[str]
    channels: int
    """C of the pictures."""
    frame: Frame = Frame.model_validate({})
    """What of a picture is shown to the network, as squares; bundles from before there were others show the middle."""
    packed: int
    """P: side of these squares."""
    size: int
    """S <= P: the network sees the S x S centre."""
    mean: list[float]
    """Of each channel over the training pictures, in 0..1; subtracted inside the exported program."""
    deviation: list[float]
    """Of each channel, likewise; divided by inside the exported program."""
    model: dict[str, Any]
    """The architecture's name and options."""
    parameters: int
    """Weights of the network."""
    learnt: int | None = None
    """How many of them training moves; bundles from before this was told say that as `parameters`."""
    ensemble: dict[str, Any] = Field(default_factory=dict)
    """How many trainings made it, by what they differ and how they are joined; empty: one."""
    dataset: str
    """Digest of the dataset that it learnt from."""

    @property
    def sized(self) -> str:
        """`463,594 parameters`, or, where not all are, `463,594 parameters, 1,290 of them learnt`."""
        few = self.learnt is not None and self.learnt != self.parameters
        return f"{self.parameters:,} parameters" + (f", {self.learnt:,} of them learnt" if few else "")


class Prepared(NamedTuple):
    """A picture as a network sees it."""

    size: tuple[int, int]
    """Width and height of the picture."""
    squares: np.ndarray
    """uint8 [v, P, P, C]."""


class Bundle:
    """A bundle on disk, opened; the network is loaded on the first question."""

    def __init__(self, root: Path, info: BundleInfo) -> None:
        self.root = root
        self.info = info

    @classmethod
    def open(cls, root: Path = BUNDLE) -> Bundle:
        """Open the bundle in `root`.

        Raises:
            UserError: there is none.
        """
        try:
            return cls(root, BundleInfo.model_validate_json((root / "bundle.json").read_bytes()))
        except (OSError, ValidationError) as error:
            raise UserError(f"No model can be read in {root}: {error}. `convoy run` makes it.") from error

    @cached_property
    def task(self) -> TaskConfig:
        """What its outputs mean."""
        options = dict(self.info.task)
        task = config_class("tasks", options.pop("name")).model_validate(options)
        assert isinstance(task, TaskConfig)
        return task

    def digest(self) -> str:
        """sha256 over its files: the model's identity."""
        return digest_of(self.root)

    def outputs(self, pictures: np.ndarray, device: torch.device | None = None) -> Iterator[np.ndarray]:
        """The raw answers of the network, some squares at a time: all of them may not fit into memory.

        Args:
            pictures: packed squares, uint8 [V, P, P, C].
            device: where to compute; the processor if None.

        Yields:
            float32 [v, ...], as the task needs it, V rows in all.
        """
        import torch

        network = self._program(str(device or "cpu"))
        for start in range(0, len(pictures), BATCH):
            seen = np.array(center_crop(pictures[start : start + BATCH], self.info.size))
            # A lone picture goes in twice: an exported program takes batches of two or more.
            padded = seen if len(seen) > 1 else np.concatenate([seen, seen])
            # A GPU would round float32 to TF32, and a picture's answer would depend on the size of its batch.
            exact = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
            with torch.inference_mode(), exact:
                answers = network(torch.from_numpy(padded).to(device or "cpu"))[: len(seen)].float().cpu().numpy()
            yield answers

    def told(self, pictures: np.ndarray, seen: Views, device: torch.device | None = None) -> list[Any]:
        """What the network says of N pictures, as the task reads it.

        Args:
            pictures: their packed squares, uint8 [V, P, P, C].
            seen: which squares of which pictures they are.
            device: where to compute; the processor if None.

        Raises:
            UserError: the outputs are not numbers.
        """
        held, lost = Held(self.task, seen), 0
        for outputs in self.outputs(pictures, device):
            lost += int((~np.isfinite(outputs).reshape(len(outputs), -1).all(axis=1)).sum())
            held.add(outputs)
        if lost:
            raise UserError(
                f"The model in {self.root} answers {lost} of {len(pictures)} pictures with values that are not finite: "
                "its training diverged. Lower `optimizer.lr` in params.yaml."
            )
        return held.told

    def views(self, sizes: np.ndarray) -> Views:
        """The squares that the network sees of pictures, int64 [N, 2] of width and height."""
        return frames.views(self.info.frame, sizes, self.info.packed)

    def prepare(self, encoded: bytes) -> Prepared:
        """An encoded picture as the network's preprocessing has it.

        Raises:
            ImageError: the bytes are no picture.
        """
        pixels = decode(encoded, self.info.channels)
        size = (pixels.shape[1], pixels.shape[0])
        seen = self.views(np.array([size]))
        return Prepared(size, np.stack([cut(pixels, region, self.info.packed) for region in seen.regions]))

    def answer(self, prepared: Sequence[Prepared], device: torch.device | None = None) -> list[Any]:
        """What the network says of prepared pictures, as the task reads it."""
        if not prepared:
            return []
        seen = self.views(np.array([one.size for one in prepared]))
        return self.told(np.concatenate([one.squares for one in prepared]), seen, device)

    def _program(self, device: str) -> Callable[[torch.Tensor], torch.Tensor]:
        if device not in self._programs:
            import torch

            os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"  # torch falls back to unpickling otherwise
            data = (self.root / "network.pt2").read_bytes()
            if b"torch.ops.torchvision." in data:  # its operations are known once it is imported, which takes seconds
                import torchvision  # noqa: F401
            program = torch.export.load(io.BytesIO(data))
            if device != "cpu":
                from torch.export.passes import move_to_device_pass

                program = move_to_device_pass(program, device)
            self._programs[device] = program.module()
        network: Callable[[torch.Tensor], torch.Tensor] = self._programs[device]
        return network

    @cached_property
    def _programs(self) -> dict[str, Any]:
        return {}


def digest_of(root: Path) -> str:
    """sha256 over a bundle's files, by name and content.

    Raises:
        UserError: a file is missing.
    """
    whole = hashlib.sha256()
    for name in FILES:
        try:
            whole.update(f"{name} {hashlib.sha256((root / name).read_bytes()).hexdigest()}\n".encode())
        except OSError as error:
            raise UserError(f"The model in {root} is incomplete: {error}.") from error
    return whole.hexdigest()


def write(root: Path, info: BundleInfo, network: nn.Module) -> None:
    """Write a bundle into the folder `root`.

    Args:
        root: an existing folder.
        info: what to say about it.
        network: from float32 [B, C, S, S] to logits or boxes; it is moved to the processor and to float32.

    Raises:
        UserError: torch cannot export this architecture.
    """
    import torch
    from safetensors.torch import save

    network = network.to("cpu", torch.float32).to(memory_format=torch.contiguous_format).eval()
    weights = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    write_json(root / "bundle.json", info.model_dump(mode="json"))
    write_bytes(root / "weights.safetensors", save(weights))
    write_bytes(root / "network.pt2", _exported(network, info))


def normaliser(mean: Sequence[float], deviation: Sequence[float]) -> nn.Module:
    """The module from uint8 [B, S, S, C] to normalised float32 [B, C, S, S]; training and the bundle share it."""
    import torch
    from torch import Tensor, nn

    class Normalise(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shift = nn.Buffer(torch.tensor(mean, dtype=torch.float32).mul(255).view(1, -1, 1, 1))
            self.scale = nn.Buffer(torch.tensor(deviation, dtype=torch.float32).mul(255).view(1, -1, 1, 1))

        def forward(self, pictures: Tensor) -> Tensor:
            return (pictures.permute(0, 3, 1, 2).float() - self.shift) / self.scale

    return Normalise()


def _exported(network: nn.Module, info: BundleInfo) -> bytes:
    import torch
    from torch import nn

    whole = nn.Sequential(normaliser(info.mean, info.deviation), network).eval()
    example = torch.zeros(2, info.size, info.size, info.channels, dtype=torch.uint8)
    try:
        program = torch.export.export(
            whole, (example,), dynamic_shapes=({0: torch.export.Dim("batch", min=2)},), strict=False
        )
    except Exception as error:  # torch.export raises nearly anything on a network that it cannot trace
        raise UserError(
            f"The trained network cannot be exported, so it cannot be served: {str(error).splitlines()[0]} "
            "Choose another `model`; the weights are kept in the checkpoint."
        ) from error
    for graph in (one for one in program.graph_module.modules() if isinstance(one, torch.fx.GraphModule)):
        for node in graph.graph.nodes:
            node.meta.pop("stack_trace", None)  # holds paths of this machine
    program._example_inputs = None  # would be stored, pickled
    out = io.BytesIO()
    torch.export.save(program, out)
    return out.getvalue()
