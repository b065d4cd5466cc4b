"""RF-DETR: boxes from a set of queries, each of which answers for one object, so that none has to be suppressed.

A DINOv2 transformer in windows, one projected map, and a decoder with deformable attention. It learns from thirteen
groups of queries at once and answers with the first of them.

It needs the package transformers, which is not installed with Convoy: `pip install transformers`, or the extra
`rf-detr`. The network is large and made for weights that were learnt before; from scratch it needs many pictures.

Sources: Robinson et al. RF-DETR: Neural Architecture Search for Real-Time Detection Transformers, 2025; Chen et al.
LW-DETR, 2024 (queries in groups, costs by IoU); the network is that of transformers.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from pipeline.contracts import ModelConfig, Output
from pipeline.errors import UserError
from pipeline.models._detection.hungarian import Assigned, Rules, assigned, centred, corners, giou
from pipeline.models._detection.matching import overlaps, truths
from pipeline.models._detection.weights import check_named, fitted, prefix_of, read
from pipeline.networks import IGNORED, Costs, Deciding, Matched, Predictions

PATCH, WINDOWS, GROUPS = 16, 2, 13
DECODER = {"nano": 2, "small": 3, "medium": 4, "large": 4}
"""Layers of the decoder. Medium and large differ in the size of their pictures, which is `augment.size` here."""
PIXELS = {"nano": 384, "small": 512, "medium": 576, "large": 704}
"""Of the pictures that the published weights were learnt from."""
CLASSES = ("class_embed", "enc_out_class_embed")
"""Layers whose weights are those of the classes."""
SMALL = 1e-7
QUALITY = 0.25
"""Exponent of the score in what is to be said of an object, the rest is that of the IoU."""


class Config(ModelConfig):
    """Sizes up to large; parameters of each: nano 30.4, small 31.9, medium and large 33.4 million, for 80 classes."""

    gives: ClassVar[Output] = Output.BOXES

    size: Literal["nano", "small", "medium", "large"] = "nano"
    """How deep the decoder is; the authors give nano pictures of 384 pixels, small 512, medium 576, large 704."""
    queries: int = Field(300, ge=1, le=1000)
    """Objects that a picture may have at most."""
    detections: int = Field(100, ge=1, le=1000)
    """D: boxes that are answered for a picture at most."""
    score_threshold: float = Field(0.05, ge=0, lt=1)
    """Boxes with no higher score are not answered."""
    weights: str = ""
    """Path of a `.safetensors` or `.pth` file with the weights of this network as transformers saves them. Nothing is
    ever downloaded; empty: fresh weights."""
    weights_sha256: str = Field("", pattern="^([0-9a-f]{64})?$")
    """What that file must hash to, so that the same params mean the same weights; empty: whatever it holds."""

    @model_validator(mode="after")
    def _says_of_what_the_digest_is(self) -> Config:
        check_named(self.weights, self.weights_sha256)
        return self

    def build(self, channels: int, outputs: int, size: int) -> nn.Module:
        """See `ModelConfig.build`.

        Raises:
            UserError: transformers is not installed, the pictures are no multiple of 32 pixels, or too small for so
                many queries, or the weights do not fit.
        """
        step = PATCH * WINDOWS
        if size % step:
            near = max(step, round(size / step) * step)
            raise UserError(
                f"params.yaml: model: rf_detr needs pictures whose side is a multiple of {step} pixels, and "
                f"augment.size is {size}: set it to {near}."
            )
        if (places := (size // PATCH) ** 2) < self.queries:
            raise UserError(
                f"params.yaml: model: rf_detr chooses its queries among {places} places of a picture of {size} pixels, "
                f"and model.queries is {self.queries}: lower it, or raise augment.size."
            )
        network = RFDETR(self, channels, outputs, size)
        if self.weights:
            take_over(network.library, self.weights, self.weights_sha256)
        return network


class RFDETR(Deciding):
    """float32 [B, C, S, S] to boxes [B, D, 6]."""

    def __init__(self, config: Config, channels: int, outputs: int, size: int) -> None:
        super().__init__()
        self.library = _library(config, channels, outputs, size)
        self.size = size
        self.detections = min(config.detections, config.queries * outputs)
        self.threshold = config.score_threshold

    def raw(self, pictures: Tensor) -> Raw:
        """See `Deciding.raw`: what the decoder says after each of its layers, the last one last, and the encoder."""
        said = self.library.model(pictures)
        stages = self.library.predict_class_and_boxes(
            said.intermediate_hidden_states, said.intermediate_reference_points
        )
        first = self.library.predict_encoder_class_logits(said.enc_outputs_class), said.enc_outputs_coord_logits
        return Raw([(logits.float(), boxes.float()) for logits, boxes in (first, *zip(*stages, strict=True))], self)

    def answer(self, raw: Raw) -> Tensor:
        """See `Deciding.answer`: the best pairs of a query and a class."""
        logits, boxes = (one[:, : self.queries].detach() for one in raw.stages[-1])
        scores, places = logits.sigmoid().flatten(1).topk(self.detections, dim=1)
        queries, classes = places // logits.shape[2], places % logits.shape[2]
        found = corners(boxes.gather(1, queries[..., None].expand(-1, -1, 4))) * self.size
        rows = torch.cat([found.clamp(0, self.size), scores[..., None], classes[..., None].float()], dim=2)
        return torch.where((scores > self.threshold)[..., None], rows, 0.0)

    @property
    def queries(self) -> int:
        """Of one group."""
        count: int = self.library.config.num_queries
        return count


@dataclass(frozen=True)
class Raw(Predictions):
    """What is said of each query, by stage: logits [B, A, K], and x, y, width and height in shares [B, A, 4]."""

    stages: list[tuple[Tensor, Tensor]]
    network: RFDETR

    def matched(self, targets: Tensor) -> list[Matched]:
        """See `Predictions.matched`: within each group of queries every object has one, by the Hungarian method."""
        truth = truths(targets)
        rules = Rules(self.network.size, self.network.queries, classes=2.0, l1=5.0, giou=2.0)
        found = assigned(self.stages, truth, rules)
        return [self._stage(*stage, at) for stage, at in zip(self.stages, found, strict=True)]

    def _stage(self, logits: Tensor, boxes: Tensor, found: Assigned) -> Matched:
        places, true = found.places, found.boxes
        size, share = self.network.size, 1 / max(1, len(places))
        codes = boxes.flatten(0, 1)[places]
        said = corners(codes)
        scores = logits.detach().sigmoid().flatten(0, 1)[places, found.labels.flatten()[places]]
        overlap = overlaps(said.detach(), true[:, None])[:, 0]
        return Matched(
            logits=logits,
            exclusive=False,
            labels=found.labels,
            shares=torch.where(found.labels == IGNORED, 0.0, share),
            codes=codes,
            true_codes=centred(true),
            boxes=said * size,
            true_boxes=true * size,
            box_shares=torch.full_like(scores, share),
            costs=Costs("iou_aware", "l1", box_weight=5.0),
            scores=(scores**QUALITY * overlap ** (1 - QUALITY)).clamp(min=0.01),
            further=2 * share * (1 - giou(said, true, SMALL)).sum(),
        )


def take_over(library: nn.Module, path: str, sha256: str) -> None:
    """Give the network of the library the weights of a file; layers of other classes keep their own.

    Raises:
        UserError: the file cannot be read, is another one, or is of another network.
    """
    found, own = read(path, sha256), library.state_dict()
    prefix = prefix_of(own, found)
    given = {name.removeprefix(prefix): tensor for name, tensor in found.items() if name.startswith(prefix)}
    fitting, problems = fitted(own, given, lambda name: any(part in CLASSES for part in name.split(".")))
    if problems:
        raise UserError(
            f"params.yaml: model.weights: {path} is of another network: {'; '.join(problems)}. Take the file of this "
            "model.size, as many queries, and pictures of the size and the channels that it was made with."
        )
    library.load_state_dict(fitting, strict=False)


def _library(config: Config, channels: int, outputs: int, size: int) -> Any:
    os.environ["HF_HUB_OFFLINE"] = "1"  # nothing is to be fetched, whatever the library thinks that it lacks
    try:
        from transformers import RfDetrConfig, RfDetrDinov2Config, RfDetrForObjectDetection
    except ImportError:
        raise UserError(
            "params.yaml: model: rf_detr needs the package transformers, 5.20 or newer, which is not installed: "
            "`uv pip install 'transformers>=5.20,<6'`, or choose another model."
        ) from None
    trunk = RfDetrDinov2Config(
        hidden_size=384,
        num_attention_heads=6,
        num_hidden_layers=12,
        image_size=size,
        patch_size=PATCH,
        num_channels=channels,
        num_windows=WINDOWS,
        out_features=["stage3", "stage6", "stage9", "stage12"],
    )
    whole = RfDetrConfig(
        backbone_config=trunk,
        decoder_layers=DECODER[config.size],
        decoder_n_points=2,
        num_queries=config.queries,
        group_detr=GROUPS,
        num_labels=outputs,
    )
    return RfDetrForObjectDetection(whole)
