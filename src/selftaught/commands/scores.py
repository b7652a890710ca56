"""One number of an evaluation, and how far it could be off."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

from selftaught.protocols.intervals import bootstrap


class Score(NamedTuple):
    """One number, in percent, and how far it could be off."""

    value: float
    low: float  # of its 95 % interval over test sets, or of its range over draws
    high: float
    sd: float | None = None  # over draws
    note: str = ""  # what the reader should know of it
    chosen: str = ""  # by the protocol, for these features


def mean_score(values: Tensor) -> Score:
    """Of values from 0 to 1, or hits and misses, one a test sample."""
    values = values.double()
    return score_of(values.mean().item(), bootstrap(values))


def score_of(value: float, interval: tuple[float, float]) -> Score:
    """In percent, of a value and its interval from 0 to 1."""
    return Score(100 * value, 100 * interval[0], 100 * interval[1])


def in_percent(found: Mapping[str, tuple[float, float, float]]) -> dict[str, Score]:
    """Of values from 0 to 1 with the ends of their intervals."""
    return {name: score_of(value, (low, high)) for name, (value, low, high) in found.items()}


def over_draws(values: Tensor) -> Score:
    """Of values from 0 to 1, one a draw; their range is the interval."""
    values = 100 * values.double()
    low, high = values.aminmax()
    return Score(values.mean().item(), low.item(), high.item(), values.std().item())


def rounded(found: Mapping[str, Score]) -> dict[str, dict[str, Any]]:
    """What is written down: ``{"rows": {name: value}, "intervals": {name: [low, high]}}``."""
    return {
        "rows": {name: round(score.value, 2) for name, score in found.items()},
        "intervals": {n: [round(s.low, 2), round(s.high, 2)] for n, s in found.items()},
    }


def rounded_rows(found: Mapping[str, Mapping[str, Score]]) -> dict[str, dict[str, Any]]:
    """The same of several rows: ``{"rows": {row: {name: value}}, "intervals": ...}``."""
    of = {row: rounded(scores) for row, scores in found.items()}
    return {part: {row: said[part] for row, said in of.items()} for part in ("rows", "intervals")}
