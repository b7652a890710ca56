"""What a recipe is given and what it returns."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from selftaught.errors import UserError
from selftaught.method import Method
from selftaught.optim import Clip, Schedule

ONCE = 1 << 62  # steps between two surveys: more than any run has, so that only the first comes


@dataclass(frozen=True)
class Pixels:
    """What a recipe may know of the data: never a name, never a label."""

    channels: Literal[1, 3]
    size: int  # side in pixels that encoders see
    count: int  # images
    mean: tuple[float, ...]  # of each channel, in [0, 1]
    std: tuple[float, ...]
    flip: bool = True  # a mirror image means the same, so half of the random views are one

    @classmethod
    def read(cls, found: Mapping[str, Any]) -> "Pixels":
        """Of what was written as JSON, with other things beside it or without."""
        mean, std, flip = tuple(found["mean"]), tuple(found["std"]), found.get("flip", True)
        return cls(found["channels"], found["size"], found["count"], mean, std, flip)


@dataclass(frozen=True)
class Run:
    """All that training needs: the method with its views, optimiser and schedule."""

    method: Method
    views: Any  # draw, crop and apply, as in `selftaught.views.image.Views`
    optimizer: torch.optim.Optimizer
    batch_size: int
    epochs: float  # the budget when the caller names none
    schedule: Schedule = field(default_factory=Schedule)  # of the learning rate
    clip: float = math.inf  # bound of the gradient's norm
    clip_by: Clip = "whole"
    survey_every: int = 0  # steps between two looks at the whole data set; 0 is never
    images: int | None = None  # train only on so many of the images, evenly spread
    architecture: dict[str, Any] | None = None  # of the encoder, where it outlives its recipe

    def __post_init__(self) -> None:
        if not 0 < self.epochs < math.inf:
            raise UserError(f"a budget of {self.epochs} epochs; use --epochs with a number above 0")
        if self.images is not None and self.images < self.batch_size:
            raise UserError(
                f"a batch of {self.batch_size} of {self.images} images that are trained on; use a "
                "smaller --batch-size"
            )
