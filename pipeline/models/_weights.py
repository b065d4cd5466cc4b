"""Options of classifiers that may start from weights in a file that lies here; nothing is ever downloaded."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field, model_validator
from torch import Tensor, nn

from pipeline.contracts import ModelConfig
from pipeline.errors import UserError
from pipeline.models._detection.weights import COUNTER, WHERE, fitted, prefix_of, read


class Weighted(ModelConfig):
    """A network whose weights may come from a file."""

    weights: str = ""
    """A file of weights to start from, `.safetensors` or torch's: of this architecture as its library saves it, or of a
    model that was trained here (`out/model/weights.safetensors`). The last layer stays fresh where its classes are
    others. A relative path is the project's, `~` is your home; empty: fresh weights."""
    weights_sha256: str = Field("", pattern=r"^([0-9a-f]{64})?$")
    """The digest of that file, as `sha256sum` prints it: a run is what params say, and a path does not say it."""

    @model_validator(mode="after")
    def _says_which_weights(self) -> Weighted:
        if bool(self.weights) != bool(self.weights_sha256):
            raise ValueError("weights and weights_sha256 go together: `sha256sum FILE` prints the second; give both")
        return self

    def started(self, network: nn.Module) -> nn.Module:
        """The same network, with the weights of the file if there is one.

        Raises:
            UserError: the file cannot be read, is another one, or is of another network.
        """
        if self.weights:
            take_over(network, self.weights, self.weights_sha256)
        return network


def take_over(network: nn.Module, path: str, sha256: str) -> None:
    """Give a classifier the weights of a file.

    Args:
        network: changed in place.
        path: of the file, whose names may all begin with something more, as `network.`.
        sha256: of the file.

    Raises:
        UserError: the file cannot be read, is another one, or is of another network.
    """
    own = network.state_dict()
    found = _named_alike(own, read(path, sha256))
    last = list(own)[-1].rpartition(".")[0] + "."
    fitting, problems = fitted(own, found, lambda name: name.startswith(last) or name.endswith(COUNTER))
    if problems:
        raise UserError(
            f"{WHERE}: {path} is of another network: {'; '.join(problems)}. Take the architecture that it was made "
            "with, its options, and pictures of as many channels."
        )
    if any(name.startswith(last) for name in own if name not in fitting):  # all of the last layer or nothing of it
        fitting = {name: weights for name, weights in fitting.items() if not name.startswith(last)}
    network.load_state_dict(fitting, strict=False)


def _named_alike(own: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    prefix = prefix_of(own, found)
    return {name.removeprefix(prefix): tensor for name, tensor in found.items() if name.startswith(prefix)}
