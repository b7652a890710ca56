"""The settings of the trainings that begin with an encoder, and what they are if not given.

Nothing here needs PyTorch, so that the command line can read them and answers at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from selftaught.errors import UserError, above_zero, from_zero, from_zero_to_one

T = TypeVar("T")


@dataclass(frozen=True)
class FineTuneSettings:
    """How a classifier is trained.

    Args:
        from_head_layer: keep so many layers of the projection head; without it 1 of simclr_v2 that
            was pre-trained at the paper's scale, else 0.
        layer_decay: of the fine-tuned network: factor of the rate from each layer to the one below.
        freeze: train the linear classifier only.
        freeze_norm: keep the statistics of the encoder's batch norm as they are.
        probe: begin with the logistic regression on the frozen features as the last layer.
        mix: share of the fine-tuned weights; the others are those that it began with (WiSE-FT),
            and none where it began without the regression.
        batch_size: images a step.
        lr: learning rate of the last layer after the warm-up.
        weight_decay: of weight matrices and kernels.
        warmup: share of the run in which the learning rate rises.
        smallest_crop: a view shows at least this share of the image's area.
        flip: mirror half of the views, where those of the run are mirrored.
    """

    from_head_layer: int | None = None
    layer_decay: float = 1.0
    freeze: bool = False
    freeze_norm: bool = True
    probe: bool = True
    mix: float = 0.75
    batch_size: int = 128
    lr: float = 1e-3
    weight_decay: float = 0.05
    warmup: float = 0.1
    smallest_crop: float = 0.6
    flip: bool = True

    def __post_init__(self) -> None:
        _check(self.batch_size, self.lr, self.weight_decay)
        above_zero(layer_decay=self.layer_decay)
        from_zero_to_one(layer_decay=self.layer_decay)
        from_zero_to_one(mix=self.mix)
        if not self.probe and self.mix not in (1, type(self).mix):
            raise UserError(
                "weights are mixed with those of a probe; leave out --mix or --no-probe"
            )


@dataclass(frozen=True)
class DistilSettings:
    """How a student is trained.

    Args:
        temperature: of both distributions; the larger, the more the unlikely classes count.
        label_weight: share of the labels in the objective; the teacher has the rest.
        batch_size: images a step.
        lr: learning rate after the warm-up.
        weight_decay: of weight matrices and kernels.
        warmup: share of the run in which the learning rate rises.
        smallest_crop: a view shows at least this share of the image's area; of smaller parts
            than it was trained on, the teacher knows less.
        flip: mirror half of the views, where those of the run are mirrored.
    """

    temperature: float = 1.0
    label_weight: float = 0.0
    batch_size: int = 256
    lr: float = 2e-3
    weight_decay: float = 0.01
    warmup: float = 0.1
    smallest_crop: float = 0.6
    flip: bool = True

    def __post_init__(self) -> None:
        _check(self.batch_size, self.lr, self.weight_decay)


@dataclass(frozen=True)
class TransferSettings:
    """How a detector or a segmenter is trained.

    Args:
        images: labelled images to train on, chosen at random; without it all.
        size: pixels of the longer side that is seen; without it its own up to 128 (GPU: 512).
        batch_size: images a step.
        lr: learning rate after the warm-up.
        weight_decay: of weight matrices and kernels.
        warmup: share of the run in which the learning rate rises.
        flip: mirror half of the images, where those of the run are mirrored.
    """

    images: int | None = None
    size: int | None = None
    batch_size: int = 8
    lr: float = 1e-3
    weight_decay: float = 0.05
    warmup: float = 0.1
    flip: bool = True

    SMALLEST = 32  # pixels

    def __post_init__(self) -> None:
        _check(self.batch_size, self.lr, self.weight_decay)
        if self.size is not None and self.size < self.SMALLEST:
            raise UserError(f"a size of {self.size}; use --size from {self.SMALLEST}")


def _check(batch_size: int, lr: float, weight_decay: float) -> None:
    """Raises UserError for what nothing can be trained with."""
    if batch_size < 2:
        raise UserError(f"a batch of {batch_size}; use --batch-size from 2")
    above_zero(lr=lr)
    from_zero(weight_decay=weight_decay)


def chosen(kind: type[T], given: Mapping[str, Any], what: str) -> T:
    """Settings of a kind; UserError for one that ``what`` does not have."""
    unknown = sorted(given.keys() - _names(kind))
    if unknown:
        raise UserError(f"{what} has no setting {unknown[0]!r}")
    return kind(**given)


def among(kind: type[T], arguments: Mapping[str, Any]) -> T:
    """The settings of a kind that are among the arguments of a call."""
    return kind(**{name: arguments[name] for name in _names(kind) & arguments.keys()})


def _names(kind: Any) -> set[str]:
    return {field.name for field in fields(kind)}
