"""What a method is, and what it is given."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

VOID = 255  #: in a mask of classes, uint8: a pixel of no class, which nothing is asked of


@dataclass(frozen=True)
class ViewBatch:
    """A batch of samples, each seen in one or several random views.

    A method never looks inside a view: only its encoder and the functions that made the views know
    whether it is a tensor of pixels, a padded batch of tokens or a batch of graphs.
    """

    views: tuple[Any, ...]  # one entry a view, B samples each
    index: Tensor  # (B,) the samples' places in their source


class Method(nn.Module):
    """A way to learn an encoder without labels.

    ``forward(batch)`` returns the named terms of the objective, each a scalar; what trains it
    minimises their sum. What moves without a gradient moves in ``after_step``, which comes only if
    every term was finite; ``forward`` moves nothing but the running statistics of batch norm. What
    is remembered between batches is a persistent buffer, so that a checkpoint holds it.
    """

    encoder: Any  #: what is exported: a module with `dim`, the width of its features
    progress: float = 0.0  #: share of the run that is done, in [0, 1); written by the trainer
    #: scalars of the last ``forward`` that are logged beside the terms and not minimised
    watched: Mapping[str, Tensor] = MappingProxyType({})
    #: names of terms that fall below `chance` only where features tell samples apart
    tells_apart: tuple[str, ...] = ()
    #: of terms by which views of one sample agree, what they are where the views are one
    agreement: Mapping[str, float] = MappingProxyType({})
    #: whether what is asked of a sample never changes, so that no fulfilled term makes samples one
    fixed_answers: bool = False
    #: whether a term asks for the sample's own place in the data, so that others have no terms
    knows_samples: bool = False
    #: what ``pictures`` are told of what was hidden, as it stands in a sentence about them
    told: str = ""
    #: first layers of its projection head that fine-tuning keeps at the paper's scale
    kept_layers: int = 0

    def forward(self, batch: ViewBatch) -> dict[str, Tensor]:
        """The terms of the objective on one batch, by name."""
        raise NotImplementedError

    def after_step(self) -> None:
        """Move what moves without a gradient (teachers, queues); called after each step."""

    def survey(self, whole: Iterable[ViewBatch]) -> None:
        """Look at every sample once, in one plain view and without a gradient, in eval mode.

        Called before the steps that ``Run.survey_every`` names, for what needs all the data:
        pseudo-labels of clusters.
        """

    def signals(self, x: Tensor) -> dict[str, float]:
        """Label-free signals of its own, beside those of its features, on some plain images x.

        In eval mode and without a gradient; `selftaught.health` judges by those that it knows.
        """
        return {}

    def chance(self, x: Tensor, count: int) -> dict[str, float]:
        """By name, what terms are where nothing is known of a sample, as far as that is known.

        Of a global batch of ``count`` samples; some plain images x serve to count what a guess
        would say. In eval mode and without a gradient. `selftaught.health` compares.
        """
        return {}


@runtime_checkable
class Reconstructs(Protocol):
    """A method that makes an image again from what it saw of it."""

    def pictures(self, x: Tensor) -> dict[str, Tensor]:
        """What it saw of the images x (B, C, S, S), and what it made of that, as images by name.

        All are normalised like x; the last is the reconstruction. Called in eval mode and without
        a gradient; random numbers are drawn from the default generator, which the caller seeds.
        """
        ...


@runtime_checkable
class Samples(Protocol):
    """A method that makes images out of nothing."""

    def sample(self, count: int) -> Tensor:
        """New images (count, C, S, S), normalised as its views are; called as ``pictures`` is."""
        ...


@runtime_checkable
class Codes(Protocol):
    """A method whose codes can be mixed: between two of them lie images, too."""

    def code(self, x: Tensor) -> Tensor:
        """Codes (B, D) of images (B, C, S, S)."""
        ...

    def decode(self, code: Tensor) -> Tensor:
        """Images (B, C, S, S), normalised, of codes (B, D)."""
        ...
