"""Whether a run is learning, in one word and one sentence, without labels.

The evidence is what ``metrics.jsonl`` holds: the terms of the objective and the label-free signals
of the features, beside those of the untrained encoder. The verdict compares a run with its own
beginning, never with another method's run. Of methods whose players compete it also knows the
``critic`` term, and ``sample_diversity`` where they report it (`selftaught.method.Method.signals`).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

POINT = 0.02  # feature std below which all images have one and the same feature
LINE = 1.5  # effective rank below which the features lie on a line
SHRUNK = 0.5  # share of the untrained encoder's rank below which dimensions were lost
GROWN = 10.0  # times its largest early value: a term that has run away
ALIKE = 0.03  # diversity of samples below which a generator makes one image, or the same few
SURE = 0.05  # a critic's term below which it is hardly ever wrong; it is 1.39 where it cannot tell
STILL = 0.01  # share of its early value by which a term that learns moves at least


class Verdict(NamedTuple):
    """One word and why."""

    word: str
    sentence: str


def verdict(records: Sequence[Mapping[str, Any]], untrained: Mapping[str, Any]) -> Verdict:
    """Judge the run so far by its records and by the signals of the untrained encoder.

    ``records`` are lines of ``metrics.jsonl``, at least one with ``signals``.
    """
    signals = next((r["signals"] for r in reversed(records) if r.get("signals")), untrained)
    early, late = _terms(records[: _part(records)]), _terms(records[-_part(records) :])
    finite = all(map(math.isfinite, late.values()))
    unbalanced = _players(records, untrained, late.get("critic")) if finite else None
    if unbalanced is not None:
        return unbalanced
    for name, value in late.items():
        if not math.isfinite(value) or abs(value) > GROWN * max(abs(early[name]), 1.0):
            return Verdict(
                "diverged",
                f"{name} went from {early[name]:.3g} to {value:.3g}; lower the learning rate, or "
                "lengthen the warm-up",
            )
    std, rank, before = signals["feature_std"], signals["effective_rank"], _rank(untrained)
    if std < POINT or (rank is not None and rank < LINE):
        return Verdict(
            "collapse",
            f"all images have nearly one feature (feature std {std:.3f}, effective rank "
            f"{_shown(rank)}); lower the learning rate, and see that the batch is large enough for "
            "batch norm and the momentum near 1",
        )
    if rank is not None and before is not None and rank < SHRUNK * before:
        return Verdict(
            "partial collapse",
            f"the effective rank fell from {before:.1f} of the untrained encoder to {rank:.1f}; a "
            "larger batch, a lower temperature or weaker views keep more dimensions",
        )
    moved = [abs(late[n] - early[n]) > STILL * max(abs(early[n]), STILL) for n in late]
    if len(records) > 1 and not any(moved):
        return Verdict(
            "learning slowly",
            f"no term has moved by {STILL:.0%} since the beginning; raise the learning rate, or "
            "train longer",
        )
    return Verdict(
        "healthy",
        f"the terms move and the features use {_shown(rank)} dimensions, {_shown(before)} before",
    )


def _players(
    records: Sequence[Mapping[str, Any]], untrained: Mapping[str, Any], critic: float | None
) -> Verdict | None:
    """What is wrong between players that compete, if anything is.

    A generator begins with images that are nearly alike; one that is still on its way from there is
    not judged.
    """
    probed = [untrained, *(r["signals"] for r in records if r.get("signals"))]
    *before, now = [s["sample_diversity"] for s in probed if "sample_diversity" in s] or [math.inf]
    if before and now < ALIKE and now <= max(before):
        return Verdict(
            "collapsed generator",
            "all new images are one, or the same few: they differ from their nearest neighbours "
            f"{now:.3f} times as much as the data do; lower the learning rate, or take a larger "
            "batch",
        )
    if critic is not None and critic < SURE:
        return Verdict(
            "overpowering critic",
            f"the critic is hardly ever wrong (its term is {critic:.3f}, and 1.39 where it cannot "
            "tell), so that the others learn little from it; lower the learning rate, or give the "
            "generator more --width",
        )
    return None


def _part(records: Sequence[Any]) -> int:
    """How many records are early, and how many late: a tenth."""
    return max(1, len(records) // 10)


def _terms(records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    names = records[-1]["terms"]
    return {n: sum(r["terms"][n] for r in records) / len(records) for n in names}


def _rank(signals: Mapping[str, Any]) -> float | None:
    return signals["effective_rank"]


def _shown(rank: float | None) -> str:
    return "unknown" if rank is None else f"{rank:.1f}"
