"""What changes in the course of a run, as pure functions of the share of it that is done."""

import math


def cosine(progress: float, start: float, end: float) -> float:
    """From ``start`` to ``end`` along half a wave, as momenta of teachers rise.

    BYOL (Grill et al. 2020, arXiv 2006.07733), section 3.2.
    """
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def linear(progress: float, start: float, end: float, share: float) -> float:
    """From ``start`` to ``end`` in a line during the first ``share`` of the run, then ``end``."""
    return start + (end - start) * min(progress / share, 1.0) if share else end
