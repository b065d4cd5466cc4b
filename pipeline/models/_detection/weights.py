"""Weights for a backbone from a file that lies here: read without unpickling, and only if every one of them fits."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.files import project

COUNTER = "num_batches_tracked"  # files from before batch normalisation had it lack it
SHOWN = 5
WHERE = "params.yaml: model.weights"


def check_named(path: str, sha256: str) -> None:
    """Refuse a digest without the file that it is of, as options name both.

    Raises:
        ValueError: there is one.
    """
    if sha256 and not path:
        raise ValueError("weights_sha256 is given, and weights names no file; give both, or leave it out")


def load_weights(body: nn.Module, path: str, sha256: str, names: set[str]) -> None:
    """Give a backbone the weights of a file; nothing at all happens if `path` is empty.

    What the file has of other parts, such as the last layer of a classifier, is left there. Its names may begin with
    anything, as `1.` or `backbone.`, if all do.

    Args:
        body: moved in place.
        path: of the file; `~` is your home, a relative path the project's.
        sha256: of the file, if not empty.
        names: of the weights of the whole classifier that `body` was cut from.

    Raises:
        UserError: the file cannot be read, is another one, lacks weights, or holds those of another network.
    """
    if not path:
        return
    found = read(path, sha256)
    wanted = body.state_dict()
    prefix = prefix_of(wanted, found)
    given = {name.removeprefix(prefix): tensor for name, tensor in found.items() if name.startswith(prefix)}
    missing = [name for name in wanted if name not in given and not name.endswith(COUNTER)]
    foreign = [name for name in given if name not in wanted and name not in names]
    other = [
        f"{name} is {list(given[name].shape)}, and {list(tensor.shape)} is needed"
        for name, tensor in wanted.items()
        if name in given and given[name].shape != tensor.shape
    ]
    problems = [
        *listed("missing", missing),
        *listed("not of this backbone", foreign),
        *listed("of another shape", other),
    ]
    if problems:
        raise UserError(
            f"{WHERE}: {path} does not fit the backbone: {'; '.join(problems)}. Take the file of this very "
            "architecture, or another model.backbone."
        )
    body.load_state_dict({name: given.get(name, tensor) for name, tensor in wanted.items()})


def fitted(
    own: Mapping[str, Tensor], found: Mapping[str, Tensor], fresh: Callable[[str], bool]
) -> tuple[dict[str, Tensor], list[str]]:
    """What of a file fits a whole network.

    Args:
        own: weights of the network.
        found: those of the file.
        fresh: which of its own the network may keep, as those of its last layer.

    Returns:
        What is to be taken over, and, in words, what is missing or of another shape.
    """
    fitting = {name: found[name] for name in own if name in found and found[name].shape == own[name].shape}
    needed = [name for name in own if not fresh(name)]
    missing = [name for name in needed if name not in found]
    other = [
        f"{name} is {list(found[name].shape)}, and {list(own[name].shape)} is needed"
        for name in needed
        if name in found and name not in fitting
    ]
    return fitting, [*listed("missing", missing), *listed("of another shape", other)]


def read(path: str, sha256: str) -> dict[str, Tensor]:
    """The tensors of a file, by name.

    Raises:
        UserError: it cannot be read, or is another one.
    """
    place = Path(path).expanduser()
    place = place if place.exists() else project() / place
    try:
        data = place.read_bytes()
    except OSError as error:
        raise UserError(f"{WHERE}: {path} cannot be read: {error.strerror}. Give the path of a file.") from None
    if sha256 and (digest := hashlib.sha256(data).hexdigest()) != sha256:
        raise UserError(
            f"{WHERE}_sha256: {path} hashes to {digest}, not to {sha256}: it is another file. Restore the old one, or "
            "set the new digest."
        )
    try:
        if place.suffix == ".safetensors":
            from safetensors.torch import load

            tensors: object = load(data)
        else:
            tensors = torch.load(place, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files raise nearly anything; so does a pickle of more than tensors
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise UserError(
            f"{WHERE}: {path} holds no plain weights: {reason} Save a state_dict as .safetensors, or with torch.save."
        ) from None
    if not isinstance(tensors, Mapping) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise UserError(
            f"{WHERE}: {path} holds no state_dict: expected tensors by name, found {type(tensors).__name__}. Save "
            "network.state_dict()."
        )
    return {str(name): tensor for name, tensor in tensors.items()}


def prefix_of(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    """What stands before the names in the file: the beginning with which most of those that are wanted are there."""
    first = next(iter(wanted))
    beginnings = {"", *(name.removesuffix(first) for name in found if name.endswith(f".{first}"))}
    return max(sorted(beginnings), key=lambda prefix: sum(prefix + name in found for name in wanted))


def listed(what: str, names: Sequence[str]) -> list[str]:
    """`3 missing (a, b, c)`, or nothing."""
    if not names:
        return []
    more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return [f"{len(names)} {what} ({', '.join(names[:SHOWN])}{more})"]
