"""What stages, gate and page ask of a vision task."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

from pipeline.annotations import Flaw
from pipeline.answering import Answers, Marks
from pipeline.contracts.formats import AnnotationRules
from pipeline.contracts.nouns import Output, Target, Views
from pipeline.contracts.options import Options

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn


class Settled(NamedTuple):
    """What became of one annotation once its picture was decoded."""

    annotation: Any
    """Of the kind that the task learns from; None: the picture is left out."""
    problems: tuple[tuple[Flaw, str], ...] = ()
    """Each flaw, and what the rules make of it: `keep`, `clip`, `drop`, `void`, `reject` or `stop`."""


class TaskConfig(Options):
    """A vision task: `pipeline/tasks/<name>.py`. All that stages, gate and page need to know of one.

    Annotations, targets and answers go through the stages unseen; whatever looks into them is here, or in what goes
    with the kind of target: `pipeline/answers/`, `transforms.py`, `packed.py`.
    """

    learns: ClassVar[Target]
    reads: ClassVar[tuple[Target, ...]]
    """What of a source's annotation that can be learnt from, the first that it has."""
    needs: ClassVar[tuple[Output, ...]]
    """What of a network it can make sense of."""
    alike: ClassVar[bool] = False
    """Whether its pictures are crops of one shape: the rule `other_shape` is about one that is not."""
    unit: ClassVar[str]
    """What `tally` counts, in the plural: `images`, `objects`, `pixels`."""
    fields: ClassVar[Mapping[str, str]]
    """Columns of `samples.parquet` that hold one annotation, each with its type as pyarrow writes it."""
    nothing: ClassVar[Any] = None
    """What a picture is taken for of which nothing is said and that is kept; None: it cannot be."""
    score: str
    """The metric that decides, of `pipeline/metrics/`: on the epoch to keep and on the gate's verdict."""

    @abstractmethod
    def settle(self, annotation: Any, width: int, height: int, rules: AnnotationRules) -> Settled:
        """Check an annotation against its picture.

        Args:
            annotation: as the format gave it, a painted one as `annotations.Canvas`.
            width: W of the picture.
            height: H.
            rules: what becomes of flaws.
        """

    @abstractmethod
    def tally(self, annotation: Any) -> Mapping[str, int]:
        """How much of each class a settled annotation holds; classes that it does not hold are left out."""

    @abstractmethod
    def classes(self, found: Iterable[str]) -> list[str]:
        """The class names in the order of their ids, from all that were found.

        Raises:
            UserError: there are too few or too many of them.
        """

    @abstractmethod
    def stratum(self, annotation: Any) -> str:
        """What the splits are balanced over: each stratum gets a picture in each split; one for all asks nothing."""

    def joined(self, annotations: Sequence[Any]) -> Any:
        """One settled annotation of several that files with the same picture have; None: they contradict each other."""
        return None

    def group(self, annotation: Any, group: str | None) -> str | None:
        """Which pictures are never parted between splits: those of one group of the source, if it names any."""
        return group

    def about(self, annotations: Sequence[Any], classes: Sequence[str]) -> dict[str, Any]:
        """What else is to be known of the dataset to learn from it: fields of `dataset.DatasetInfo` by their names.

        Args:
            annotations: settled, of the training pictures.
            classes: in the order of their ids.
        """
        return {}

    @abstractmethod
    def columns(self, annotation: Any, classes: Sequence[str]) -> dict[str, Any]:
        """The values of `fields` for one settled annotation; of pixels, what is not in `masks/`."""

    def outputs(self, info: Any, gives: Output) -> int:
        """What a network is built for: K of a vector or map, J of points, E of an embedding.

        Args:
            info: `dataset.DatasetInfo`.
            gives: what the network gives.
        """
        count: int = len(info.classes)
        return count

    def answering(self, network: nn.Module, info: Any) -> nn.Module:
        """The network with what else turns what it learns into what it answers, as part of it."""
        return network

    pools: ClassVar[bool] = True
    """Whether the answers of several networks have a mean."""

    def pool(self, info: Any) -> Callable[[Tensor], Tensor]:
        """From the answers of n networks, [n, B, ...], to one of them all, [B, ...]: see `pipeline.pooling`.

        Args:
            info: `dataset.DatasetInfo`.
        """
        raise NotImplementedError

    @property
    def grouped(self) -> bool:
        """Whether it makes something of the groups of pictures, so that there should be some."""
        return False

    @property
    def undecided(self) -> bool:
        """Whether `tuned` has anything to choose; the validation split is answered once more for it."""
        return False

    def tuned(self, answers: Any) -> Self:
        """The same task with what was left open chosen by its answers to the validation split, such as a threshold."""
        return self

    @abstractmethod
    def told(self, outputs: np.ndarray, views: Views) -> list[Any]:
        """What a network's raw outputs mean, one entry per image.

        Args:
            outputs: float32 [V, ...] as one of `needs` says, of the views of whole images.
            views: what the network saw.
        """

    @abstractmethod
    def answers(self, split: Any, told: Sequence[Any]) -> Answers:
        """What was told beside what is true.

        Args:
            split: `dataset.Split` of N images.
            told: N entries of `told`.
        """

    @abstractmethod
    def blind(self, train: Any, split: Any) -> Answers:
        """The answers of a model that never looks at a picture, but knows the training split, to the images of another.

        Args:
            train: `dataset.Split`, or what is known of it.
            split: likewise.
        """

    @abstractmethod
    def marks(self, told: Any, classes: Sequence[str]) -> Marks:
        """One entry of `told` as people look at it."""

    @abstractmethod
    def plain(self, told: Any, classes: Sequence[str]) -> dict[str, Any]:
        """One entry of `told` for programs, in plain values: text, numbers, bytes, lists and dicts of them."""

    @abstractmethod
    def truth(self, row: Mapping[str, Any], mask: bytes | None, classes: Sequence[str]) -> Marks:
        """What is true of one image of a dataset, as people look at it.

        Args:
            row: of `samples.parquet`.
            mask: its encoded mask, where it has one.
            classes: of the dataset.
        """
