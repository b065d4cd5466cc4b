"""The nouns that every room shares: axis letters, what a part gives and takes, and the base of each part's options.

Axis letters, in shapes everywhere:
    B  images of a batch          N  images of a split        K  classes
    C  channels (1 or 3)          H  height, W  width         P  side of a packed picture
    R  resamples of a bootstrap   S  side of the picture that a network sees
    U  units of images that belong together, or of one image by itself
    M  objects of a picture that there are, D  that a network says there are
    V  views: what a network sees of a picture, one or, cut into tiles, several
    T  numbers that are told of a picture        J  named points of a picture
    E  length of an embedding                    m  side of the small mask of an object

Nothing here imports torch: the door checks a `params.yaml` without it wherever it can.
"""

from pipeline.contracts.formats import AnnotationRules, FormatConfig, Found, LeftOut, Recognised
from pipeline.contracts.nouns import SMALLEST, SPLITS, Output, Target, Views
from pipeline.contracts.options import Options, Shaped
from pipeline.contracts.parts import LossConfig, MetricConfig, ModelConfig
from pipeline.contracts.policies import Frame, PolicyConfig, Transform
from pipeline.contracts.tasks import Settled, TaskConfig

__all__ = [
    "SMALLEST",
    "SPLITS",
    "AnnotationRules",
    "FormatConfig",
    "Found",
    "Frame",
    "LeftOut",
    "LossConfig",
    "MetricConfig",
    "ModelConfig",
    "Options",
    "Output",
    "PolicyConfig",
    "Recognised",
    "Settled",
    "Shaped",
    "Target",
    "TaskConfig",
    "Transform",
    "Views",
]
