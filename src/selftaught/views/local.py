"""Views for methods that compare parts of images."""

from typing import Any

from torch import Generator

from selftaught.views.image import Views


class TurnedAlike(Views):
    """Views of an image of which all are mirrored or none is.

    AMDIM (Bachman et al. 2019, arXiv 1906.00910): the authors' code mirrors an image before it
    takes its views.
    """

    def draw(self, generator: Generator, n: int) -> list[tuple[Any, ...]]:
        """The parameters of each view for n images."""
        drawn = super().draw(generator, n)
        flip = drawn[0][0].flip
        return [(crop._replace(flip=flip), *then) for crop, *then in drawn]
