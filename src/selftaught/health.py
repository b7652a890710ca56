"""Whether a run is learning, in one word and one sentence, without labels.

The evidence is what ``metrics.jsonl`` holds: the terms of the objective, beside what they are where
nothing is known and, for some images that are not trained on, what they are there; and the
label-free signals of the features, beside those of the untrained encoder. The verdict compares a
run with its own beginning, never with another method's run. Of methods whose players compete it
also knows the ``critic`` term, and ``sample_diversity`` where they report it
(`selftaught.method.Method.signals`).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

POINT = 0.02  # feature std below which all images have one and the same feature
LINE = 1.5  # effective rank below which the features lie on a line
SHRUNK = 0.5  # share of the untrained encoder's rank below which dimensions were lost
GROWN = 10.0  # times its early mean, or 1 if that is less: a term that has run away
ALIKE = 0.03  # diversity of samples below which a generator makes one image, or the same few
SURE = 0.05  # a critic's term below which it is hardly ever wrong; it is 1.39 where it cannot tell
STILL = 0.01  # share of its early value by which a term that learns moves at least
RESTING = 0.05  # share of their early value by which features that learn move at least
GUESSED = 0.02  # share of its value at chance that a term has to be below it to be more than that
LITTLE = 0.1  # share of it that has to be learnt before it can be asked what holds for others
MEMORISED = 0.5  # share of what was learnt that does not hold for images not trained on
SAME = 0.02  # share of their first distance below which views of different images are one
NEAR = 0.25  # share of it below which they are one if those of one image are no nearer,
ALL_ONE = 0.02  # by this share
STEEP = 0.03  # learning rate of AdamW that no recipe bears
ONE_CODE = 1.1  # perplexity of a codebook below which one code stands for nearly all
CERTAIN = 1e-3  # a term at chance below which a guess is always right, in nats
PROBES = 3  # in a row that have to say so
SETTLED = 30  # steps after which the running statistics of batch norm are those of the data

FEATURES = ("effective_rank", "centred_rank", "feature_std", "mean_cosine")


class Verdict(NamedTuple):
    """One word and why."""

    word: str
    sentence: str


class Evidence(NamedTuple):
    """What is known of a run."""

    records: Sequence[Mapping[str, Any]]
    untrained: Mapping[str, Any]  # signals before the first step
    now: Mapping[str, Any]  # the newest signals
    early: Mapping[str, float]  # each term's mean over the first records
    late: Mapping[str, float]  # and over the last
    settings: Mapping[str, Any]

    @property
    def chance(self) -> dict[str, float]:
        """What terms are where nothing is known, as far as that is known."""
        known = self.now.get("pretext", {}).get("chance", {})
        return {name: value for name, value in known.items() if name in self.late}

    def spiked(self) -> bool:
        """Whether a term rose far above its first values on the way."""
        return any(
            r["terms"][name] - value > max(abs(value), 1.0)
            for r in self.records
            for name, value in self.early.items()
        )


def verdict(
    records: Sequence[Mapping[str, Any]],
    untrained: Mapping[str, Any],
    settings: Mapping[str, Any] | None = None,
) -> Verdict:
    """Judge the run so far by its records and by the signals of the untrained encoder.

    ``records`` are lines of ``metrics.jsonl``, at least one with ``signals``. ``settings`` are the
    recipe's arguments and ``images``, the number trained on; with them likely causes are named.
    """
    part = max(1, len(records) // 10)
    run = Evidence(
        records=records,
        untrained=untrained,
        now=next((r["signals"] for r in reversed(records) if r.get("signals")), untrained),
        early=_terms(records[:part]),
        late=_terms(records[-part:]),
        settings=settings or {},
    )
    for judge in (_players, _diverged, _answered, _collapsed, _shrunk, _memorised, _slow):
        found = judge(run)
        if found is not None:
            return found
    moved = "the terms move" if len(records) > 1 else "nothing is wrong after one record"
    ranks = [signals["effective_rank"] for signals in (run.now, untrained)]
    used = "" if None in ranks else " and the features use {:.1f} dimensions, {:.1f} before"
    return Verdict("healthy", moved + used.format(*ranks) + _told(run))


def _players(run: Evidence) -> Verdict | None:
    """What is wrong between players that compete, if anything is.

    A generator begins with images that are nearly alike; one that is still on its way from there is
    not judged.
    """
    if not all(map(math.isfinite, run.late.values())):
        return None
    probed = [run.untrained, *(r["signals"] for r in run.records if r.get("signals"))]
    *before, now = [s["sample_diversity"] for s in probed if "sample_diversity" in s] or [math.inf]
    if before and now < ALIKE and now <= max(before):
        return Verdict(
            "collapsed generator",
            "all new images are one, or the same few: they differ from their nearest neighbours "
            f"{now:.3f} times as much as the data do; lower the learning rate, or take a larger "
            "batch",
        )
    critic = run.late.get("critic")
    sizes = (f"--{n.replace('_', '-')}" for n in ("critic_width", "hidden") if n in run.settings)
    smaller = next((f", or take a smaller {name}" for name in sizes), "")
    if critic is not None and critic < SURE:
        return Verdict(
            "overpowering critic",
            f"the critic is hardly ever wrong (its term is {critic:.3f}, and 1.39 where it cannot "
            f"tell), so that the others learn little from it; lower the learning rate{smaller}",
        )
    return None


def _diverged(run: Evidence) -> Verdict | None:
    for name, value in run.late.items():
        begun = run.early[name]
        if not math.isfinite(value) or abs(value) > GROWN * max(abs(begun), 1.0):
            cause = "the learning rate is too high"
            if run.settings.get("temperature", 1.0) < 0.02:
                cause = f"a temperature of {run.settings['temperature']:g} makes scores too large"
            change = "raise it" if "temperature" in cause else "lower it, or lengthen the warm-up"
            sentence = f"{name} went from {begun:.3g} to {value:.3g}: {cause}; {change}"
            return Verdict("diverged", sentence)
    return None


def _answered(run: Evidence) -> Verdict | None:
    """That there is nothing to learn: one answer is right everywhere."""
    if not run.chance or max(run.chance.values()) > CERTAIN:
        return None
    name, value = max(run.chance.items(), key=lambda item: item[1])
    return Verdict(
        "learning slowly",
        f"a guess is always right ({name} is {value:.3f} where nothing is known): all answers are "
        "one, so that there is nothing to learn; take other data or, where the answers are a "
        "tokenizer's words, one that was trained longer and uses more of them",
    )


def _collapsed(run: Evidence) -> Verdict | None:
    used = run.records[-1].get("watched", {}).get("perplexity", math.inf)
    if used < ONE_CODE:
        return Verdict(
            "collapse",
            f"one code stands for nearly all places (perplexity {used:.2f}), so that codes do not "
            "tell images apart; use --decay 0.99 with --restart 0.05, or lower the learning rate",
        )
    std, rank = run.now["feature_std"], run.now["effective_rank"]
    point = std < POINT or (rank is not None and rank < LINE)
    fixed = run.now.get("pretext", {}).get("fixed")
    if point and fixed and (_guessed(run) or not run.chance):
        return Verdict(
            "learning slowly",
            f"all images still have nearly one feature (feature std {std:.3f}): so far the answers "
            "are those that fit any image; train longer, or try another learning rate",
        )
    if point and run.untrained["feature_std"] < POINT and not _told(run):
        return Verdict(
            "learning slowly",
            f"all images have nearly one feature (feature std {std:.3f}), as they had before the "
            "first step: they look alike to the encoder, so see that they are not all one image; "
            "else train longer",
        )
    if point and not _apart(run):
        found = f"all images have nearly one feature (feature std {std:.3f}, effective rank "
        return Verdict("collapse", f"{found}{_shown(rank)}){_guessing(run)}: {_why_collapsed(run)}")
    found = _indifferent(run)
    return Verdict("collapse", f"{found}: {_why_collapsed(run)}") if found else None


def _indifferent(run: Evidence) -> str:
    """Says that views of any two images agree, if they do.

    With batch norm in it an encoder tells images apart however it was trained; what the objective
    sees of them may have become one all the same.
    """
    now, begun = run.now.get("pretext", {}), run.untrained.get("pretext", {})
    for name, one in now.get("agreement", {}).items() if "mixed" in now else ():
        same, other, before = now["trained"][name], now["mixed"][name], begun["mixed"][name]
        if before == one:  # as where its weight is zero
            continue
        left = (other - one) / (before - one)
        if left < SAME or (left < NEAR and other - same < ALL_ONE * (other - one)):
            return (
                f"views of different images agree as those of one do ({name} is {other:.3g} and "
                f"{same:.3g}, of different ones {before:.3g} at first), so that nothing is told "
                "apart"
            )
    return ""


def _why_collapsed(run: Evidence) -> str:
    """The likeliest cause of features that are one, and what to change."""
    own = run.settings
    momentum, batch = own.get("momentum"), own.get("batch_size", math.inf)
    slow = "instances" not in own  # else it is the momentum of a memory of each image
    if momentum is not None and momentum < 0.9 and slow:
        return (
            f"with a momentum of {momentum:g} the slow copy is hardly slower than the network; "
            "use --momentum near 1"
        )
    if own.get("optimizer") == "adamw" and own.get("lr", 0.0) > STEEP:
        return f"a learning rate of {own['lr']:g} is too high for adamw; lower it"
    if run.spiked():
        return (
            "terms rose high on the way, so the learning rate is too high; lower it, or lengthen "
            "the warm-up"
        )
    if batch < 32:
        return f"a batch of {batch} is small for the batch norm in the head; use a larger one"
    if run.chance:
        return (
            "the learning rate is too high or the temperature too far from the method's; lower the "
            "first, or put back the second"
        )
    return (
        "one feature for all fulfils the objective, so look for a missing stop-gradient, predictor "
        "or batch norm in the head; with a recipe as it is, lower the learning rate"
    )


def _shrunk(run: Evidence) -> Verdict | None:
    """Uncentred and centred ranks both fell: one alone also falls where the mean moves."""
    names = ("effective_rank", "centred_rank")
    ranks = [(run.now.get(n), run.untrained.get(n)) for n in names]
    known = [(now, before) for now, before in ranks if now is not None and before is not None]
    if not known or any(now >= SHRUNK * before for now, before in known) or _apart(run):
        return None
    now, before = known[0]
    return Verdict(
        "partial collapse",
        f"the effective rank fell from {before:.1f} of the untrained encoder to {now:.1f}"
        f"{_guessing(run)}: {_why_shrunk(run)}",
    )


def _why_shrunk(run: Evidence) -> str:
    """The likeliest cause of lost dimensions, and what to change."""
    own = run.settings
    if found := _decayed(run):
        return found
    if own.get("batch_size", math.inf) < 64:
        return f"a batch of {own['batch_size']} shows too few images at a time; use a larger one"
    if own.get("temperature", 0.0) > 0.5:
        return f"a temperature of {own['temperature']:g} hardly tells near images; use a lower one"
    if own.get("smallest_crop", 1.0) < 0.08 or own.get("jitter", 0.0) > 1.0:
        return (
            "the augmentation leaves little in common; use a larger --smallest-crop, less --jitter"
        )
    return (
        "the augmentation or the learning rate is too strong; weaker views, a larger batch or a "
        "lower --lr keep more dimensions"
    )


def _decayed(run: Evidence) -> str:
    """That the weight decay is too strong and what to change, where it is."""
    decay = run.settings.get("weight_decay", 0.0)
    found = f"a weight decay of {decay:g} pulls all weights to zero; lower it"
    return found if decay > 1 else ""


def _memorised(run: Evidence) -> Verdict | None:
    """Judged by several probes: few images may be held out, and little is learnt by the first."""
    begun = run.untrained.get("pretext", {})
    probed = [r["signals"].get("pretext", {}) for r in run.records if r.get("signals")]
    found = [held_back(pretext, begun) for pretext in probed[-PROBES:]]
    shares = [share for share in found if share is not None]
    if len(shares) < PROBES or min(shares) < MEMORISED:
        return None
    share = shares[-1]
    trained, held = (run.now["pretext"][which] for which in ("trained", "held_out"))
    name = max(trained, key=lambda n: held[n] - trained[n])
    images = run.settings.get("images")
    often = ""
    if images and "batch_size" in run.records[-1]:
        times = run.records[-1]["step"] * run.records[-1]["batch_size"] / images
        often = f" ({images:,} images, each seen {times:.0f} times)"
    return Verdict(
        "overfitting the pretext",
        f"{name} is {trained[name]:.3g} on images that are trained on and {held[name]:.3g} on "
        f"others, in the same views: {min(share, 1):.0%} of what was learnt does not hold for "
        f"them{often}; train for fewer steps, or with more images, stronger augmentation or a "
        "smaller encoder",
    )


def held_back(now: Mapping[str, Any], begun: Mapping[str, Any]) -> float | None:
    """Share of what was learnt of the images trained on that does not hold for others.

    0 where they are alike, 1 where nothing holds. What was learnt is counted from a guess where its
    value is known, else from the untrained method or, if that is more, from zero. None without
    held-out images, and where nothing was learnt.
    """
    if "held_out" not in now or "trained" not in begun:
        return None
    trained, held, guess = now["trained"], now["held_out"], now["chance"]
    learnt = lost = 0.0
    for name, value in trained.items():
        if name in guess:
            part = guess[name] - value
            if part < LITTLE * guess[name]:
                continue
        else:
            part = max(abs(begun["trained"][name] - value), abs(value))
        learnt, lost = learnt + part, lost + held[name] - value
    return lost / learnt if learnt > 0 and math.isfinite(lost) else None


def _guessed(run: Evidence) -> dict[str, float]:
    """What a guess has of the terms, if none of them is better than that."""
    guess = run.chance
    return guess if all(run.late[n] > (1 - GUESSED) * v for n, v in guess.items()) else {}


def _slow(run: Evidence) -> Verdict | None:
    guessed = _guessed(run)
    if guessed:
        name, value = max(guessed.items(), key=lambda item: item[1])
        sentence = f"{name} is {run.late[name]:.3f}, and a guess has {value:.3f}: "
        return Verdict("learning slowly", sentence + _why_guessing(run))
    still = [abs(run.late[n] - v) <= STILL * max(abs(v), STILL) for n, v in run.early.items()]
    moved = _features_moved(run)
    if len(run.records) > 1 and all(still) and not moved:
        features = "" if moved is None else f", nor the features by {RESTING:.0%}"
        return Verdict(
            "learning slowly",
            f"no term has moved by {STILL:.0%} since the beginning{features}: the learning rate is "
            "too low, or the run too short; raise --lr, or train longer",
        )
    return None


def _why_guessing(run: Evidence) -> str:
    """The likeliest cause of terms that are no better than a guess, and what to change."""
    if found := _decayed(run):
        return found
    temperature = run.settings.get("temperature")
    if temperature is not None and temperature > 1:
        return (
            f"a temperature of {temperature:g} makes all scores alike; use a lower one, about 0.1"
        )
    if _features_moved(run) is False:
        return "the features hardly move, so the learning rate is too low; raise --lr"
    probed = [r["signals"] for r in run.records if r.get("signals")]
    least = min((s["feature_std"] for s in probed), default=math.inf)
    if least < POINT:
        return (
            f"all features were one on the way (feature std {least:.3f}), so the learning rate is "
            "too high; lower it, or lengthen the warm-up"
        )
    return (
        "the task is too hard so far; train longer, or try another learning rate or weaker "
        "augmentation"
    )


def _features_moved(run: Evidence) -> bool | None:
    """Whether signals have moved since batch norm got to know the data; None if unknown."""
    probed = [r["signals"] for r in run.records if r.get("signals") and r["step"] >= SETTLED]
    if len(probed) < 2:
        return None
    pairs = [(probed[0].get(name), probed[-1].get(name)) for name in FEATURES]
    known = [(a, b) for a, b in pairs if a is not None and b is not None]
    return any(abs(b - a) > RESTING * max(abs(a), RESTING) for a, b in known)


def _apart(run: Evidence) -> str:
    """Says by which term samples are still told apart, on images not trained on if there are any.

    Empty where none is known. An objective of candidates cannot be below chance if features are
    one: then few dimensions are few that carry much, as in means over places.
    """
    pretext = run.now.get("pretext", {})
    values = pretext.get("held_out", run.late)
    for name in pretext.get("tells_apart", ()):
        if name in run.chance and values[name] < (1 - GUESSED) * run.chance[name]:
            return f"{name} is {values[name]:.2f} where a guess has {run.chance[name]:.2f}"
    return ""


def _told(run: Evidence) -> str:
    found = _apart(run)
    return f"; {found}" if found else ""


def _guessing(run: Evidence) -> str:
    """The fingerprint of a loss that no longer tells anything, if it is there."""
    for name, value in run.chance.items():
        if abs(run.late[name] - value) < GUESSED * value:
            return f", and {name} is {run.late[name]:.3f} as a guess has it ({value:.3f})"
    return ""


def _terms(records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    names = records[-1]["terms"]
    return {n: sum(r["terms"][n] for r in records) / len(records) for n in names}


def _shown(rank: float | None) -> str:
    return "unknown" if rank is None else f"{rank:.1f}"
