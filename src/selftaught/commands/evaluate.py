"""How good an encoder is, with the same protocols on random weights and on raw pixels beside it."""

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from selftaught import pretrained
from selftaught.allocator import is_short, shortage
from selftaught.commands import probes
from selftaught.commands.outputs import keep, warn_of_broken
from selftaught.commands.parts import KINDS, Kind, Seen, content, kind_of, parts
from selftaught.commands.scores import Score, mean_score, over_draws, rounded_rows, score_of
from selftaught.commands.settings import device_of, listed
from selftaught.commands.supervised import is_from_scratch, scratch_in
from selftaught.errors import UserError
from selftaught.paths import expanded
from selftaught.pretrained import Pretrained, raw
from selftaught.protocols import dense_knn
from selftaught.protocols.convex import doubts
from selftaught.protocols.fewshot import DRAWS, fewshot
from selftaught.protocols.grouping import clustering
from selftaught.protocols.knn import TEMPERATURE, knn
from selftaught.protocols.linear import logreg
from selftaught.protocols.margin import FOLDS, svm, svm_tags
from selftaught.protocols.ranking import mean_precision
from selftaught.protocols.retrieval import retrieval
from selftaught.report.live import Tell, named, silent


class Protocol(NamedTuple):
    """What is measured: by the end of its name, or under its name alone."""

    measure: Callable[[Seen], dict[str, Score]]
    settings: str  # beside those in its name
    kinds: tuple[Kind, ...] = ("labels",)  # of data that it can be measured on
    version: int = 1  # a number may be compared with others of the same version only


def _knn(k: int) -> Protocol:
    def measure(seen: Seen) -> dict[str, Score]:
        x, y, tx, ty = seen.features
        found = knn(x.to(seen.device), y, tx, k=k, temperature=TEMPERATURE)
        return {"": mean_score(found.cpu() == ty)}

    return Protocol(measure, f"cosine, temperature {TEMPERATURE}")


def _fewshot(shots: int) -> Protocol:
    def measure(seen: Seen) -> dict[str, Score]:
        return {"": over_draws(fewshot(*seen.features, shots=shots, draws=DRAWS))}

    return Protocol(measure, f"ridge, {DRAWS} draws of {shots} a class")


def _logreg(seen: Seen) -> dict[str, Score]:
    x, y, tx, ty = seen.features
    found = logreg(x.to(seen.device), y, tx)
    note = doubts(found.held_out, converged=found.converged)
    score = mean_score(found.predictions == ty)
    return {"": score._replace(note=note, chosen=f"C {found.C:g}")}


def _svm(seen: Seen) -> dict[str, Score]:
    """Accuracy, or the mean average precision of several labels an image."""
    x, y, tx, ty = seen.features
    if y.ndim == 1:
        found = svm(x, y, tx)
        note = doubts(found.held_out, converged=found.converged)
        score = mean_score(found.predictions == ty)
        return {"": score._replace(note=note, chosen=f"C {found.C:g}")}
    tags = svm_tags(x, y, tx)
    note = "" if tags.converged else doubts({}, converged=False)
    scores = mean_precision(tags.scores, ty)
    return {
        name: score_of(value, (low, high))._replace(note=note)
        for name, (value, low, high) in scores.items()
    }


def _retrieval(seen: Seen) -> dict[str, Score]:
    found, count = retrieval(*seen.features), len(seen.features[2])
    used = len(found["map"])
    note = "" if used == count else f"of the {used:,} of {count:,} whose class is in train"
    return {name: mean_score(values)._replace(note=note) for name, values in found.items()}


def _clustering(seen: Seen) -> dict[str, Score]:
    """Of the test part; over starts of k-means."""
    _, _, tx, ty = seen.features
    found = [clustering(tx, ty, seed=seed) for seed in range(CLUSTERINGS)]
    return {name: over_draws(torch.tensor([one[name] for one in found])) for name in found[0]}


CLUSTERINGS = 3
PROTOCOLS: dict[str, Protocol] = {
    "knn/20": _knn(20),
    "knn/200": _knn(200),
    "logreg": Protocol(_logreg, "C by held-out tenths of train", version=2),
    "linear_sgd": Protocol(probes.sweep, "the head by a held-out tenth of train"),
    "svm": Protocol(_svm, f"squared hinge, C by {FOLDS} folds of train", ("labels", "tags")),
    "fewshot/1": _fewshot(1),
    "fewshot/5": _fewshot(5),
    "fewshot/10": _fewshot(10),
    "dense_knn": Protocol(
        probes.segmentation,
        f"{dense_knn.K} neighbours, cosine, temperature {dense_knn.TEMPERATURE}",
        ("masks",),
    ),
    "clustering": Protocol(_clustering, f"{CLUSTERINGS} starts of k-means on the test part"),
    "retrieval": Protocol(_retrieval, "cosine"),
}
Measured = dict[str, dict[str, Score]]  # by the protocol and the end of its name
USUAL = ("knn/20", "knn/200", "logreg")
RECORD = "evaluation.json"


def evaluate(
    run: str | Path | Pretrained,
    data: str | Path,
    *,
    test: str | Path | None = None,
    protocols: Sequence[str] = USUAL,
    device: str = "auto",
    rows: Sequence[str] = ("encoder", "random", "pixels"),
    supervised: str | Path | None = None,
    cached: bool = False,
    tell: Tell = silent,
) -> dict[str, Any]:
    """Scores in percent of the encoder, of the same with random weights and of raw pixels.

    ``data`` and ``test`` are labelled images; ``test`` may be left out where the data have a test
    part of their own, else a fifth is held out by a fixed seed. ``protocols`` are those of
    ``PROTOCOLS`` that the data are made for: images with one label, with several (``svm``) or with
    masks (``dense_knn``); ``all`` is every one of these that has enough images and labels to go by.
    Returns ``{"rows": {"encoder": {"knn/20": ..., ...}, "random": ..., "pixels": ...}, "intervals":
    {"encoder": {"knn/20": [low, high], ...}, ...}, "sd": the same of protocols that draw, "notes":
    what to know of a number, as that a fit did not converge, "settings": {protocol: its settings},
    "chosen": {"encoder": {"logreg": "C 0.3", ...}, ...}, "left_out": {protocol: why}, "versions":
    of the protocols, "train": N, "test": N, "split": how the test part was chosen, "content": a
    digest of the images and their labels}``.
    Features are taken in float32, once for all protocols, and with ``cached`` once for all calls;
    that the encoder did not change is checked. ``rows`` leaves out baselines that the caller has
    already. ``supervised`` adds a row: a folder of `finetune`'s, whose network from scratch is the
    same encoder trained with labels. ``tell`` hears what is being done. Raises UserError where
    labels are missing, a protocol is unknown or made for other data, and for an encoder whose
    features are not finite.
    """
    protocols = listed(protocols)
    if not protocols:
        raise UserError("no protocol to evaluate by; name one or more")
    asked, everything = _protocols(protocols), "all" in protocols
    encoder = run if isinstance(run, Pretrained) else pretrained.load(run)
    kind = kind_of(data)
    names = _fitting(asked, kind, str(data), everything=everything)
    train, held, split = parts(data, test, kind, card=encoder.card)
    place = device_of(device)
    nets: dict[str, Callable[[], torch.nn.Module]] = {
        "encoder": lambda: encoder,
        "random": lambda: pretrained.untrained(encoder.card),
        "pixels": lambda: pretrained.RawPixels(encoder),
    }
    if supervised is not None:
        taught = _taught(supervised, encoder)
        nets["supervised"] = lambda: taught
        rows = [*rows[:1], "supervised", *rows[1:]]
    before = {name: t.clone() for name, t in encoder.state_dict().items()}
    came_from = next(iter(before.values()), torch.empty(0)).device
    encoder.to(place)
    found: dict[str, Measured] = {}
    left_out: dict[str, str] = {}
    counts = (0, 0)
    for row in rows:
        keep = cached and row != "pixels"
        net, said = nets[row]().to(place), named(tell, row)
        seen = Seen(net, encoder, train, held, cached=keep, tell=said)
        if everything and kind != "masks":
            _ = seen.features  # so that no protocol is left out for want of them
        found[row] = _measured(names, seen, left_out if everything else None)
        names = [name for name in names if name not in left_out]
        counts = seen.counts()
    if not names:
        raise UserError(next(iter(left_out.values())))
    for name, tensor in encoder.state_dict().items():
        if not torch.equal(raw(tensor), raw(before[name])):
            raise RuntimeError(f"the evaluation changed {name}")
    encoder.to(came_from)
    if found:
        warn_of_broken(sum(int(part.chosen.sum()) for part in (train, held)), sum(counts))
    scores = {row: _flat(of, names) for row, of in found.items()}
    return {
        **rounded_rows(scores),
        "sd": {
            row: {n: round(s.sd, 2) for n, s in of.items() if s.sd is not None}
            for row, of in scores.items()
        },
        "notes": {row: {n: s.note for n, s in of.items() if s.note} for row, of in scores.items()},
        "settings": {name: PROTOCOLS[name].settings for name in names},
        "chosen": {
            row: {n: s.chosen for n, s in of.items() if s.chosen} for row, of in scores.items()
        },
        "left_out": left_out,
        "versions": {name: PROTOCOLS[name].version for name in names},
        "train": counts[0],
        "test": counts[1],
        "split": split,
        "content": content(train, held),
    }


def _taught(folder: str | Path, encoder: Pretrained) -> Pretrained:
    """The same encoder trained with labels alone. Raises UserError for any other network."""
    path = scratch_in(folder)
    found = pretrained.load(path)
    if not is_from_scratch(found.card, encoder.card):
        raise UserError(
            f"{path} is not the same encoder trained from scratch; give the folder that `finetune` "
            "made of this run, or leave out --supervised"
        )
    return found


def still(found: Mapping[str, Any], data: str | Path, card: Mapping[str, Any]) -> bool:
    """Whether what was found is of the images and labels that are there now.

    By its ``content``; of earlier versions' findings, which have none, nothing else is known.
    """
    train, held, _ = parts(data, None, kind_of(data), card=card)
    return found.get("content") in (None, content(train, held))


def record(run: str | Path, data: str | Path, found: dict[str, Any]) -> None:
    """Add what was found to ``evaluation.json`` in the run's folder, by the name of the data.

    Protocols that were measured before on the same images and labels stay. A folder that cannot be
    written to stays as it is, with a warning.
    """
    everything = recorded(run)
    found = merged(everything.get(str(data), {}), found)
    everything[str(data)] = found | {"date": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
    keep(expanded(run) / RECORD, everything)


def recorded(run: str | Path) -> dict[str, Any]:
    """What `record` has kept, by the name of the data."""
    path = expanded(run) / RECORD
    try:
        return json.loads(path.read_text()) if path.exists() else {}
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); remove it and evaluate again") from error


def merged(before: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """What was found, and what protocols found before that it lacks, on the same data."""
    if any(before.get(key) != found.get(key) for key in ("split", "content")):
        return found
    sound = {part: min(before[part], found[part]) for part in ("train", "test")}  # images
    parts = {}
    for part in ("rows", "intervals", "sd", "notes", "chosen"):
        parts[part] = {}
        for row in before.get(part, {}) | found[part]:
            old, now = before.get(part, {}).get(row, {}).items(), found["rows"].get(row, {})
            kept = {name: value for name, value in old if name not in now}
            parts[part][row] = kept | found[part].get(row, {})
    both = {key: before.get(key, {}) | found[key] for key in ("versions", "settings")}
    return found | parts | sound | both


def _measured(names: Iterable[str], seen: Seen, left_out: dict[str, str] | None) -> Measured:
    """By the protocols' names; where it is given, why some cannot be measured goes to left_out."""
    found = {}
    for name in names:
        seen.tell(name, 0, 0)
        try:
            found[name] = _scores(name, seen)
        except UserError as error:
            if left_out is None:
                raise
            left_out[name] = str(error)
    return found


def _scores(name: str, seen: Seen) -> dict[str, Score]:
    """A protocol's scores; UserError where memory does not hold what it needs."""
    try:
        return PROTOCOLS[name].measure(seen)
    except (MemoryError, RuntimeError) as error:
        if not is_short(error):
            raise
        raise UserError(
            f"{name} is {shortage()}; leave it out by --protocols, or give fewer or smaller images"
        ) from error


def _flat(found: Measured, names: Iterable[str]) -> dict[str, Score]:
    """By the protocols' full names."""
    return {
        f"{name}/{end}" if end else name: score
        for name in names
        for end, score in found[name].items()
    }


def _protocols(asked: Iterable[str]) -> list[str]:
    """Full names: ``knn`` is all that begin with ``knn/``, ``all`` is all there are."""
    found = []
    for name in asked:
        matching = [p for p in PROTOCOLS if name in (p, "all") or p.startswith(f"{name}/")]
        if not matching:
            raise UserError(f"no protocol named {name!r}; there are {', '.join(PROTOCOLS)}")
        found += matching
    return list(dict.fromkeys(found))


def _fitting(names: list[str], kind: Kind, data: str, *, everything: bool) -> list[str]:
    """Those that the data are made for; with ``everything`` the others are left out."""
    fitting = [name for name in names if kind in PROTOCOLS[name].kinds]
    other = next((name for name in names if name not in fitting), None)
    if other is not None and not everything:
        there = [name for name, protocol in PROTOCOLS.items() if kind in protocol.kinds]
        needs = " or ".join(KINDS[k] for k in PROTOCOLS[other].kinds)
        raise UserError(
            f"{other} needs {needs}, and {data} has {KINDS[kind]}; use --protocols with "
            f"{', '.join(there)}"
        )
    return fitting
