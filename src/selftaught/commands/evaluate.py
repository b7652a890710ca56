"""How good an encoder is, with the same protocols on random weights and on raw pixels beside it."""

import json
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from selftaught import pretrained, seeds
from selftaught.checkpoint import write_atomic
from selftaught.commands.features import features
from selftaught.commands.settings import device_of
from selftaught.data.images import Images, Labels, has_part, open_images, open_labels
from selftaught.errors import UserError
from selftaught.pretrained import Pretrained
from selftaught.protocols.fewshot import fewshot
from selftaught.protocols.grouping import clustering
from selftaught.protocols.intervals import bootstrap
from selftaught.protocols.knn import knn
from selftaught.protocols.linear import logreg
from selftaught.protocols.margin import svm
from selftaught.protocols.retrieval import retrieval


class Score(NamedTuple):
    """One number, in percent, and how far it could be off."""

    value: float
    low: float  # of its 95 % interval over test sets, or of its range over draws
    high: float
    sd: float | None = None  # over draws


class Protocol(NamedTuple):
    """What is measured on features: by the end of its name, or under its name alone."""

    measure: Callable[[Tensor, Tensor, Tensor, Tensor], dict[str, Score]]
    version: int = 1  # a number may be compared with others of the same version only


def _hits(predict: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Protocol:
    """The accuracy of a classifier."""

    def measure(x: Tensor, y: Tensor, tx: Tensor, ty: Tensor) -> dict[str, Score]:
        return {"": mean_score(predict(x, y, tx).cpu() == ty)}

    return Protocol(measure)


def _fewshot(shots: int) -> Protocol:
    def measure(x: Tensor, y: Tensor, tx: Tensor, ty: Tensor) -> dict[str, Score]:
        return {"": _over_draws(fewshot(x, y, tx, ty, shots=shots))}

    return Protocol(measure)


def _retrieval(x: Tensor, y: Tensor, tx: Tensor, ty: Tensor) -> dict[str, Score]:
    return {name: mean_score(values) for name, values in retrieval(x, y, tx, ty).items()}


def _clustering(_x: Tensor, _y: Tensor, tx: Tensor, ty: Tensor) -> dict[str, Score]:
    """Of the test part; over starts of k-means."""
    found = [clustering(tx, ty, seed=seed) for seed in range(CLUSTERINGS)]
    return {name: _over_draws(torch.tensor([one[name] for one in found])) for name in found[0]}


CLUSTERINGS = 3
PROTOCOLS: dict[str, Protocol] = {
    "knn/20": _hits(lambda x, y, tx: knn(x, y, tx, k=20)),
    "knn/200": _hits(lambda x, y, tx: knn(x, y, tx, k=200)),
    "logreg": _hits(lambda x, y, tx: logreg(x, y, tx).predictions),
    "svm": _hits(lambda x, y, tx: svm(x, y, tx).predictions),
    "fewshot/1": _fewshot(1),
    "fewshot/5": _fewshot(5),
    "fewshot/10": _fewshot(10),
    "clustering": Protocol(_clustering),
    "retrieval": Protocol(_retrieval),
}
USUAL = ("knn/20", "knn/200", "logreg")
HELD_OUT = 0.2  # share of the data that is held out where they have no test part
SPLIT_SEED = 0
RECORD = "evaluation.json"


def evaluate(
    run: str | Path | Pretrained,
    data: str | Path,
    *,
    test: str | Path | None = None,
    protocols: Sequence[str] = USUAL,
    device: str = "auto",
    rows: Sequence[str] = ("encoder", "random", "pixels"),
    cached: bool = False,
) -> dict[str, Any]:
    """Scores in percent of the encoder, of the same with random weights and of raw pixels.

    ``data`` and ``test`` are labelled images; ``test`` may be left out where the data have a test
    part of their own, else a fifth is held out by a fixed seed. Returns ``{"rows": {"encoder":
    {"knn/20": ..., ...}, "random": ..., "pixels": ...}, "intervals": {"encoder": {"knn/20": [low,
    high], ...}, ...}, "sd": the same of protocols that draw, "versions": of the protocols, "train":
    N, "test": N, "split": how the test part was chosen}``. Features are taken in float32, once for
    all protocols, and with ``cached`` once for all calls; that the encoder did not change is
    asserted. ``rows`` leaves out baselines that the caller has already. Raises UserError where
    labels are missing or an unknown protocol is named.
    """
    names = _protocols(protocols)
    encoder = run if isinstance(run, Pretrained) else pretrained.load(run)
    train, held, split = parts(data, test)
    place = device_of(device)
    nets: dict[str, Callable[[], torch.nn.Module]] = {
        "encoder": lambda: encoder,
        "random": lambda: pretrained.untrained(encoder.card),
        "pixels": lambda: pretrained.RawPixels(encoder),
    }
    before = {name: t.clone() for name, t in encoder.state_dict().items()}
    encoder.to(place)
    scores: dict[str, dict[str, Score]] = {}
    y = ty = torch.empty(0)
    for row in rows:
        net, keep = nets[row]().to(place), cached and row != "pixels"
        x, y = _features(net, encoder, train, keep)
        tx, ty = _features(net, encoder, held, keep)
        scores[row] = _scores(names, x, y, tx, ty)
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(tensor.cpu(), before[name].cpu()), f"the evaluation changed {name}"
    return {
        "rows": {row: {n: round(s.value, 2) for n, s in of.items()} for row, of in scores.items()},
        "intervals": {
            row: {n: [round(s.low, 2), round(s.high, 2)] for n, s in of.items()}
            for row, of in scores.items()
        },
        "sd": {
            row: {n: round(s.sd, 2) for n, s in of.items() if s.sd is not None}
            for row, of in scores.items()
        },
        "versions": {name: PROTOCOLS[name].version for name in names},
        "train": len(y),
        "test": len(ty),
        "split": split,
    }


def record(run: str | Path, data: str | Path, found: dict[str, Any]) -> None:
    """Add what was found to ``evaluation.json`` in the run's folder, by the name of the data.

    Protocols that were measured before on the same split stay. A folder that cannot be written to
    stays as it is.
    """
    everything = recorded(run)
    found = merged(everything.get(str(data), {}), found)
    everything[str(data)] = found | {"date": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
    with suppress(OSError):
        write_atomic(Path(run).expanduser() / RECORD, json.dumps(everything, indent=2).encode())


def recorded(run: str | Path) -> dict[str, Any]:
    """What `record` has kept, by the name of the data."""
    path = Path(run).expanduser() / RECORD
    try:
        return json.loads(path.read_text()) if path.exists() else {}
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); remove it and evaluate again") from error


def merged(before: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """What was found, and what protocols found before that it lacks, on the same split."""
    if any(before.get(key) != found[key] for key in ("split", "train", "test")):
        return found
    parts = {
        part: {row: before[part].get(row, {}) | v for row, v in found[part].items()}
        for part in ("rows", "intervals", "sd")
    }
    return found | parts | {"versions": before["versions"] | found["versions"]}


def _scores(names: Iterable[str], x: Tensor, y: Tensor, tx: Tensor, ty: Tensor) -> dict[str, Score]:
    """By the protocols' full names."""
    found = {}
    for name in names:
        for end, score in PROTOCOLS[name].measure(x, y, tx, ty).items():
            found[f"{name}/{end}" if end else name] = score
    return found


def _protocols(asked: Iterable[str]) -> list[str]:
    """Full names: ``knn`` is all that begin with ``knn/``, ``all`` is all there are."""
    found = []
    for name in asked:
        matching = [p for p in PROTOCOLS if name in (p, "all") or p.startswith(f"{name}/")]
        if not matching:
            raise UserError(f"no protocol named {name!r}; there are {', '.join(PROTOCOLS)}")
        found += matching
    return list(dict.fromkeys(found))


class Labelled(NamedTuple):
    """Images, the labels of some of them, and which these are."""

    images: Images
    values: Tensor  # (N,) of all images
    chosen: Tensor  # (N,) bool


def parts(data: str | Path, test: str | Path | None) -> tuple[Labelled, Labelled, str]:
    """The train part and the test part, and how the latter was chosen."""
    images, labels = open_images(data), _labels(data, "train")
    everything = torch.ones(len(images), dtype=torch.bool)
    if test is None and not has_part(data, "test"):
        order = torch.randperm(len(images), generator=seeds.generator(SPLIT_SEED, "held out"))
        held = torch.zeros(len(images), dtype=torch.bool)
        held[order[: max(1, round(HELD_OUT * len(images)))]] = True
        split = f"test: a fifth of {images.name}, held out by seed {SPLIT_SEED}"
        return (
            Labelled(images, labels.values, ~held),
            Labelled(images, labels.values, held),
            split,
        )
    source = data if test is None else test
    part = "test" if has_part(source, "test") else "train"
    others = _labels(source, part)
    unknown = sorted(set(others.classes) - set(labels.classes))
    if unknown:
        raise UserError(
            f"{source} has classes that {data} lacks ({', '.join(unknown[:5])}); evaluate on the "
            "same classes"
        )
    renumber = torch.tensor([labels.classes.index(name) for name in others.classes])
    held_images = open_images(source, part)
    return (
        Labelled(images, labels.values, everything),
        Labelled(
            held_images,
            renumber[others.values],
            torch.ones(len(held_images), dtype=torch.bool),
        ),
        f"test: the {part} part of {source}",
    )


def _labels(data: str | Path, part: Any) -> Labels:
    labels = open_labels(data, part)
    if labels is None:
        raise UserError(
            f"{data} has no labels to evaluate with; put the images into one folder a class, or "
            "use `selftaught embed`"
        )
    return labels


def _features(
    net: torch.nn.Module, like: Pretrained, part: Labelled, cached: bool
) -> tuple[Tensor, Tensor]:
    x, index = features(net, like, part.images, cached=cached)
    chosen = part.chosen[index]
    return x[chosen], part.values[index][chosen]


def mean_score(values: Tensor) -> Score:
    """Of values from 0 to 1, or hits and misses, one a test sample."""
    values = values.double()
    low, high = bootstrap(values)
    return Score(100 * values.mean().item(), 100 * low, 100 * high)


def _over_draws(values: Tensor) -> Score:
    """Of values from 0 to 1, one a draw; their range is the interval."""
    values = 100 * values.double()
    low, high = values.aminmax()
    return Score(values.mean().item(), low.item(), high.item(), values.std().item())
