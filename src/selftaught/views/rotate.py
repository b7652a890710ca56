"""Views turned by quarters of a circle."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from selftaught.views.image import View, Views

TURNS = 4


class Turned(Views):
    """One view of each image in its four rotations, by 0, 90, 180 and 270 degrees.

    Gidaris et al. 2018, https://arxiv.org/abs/1803.07728, section 2.2: pixels change places and
    nothing is resampled, so that the rotation leaves no trace but the content's. Anticlockwise.
    """

    def __init__(self, view: View, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__([view], mean, std)

    def apply(
        self, crops: Sequence[Tensor], parameters: Sequence[tuple[Any, ...]]
    ) -> tuple[Tensor, ...]:
        """Four views, float32 and normalised: (n, C, S, S) each."""
        (x,) = super().apply(crops, parameters)
        return tuple(torch.rot90(x, turns, (2, 3)) for turns in range(TURNS))
