"""Steps of Lightning's own loop, precision `bf16-mixed`, timed from within."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from made_up import Stream
from torch import Tensor, nn
from torch.optim import Optimizer

WARM = 3
"""Steps before those that count."""


def steps_of_lightning(
    network: nn.Module, loss: Callable[[Any], Tensor], optimizer: Callable[[], Optimizer], batch: Any, steps: int
) -> Callable[[], float]:
    """Seconds of a step, whenever it is asked for.

    Args:
        network: on the device.
        loss: of a batch, by the network.
        optimizer: makes one over its weights.
        batch: the same in every step.
        steps: that count.
    """
    import lightning.pytorch as lightning

    device = next(network.parameters()).device
    for noisy in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(noisy).setLevel(logging.ERROR)

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def training_step(self, given: Any, index: int) -> Tensor:
            return loss(given)

        def configure_optimizers(self) -> Any:
            return optimizer()

    def turn() -> float:
        trainer = lightning.Trainer(
            accelerator="gpu" if device.type == "cuda" else "cpu",
            devices=1,
            precision="bf16-mixed",
            max_steps=WARM + steps,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        moments: dict[int, float] = {}

        def given() -> Iterator[Any]:
            for number in range(WARM + steps + 1):
                if number in (WARM, WARM + steps):
                    if device.type == "cuda":
                        torch.cuda.synchronize()
                    moments[number] = time.perf_counter()
                yield batch

        trainer.fit(Module(), Stream(given))
        network.to(device)  # Lightning leaves it on the processor
        return (moments[WARM + steps] - moments[WARM]) / steps

    return turn
