"""A GPU that is not there: tensors that say they lie on `cuda:0`, while the processor computes what they hold.

What a GPU would refuse is refused: operands on two devices, and operations that have no deterministic way there. What
makes the processor wait for it is noted. Only how a GPU rounds, what it costs and what its kernels do stays unknown.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.optim import optimizer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from pipeline import devices

GPU = torch.device("cuda:0")
aten = torch.ops.aten
CODE = str(Path(devices.__file__).parent)

REFUSED = {
    *("_adaptive_avg_pool2d_backward", "_adaptive_avg_pool3d_backward", "adaptive_max_pool2d_backward"),
    *("avg_pool3d_backward", "fractional_max_pool2d_backward", "max_unpool2d", "max_unpool3d"),
    *("upsample_linear1d_backward", "upsample_bilinear2d_backward", "upsample_bicubic2d_backward"),
    *("upsample_trilinear3d_backward", "_upsample_bilinear2d_aa_backward", "_upsample_bicubic2d_aa_backward"),
    *("reflection_pad1d_backward", "reflection_pad2d_backward", "reflection_pad3d_backward"),
    *("replication_pad1d_backward", "replication_pad2d_backward", "replication_pad3d_backward"),
    *("nll_loss2d", "nll_loss2d_forward", "nll_loss2d_backward", "_ctc_loss_backward", "put", "put_", "histc"),
    *("grid_sampler_2d_backward", "grid_sampler_3d_backward", "index_reduce"),
    *("kthvalue", "_embedding_bag_backward", "_roi_align_backward", "_roi_pool_backward", "deform_conv2d"),
}
"""What torch 2.15 and torchvision raise for on a GPU in deterministic mode; see `use_deterministic_algorithms`."""
WAITS = {
    *("_local_scalar_dense", "equal", "nonzero", "masked_select", "_unique2", "unique_dim", "bincount", "nms"),
    *("unique_consecutive", "_linalg_check_errors"),
}
"""What has the processor wait, for its result says how large something is."""


class Imagined(Tensor):
    """A tensor of the GPU. To C++ it lies on `meta`, where no driver is asked; to Python on the GPU."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> Imagined:
        with torch._C._DisableTorchDispatch():
            like = torch.empty_strided(inner.shape, inner.stride(), dtype=inner.dtype, device="meta")
            made = Tensor._make_subclass(cls, like, False, device_for_backend_keys=GPU)
        made.inner = inner
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return NOW[-1].__torch_dispatch__(function, types, args, kwargs)

    device = property(lambda self: GPU)
    is_cuda = property(lambda self: True)
    is_meta = is_cpu = property(lambda self: False)

    def item(self) -> Any:
        return aten._local_scalar_dense(self.detach())

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def cpu(self) -> Tensor:  # type: ignore[override]
        return self.to("cpu")

    def new_tensor(self, data: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:  # type: ignore[override]
        return torch.tensor(data, dtype=dtype or self.dtype, device=device or GPU, requires_grad=requires_grad)

    def __getitem__(self, places: Any) -> Any:
        return super().__getitem__(_sent(places))

    def __setitem__(self, places: Any, values: Any) -> None:
        super().__setitem__(_sent(places), values)

    def numpy(self, **_: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    def __array__(self, *_: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    def __bool__(self) -> bool:
        return bool(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        return int(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Imagined({tuple(self.shape)}, {self.dtype})"


@dataclass
class Watch(TorchDispatchMode):
    """The GPU itself."""

    waits: Counter[str] = field(default_factory=Counter)
    """What had the processor wait, with the line that asked for it: how often."""
    refused: Counter[str] = field(default_factory=Counter)
    """What has no deterministic way, likewise."""
    mixed: Counter[str] = field(default_factory=Counter)
    """What was asked of operands on two devices, likewise."""
    done: Counter[str] = field(default_factory=Counter)
    """What was asked of it at all."""
    strict: bool = False
    """Whether it raises what it refuses."""
    asked: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    """Copies to the processor that it was asked for and has not made: where they go to, and what they hold."""
    behind: bool = False
    """Whether it has not come by the events that are recorded now."""
    events: list[Event] = field(default_factory=list)
    """Those that it has not come by."""
    current: int = 0
    """Number of the GPU that is meant where none is named; only the first one computes."""

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        given = [each for each in tree_flatten((args, kwargs))[0] if isinstance(each, Tensor)]
        ours = any(isinstance(each, Imagined) for each in given)
        wanted = kwargs.get("device")
        here = ours if wanted is None else torch.device(wanted).type in ("cuda", "meta")
        if not ours and not here:
            pinned = kwargs.pop("pin_memory", None)
            made = function(*args, **kwargs)
            return _pinned(made) if pinned else made
        if wanted is not None:
            kwargs["device"] = torch.device("cpu")
        kwargs.pop("pin_memory", None)
        name = function.overloadpacket.__name__
        self._look(function, name, args, kwargs, given, ours, here)
        result = function(*tree_map(_opened, args), **tree_map(_opened, kwargs))
        if name == "_to_copy" and not here and kwargs.get("non_blocking"):
            self.asked.append((_pinned(torch.full_like(result, 113)), result))  # what nobody waits for is not there
            return self.asked[-1][0]
        written = [
            arg
            for arg, made in zip(args, function._schema.arguments, strict=False)
            if made.alias_info is not None and made.alias_info.is_write
        ]
        if written and isinstance(result, Tensor):
            assert result.shape == written[0].shape, f"{name} changes the shape of what it writes to"
            return written[0]
        return tree_map(_closed, result) if here else result

    def _look(
        self, function: Any, name: str, args: Any, kwargs: Any, given: list[Tensor], ours: bool, here: bool
    ) -> None:
        self.done[name] += 1
        strangers = [each for each in given if not isinstance(each, Imagined)]
        if name in ("_to_copy", "copy_") and (strangers or not here):
            fast = kwargs.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2])
            pinned = all(hasattr(each, "pinned") for each in strangers)
            if not (fast and pinned and (here or name == "_to_copy")):
                self._note(self.waits, f"{name} {'to' if here and strangers else 'from'} the GPU")
            return
        if name in ("index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index_put") and ours:
            if any(each is not None and each.dtype in (torch.bool, torch.uint8) for each in args[1]):
                self._note(self.waits, f"{name} by a mask")
            if any(each is not None and not isinstance(each, Imagined) for each in args[1]):
                self._note(self.waits, f"{name} by places on the processor")
            strangers = [each for each in strangers if not any(each is other for other in args[1])]
        if any(each.ndim or not _takes_scalars(function, name) for each in strangers) and ours:
            self._note(self.mixed, name)
            raise RuntimeError(f"Expected all tensors to be on the same device, but {name} found cuda:0 and cpu")
        if name in WAITS or (name == "repeat_interleave" and kwargs.get("output_size") is None):
            self._note(self.waits, name)
        refused = name in REFUSED or (name == "median" and len(args) > 1)
        refused |= name == "bincount" and (*args, None)[1] is not None
        refused |= name.startswith("scatter_reduce") and args[4] == "prod"  # the largest is the largest in any order
        if refused:
            self._note(self.refused, name)
            if self.strict:
                raise RuntimeError(f"{name} does not have a deterministic implementation")

    def choose(self, device: torch.device) -> None:
        """Have that GPU be the one that is meant."""
        self.current = device.index

    def synchronise(self, *_: Any) -> None:
        """Have it do all that it was asked."""
        self._note(self.waits, "synchronize")
        for copy, value in self.asked:
            copy.copy_(value)
        self.asked.clear()

    @staticmethod
    def _note(where: Counter[str], what: str) -> None:
        where[f"{what}: {_asked_in()}"] += 1


class Event:
    """Something that the GPU comes by, for whoever waits for it."""

    def __init__(self, **_: bool) -> None:
        self.passed = threading.Event()

    def record(self, _: Any = None) -> None:
        NOW[-1].events.append(self)
        if not NOW[-1].behind:
            self.passed.set()

    def synchronize(self) -> None:
        assert self.passed.wait(120)


NOW: list[Watch] = []


def _sent(places: Any) -> Any:
    """Places that are told as a list become a tensor of the GPU, as torch makes one there."""
    if isinstance(places, tuple):
        return tuple(map(_sent, places))
    return torch.tensor(places, device=GPU) if isinstance(places, list | np.ndarray) else places


def _without_gradients(mode: bool = True) -> Any:
    """In place of inference mode, whose views of other tensors cannot be imagined."""
    return torch.no_grad() if mode else nullcontext()


def _pinned(tensor: Tensor) -> Tensor:
    copy = tensor.clone()
    copy.pinned = True  # type: ignore[attr-defined]
    return copy


def _opened(value: Any) -> Any:
    return value.inner if isinstance(value, Imagined) else value


def _closed(value: Any) -> Any:
    return Imagined(value) if isinstance(value, Tensor) and not isinstance(value, Imagined) else value


def _takes_scalars(function: Any, name: str) -> bool:
    return (
        torch.Tag.pointwise in function.tags or name.startswith("_foreach") or name in ("where", "fill_", "lift_fresh")
    )


def _asked_in() -> str:
    """The innermost line of the pipeline that is being run, and the library's that it called."""
    frame, found = sys._getframe(2), ""
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(CODE):
            return f"{Path(file).relative_to(CODE)}:{frame.f_lineno}" + (f" ({found})" if found else "")
        if "site-packages" in file and "/torch/" not in file:
            found = found or f"{'/'.join(Path(file).parts[-2:])}:{frame.f_lineno}"
        frame = frame.f_back
    return found or "elsewhere"


def sent(tensor: Tensor) -> Tensor:
    """A tensor of the processor on the GPU."""
    return Imagined(tensor.detach().clone())


@contextmanager
def imagined() -> Iterator[Watch]:
    """A GPU, for as long as this lasts; it is looked after in this thread alone."""
    watch = Watch()
    with ExitStack() as stack:
        for where, name, instead in (
            (torch.cuda, "is_available", lambda: True),
            (torch.cuda, "device_count", lambda: 1),
            (torch.cuda, "current_device", lambda: watch.current),
            (torch.cuda, "set_device", watch.choose),
            (torch.cuda, "_lazy_init", lambda: None),
            (torch.cuda, "synchronize", watch.synchronise),
            (torch.cuda, "Event", Event),
            (torch.cuda, "current_stream", lambda *_: None),
            (torch.cuda, "empty_cache", lambda: None),
            (torch.cuda, "is_current_stream_capturing", lambda: False),
            (torch.cuda, "get_device_name", lambda *_: "Imagined"),
            (
                torch.cuda,
                "get_device_properties",
                lambda *_: mock.Mock(total_memory=2**33, uuid="imagined", major=9, minor=0),
            ),
            (torch.cuda, "mem_get_info", lambda *_: (2**33, 2**33)),
            (torch.cuda, "default_generators", (torch.default_generator,)),
            (torch.amp.grad_scaler, "amp_definitely_not_available", lambda: False),
            (functional, "adaptive_avg_pool2d", functional.adaptive_avg_pool2d),  # `set_up` has others for a GPU
            (functional, "grid_sample", functional.grid_sample),
            (Tensor, "pin_memory", lambda tensor: tensor if hasattr(tensor, "pinned") else _pinned(tensor)),
            (Tensor, "is_pinned", lambda tensor: hasattr(tensor, "pinned")),
            (torch, "inference_mode", _without_gradients),
            (optimizer, "_foreach_supported_types", [*optimizer._foreach_supported_types, Imagined]),
        ):
            if hasattr(where, name):
                stack.enter_context(mock.patch.object(where, name, instead))
        torch._C._ensureCUDADeviceGuardSet()  # one that asks no driver, as FakeTensorMode has it
        lifted = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)
        stack.callback(torch._C._set_only_lift_cpu_tensors, lifted)
        before = torch.__future__.get_overwrite_module_params_on_conversion()
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, before)
        NOW.append(watch)
        stack.callback(NOW.pop)
        stack.enter_context(watch)
        yield watch
