"""A recipe for small pictures as users write it: PIL and torchvision in a `DataLoader`, a plain loop or Lightning."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from pipeline.policy import Policy
from pipeline.train.batches import Material


class Recipe(NamedTuple):
    """How a network learns."""

    device: torch.device
    epochs: int
    batch_size: int
    lr: float
    """The highest of one cycle."""
    weight_decay: float
    workers: int


class Pictures(torch.utils.data.Dataset[Any]):
    """As torchvision's `CIFAR10` gives them: arrays in memory, each made a picture and varied."""

    def __init__(self, material: Material, policy: Policy) -> None:
        from torchvision import transforms

        self.material = material
        self.vary = transforms.Compose(
            [
                transforms.RandomCrop(policy.size, padding=4, padding_mode="reflect"),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(policy.mean, policy.deviation),
            ]
        )

    def __len__(self) -> int:
        return len(self.material)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        return self.vary(Image.fromarray(self.material.pictures[row])), int(self.material.targets[row])


def loader_of(material: Material, policy: Policy, recipe: Recipe) -> DataLoader[Any]:
    """Its workers live as long as it does."""
    return DataLoader(
        Pictures(material, policy),
        recipe.batch_size,
        shuffle=True,
        num_workers=recipe.workers,
        persistent_workers=recipe.workers > 0,
        pin_memory=recipe.device.type == "cuda",
        drop_last=True,
    )


def optimizer_of(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """torch's SGD, as it is fastest."""
    return torch.optim.SGD(
        network.parameters(), recipe.lr, momentum=0.9, weight_decay=recipe.weight_decay, nesterov=True, fused=True
    )


def plain_epochs(network: nn.Module, material: Material, policy: Policy, recipe: Recipe) -> list[float]:
    """Seconds of each epoch of a loop in the fewest lines, bfloat16 and channels last."""
    loader, optimizer = loader_of(material, policy, recipe), optimizer_of(network, recipe)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.lr, recipe.epochs * len(loader))
    seconds = []
    network.train()
    for _ in range(recipe.epochs):
        start = time.perf_counter()
        for pictures, labels in loader:
            seen = pictures.to(recipe.device, memory_format=torch.channels_last, non_blocking=True)
            with torch.autocast(recipe.device.type, torch.bfloat16):
                loss = F.cross_entropy(network(seen), labels.to(recipe.device, non_blocking=True))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
        loss.item()  # waits for the device
        seconds.append(time.perf_counter() - start)
    return seconds


def lightning_epochs(network: nn.Module, material: Material, policy: Policy, recipe: Recipe) -> list[float]:
    """Seconds of each epoch in Lightning's Trainer, with its usual logger and checkpoints, `bf16-mixed`."""
    import lightning.pytorch as lightning

    loader = loader_of(material, policy, recipe)
    seconds: list[float] = []

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def training_step(self, batch: Any, index: int) -> Tensor:
            pictures, labels = batch
            loss = F.cross_entropy(self.network(pictures.contiguous(memory_format=torch.channels_last)), labels)
            self.log("train/loss", loss)
            return loss

        def configure_optimizers(self) -> Any:
            optimizer = optimizer_of(self.network, recipe)
            steps = recipe.epochs * len(loader)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.lr, steps)
            return [optimizer], [{"scheduler": schedule, "interval": "step"}]

        def on_train_epoch_start(self) -> None:
            self.start = time.perf_counter()

        def on_train_epoch_end(self) -> None:
            if recipe.device.type == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - self.start)

    trainer = lightning.Trainer(
        accelerator="gpu" if recipe.device.type == "cuda" else "cpu",
        devices=1,
        precision="bf16-mixed",
        max_epochs=recipe.epochs,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=Path.cwd(),
    )
    trainer.fit(Module(), loader)
    network.to(recipe.device)
    return seconds
