"""How accuracy holds under attacks and corruptions, beside the supervised network of one size."""

import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor, nn

from selftaught import pretrained, seeds
from selftaught.commands import settings
from selftaught.commands.classifying import Chosen, Classifying
from selftaught.commands.features import features
from selftaught.commands.outputs import keep
from selftaught.commands.parts import Labelled, parts
from selftaught.commands.scores import Score, mean_score, rounded_rows
from selftaught.commands.supervised import (
    Training,
    call_of,
    is_from_scratch,
    scratch_in,
    trained_classifier,
)
from selftaught.commands.trainings import FineTuneSettings
from selftaught.data.batches import plain
from selftaught.data.sources import evenly
from selftaught.errors import UserError, going_on_by_itself
from selftaught.paths import expanded
from selftaught.pretrained import Pretrained
from selftaught.protocols import attacks, corruptions
from selftaught.protocols.convex import doubts
from selftaught.protocols.linear import logreg
from selftaught.report.console import terminal
from selftaught.report.live import Doing, Tell, counted, named
from selftaught.runfolder import RunFolder

EPSILONS = (1.0, 2.0, 4.0, 8.0)  # of 255 levels
ATTACKS = ("fgsm", "pgd")
IMAGES = 1000  # of the test part
BATCH = 100  # images attacked or corrupted at once; what is drawn depends on it
SUPERVISED = "supervised"  # the folder in that of the run, with one for each data and settings
NEVER = -1e9  # the score of a class that is never found


class Asked(NamedTuple):
    """What is measured."""

    attacks: tuple[str, ...] = ATTACKS
    epsilons: tuple[float, ...] = EPSILONS
    corruptions: tuple[str, ...] = tuple(corruptions.CORRUPTIONS)
    images: int = IMAGES
    seed: int = 0


class Normalise(nn.Module):
    """Images in [0, 1] as an encoder wants them, so that an attack sees pixels."""

    def __init__(self, like: Pretrained) -> None:
        super().__init__()
        self.mean = nn.Buffer(torch.tensor(like.pixels.mean)[:, None, None])
        self.std = nn.Buffer(torch.tensor(like.pixels.std)[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, S, S) to the same shape."""
        return (x - self.mean) / self.std


class Widened(nn.Module):
    """Scores of more classes, which are never found: test images may have some that train lacks."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, scores: Tensor) -> Tensor:
        """(N, K) to (N, classes)."""
        return F.pad(scores, (0, max(0, self.classes - scores.shape[1])), value=NEVER)


def robustness(
    run: str | Path,
    data: str | Path,
    *,
    test: str | Path | None = None,
    supervised: str | Path | None = None,
    steps: int | None = None,
    epsilons: Sequence[float] = EPSILONS,
    attacks: Sequence[str] = ATTACKS,
    corruptions: Sequence[str] = tuple(corruptions.CORRUPTIONS),
    images: int = IMAGES,
    seed: int = 0,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    quiet: bool = False,
) -> dict[str, Any]:
    """Accuracies in percent of four classifiers: clean, attacked, and on corrupted images.

    They are logistic regression on the frozen encoder of ``run``, the network of the same size that
    was trained with the labels (``supervised``, a folder that `finetune` made; without it, one is
    trained for ``steps`` in the run's folder, once for the same data, split, steps and seed),
    logistic regression on the same encoder with random weights, and on raw pixels. Each is attacked
    by its own gradient, in pixels, with its normalisation inside; an image counts where it was
    right before the attack and is after it.
    ``epsilons`` are in levels of 255; ``images`` of the test part are used, evenly spread.

    Returns ``{"rows": {"encoder": {"clean": ..., "fgsm/2": ..., "jpeg": mean over severities, ...},
    ...}, "intervals": ..., "severities": {"encoder": {"jpeg": [five accuracies]}}, "mce": over
    these corruptions, relative to the supervised network (Hendrycks & Dietterich 2019, equation 1,
    whose mCE is over fifteen and relative to AlexNet), in percent, "flat": share of images without
    any gradient, which no attack by gradients can move, "notes": what to know of a regression,
    ...}`` and adds it to ``robustness.json`` in the run's folder. Raises UserError for what the
    user can mend.
    """
    asked = Asked(
        settings.listed(attacks), tuple(epsilons), settings.listed(corruptions), images, seed
    )
    _check(asked)
    like = pretrained.load(run)
    train, held, split = parts(data, test, card=like.card)
    place, console = settings.device_of(device), terminal(quiet=quiet)
    net, origin = _supervised(run, data, supervised, steps, seed, device, like, train, console)
    like.to(place)
    with Doing(console) as doing:
        classes = int(max(part.values.max() for part in (train, held))) + 1
        networks, notes = _networks(like, net.to(place), train, classes, doing)
        x, y = _test(held, like, images)
        found: dict[str, dict[str, Any]] = {}
        for row, network in networks.items():
            network = network.to(place).eval().requires_grad_(False)
            drawn = counted(_batches(x, y), doing, row, len(x), each=BATCH)
            found[row] = _measured(network, drawn, asked, place)
    result = _result(found, asked) | {
        "notes": notes,
        "images": len(x),
        "parameters": _parameters(x),
        "supervised": origin,
        "split": split,
        "call": asked._asdict() | {"data": str(data)},
    }
    _record(run, data, result)
    return result


def _parameters(x: Tensor) -> str:
    return corruptions.parameters_of(x.shape[-1])


def _check(asked: Asked) -> None:
    """Raises UserError for what cannot be measured."""
    for given, there, what in (
        (asked.attacks, ATTACKS, "attack"),
        (asked.corruptions, tuple(corruptions.CORRUPTIONS), "corruption"),
    ):
        unknown = [name for name in given if name not in there]
        if unknown:
            raise UserError(f"no {what} named {unknown[0]!r}; there are {', '.join(there)}")
    if not all(0 < e <= 255 for e in asked.epsilons):
        raise UserError(
            f"--epsilons {', '.join(f'{e:g}' for e in asked.epsilons)} of 255 levels; use numbers "
            "above 0 and up to 255"
        )
    for given in (asked.attacks, asked.corruptions, asked.epsilons):
        if len(set(given)) < len(given):
            names = ", ".join(
                f"{each:g}" if isinstance(each, float) else str(each) for each in given
            )
            raise UserError(f"{names} has one twice; name each once")
    if asked.images < 1:
        raise UserError(f"--images {asked.images}; use 1 or more of the test part")


def _networks(
    like: Pretrained, supervised: nn.Module, train: Labelled, classes: int, tell: Tell
) -> tuple[dict[str, nn.Module], dict[str, str]]:
    """The four, of images in [0, 1], and what is to be said of their fits, if anything."""
    place = next(like.parameters()).device
    bases = {
        "encoder": like,
        "random": pretrained.untrained(like.card).to(place),
        "pixels": pretrained.RawPixels(like).to(place),
    }
    probes = {
        row: _probe(net, like, train, classes, named(tell, row)) for row, net in bases.items()
    }
    own = {"supervised": nn.Sequential(Normalise(like), supervised, Widened(classes))}
    found = {row: network for row, (network, _) in probes.items()} | own
    notes = {row: note for row, (_, note) in probes.items() if note}
    return {row: found[row] for row in ("encoder", "supervised", "random", "pixels")}, notes


def _probe(
    net: nn.Module, like: Pretrained, train: Labelled, classes: int, tell: Tell
) -> tuple[nn.Module, str]:
    """Logistic regression on a network's features, as one network, and what to say of the fit."""
    keeps = isinstance(net, Pretrained)
    x, index = features(net, like, train.images, cached=keeps, tell=tell)
    chosen = train.chosen[index]
    y = train.values[index][chosen]
    tell("logreg", 0, 0)
    found = logreg(x[chosen], y, x[:1])
    head = nn.Linear(x.shape[1], classes)
    with torch.no_grad():
        head.weight.zero_()
        head.bias.fill_(NEVER)  # of classes that do not occur in train
        head.weight[found.classes] = found.weight.float()
        head.bias[found.classes] = found.bias.float()
    device = next(like.parameters()).device
    network = nn.Sequential(Normalise(like), net, head).to(device)
    return network, doubts(found.held_out, converged=found.converged)


def _supervised(
    run: str | Path,
    data: str | Path,
    folder: str | Path | None,
    steps: int | None,
    seed: int,
    device: str,
    like: Pretrained,
    train: Labelled,
    console: Console,
) -> tuple[nn.Module, dict[str, Any]]:
    """The network that was trained with labels alone, and how."""
    some = Chosen.of(train, "all", seed)
    if folder is None:
        arguments = {"run": str(run), "labels": "all"} | asdict(FineTuneSettings())
        budget = {"steps": steps, "minutes": None, "seed": seed, "precision": "auto"}
        call = call_of(data, like.pixels.size, arguments, **budget)
        call |= {"method": "from scratch", "items": some.digest}
        path = expanded(run) / SUPERVISED / _key(call, train, like.card)
        training = Training(RunFolder(path), call, device, console, like.card)
        with going_on_by_itself():
            Classifying(training, some, scratch=True).complete()
    else:
        path = scratch_in(folder)
    network, card = trained_classifier(path)
    there = RunFolder(path).describe()["data"]["fingerprint"]
    same = is_from_scratch(card, like.card)
    if not (same and there == train.images.fingerprint()):
        raise UserError(
            f"{path} is not the network of {run} trained from scratch on {data}; give the folder "
            "that `finetune` made of both, or leave out --supervised"
        )
    if card["finetuned"].get("items") != some.digest:
        labels = card["finetuned"]["arguments"]["labels"]
        raise UserError(
            f"{path} was trained on other labelled images (labels: {labels}) than all of the train "
            "part here; give the network of `finetune` with --labels all and the same --test, or "
            "leave out --supervised"
        )
    return network, {"folder": str(path), "steps": card["steps"]} | {
        key: card["finetuned"]["arguments"][key] for key in ("labels", "lr", "weight_decay")
    }


def _key(call: Mapping[str, Any], train: Labelled, card: Mapping[str, Any]) -> str:
    """The name of a folder that tells data, labelled items, settings and network from others.

    Where the run and the data lie does not matter.
    """
    own = {name: value for name, value in call["arguments"].items() if name != "run"}
    said = {name: value for name, value in call.items() if name != "data"} | {"arguments": own}
    said |= {"fingerprint": train.images.fingerprint()}
    said |= {f"card {name}": card[name] for name in ("recipe", "arguments", "pixels")}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12]


def _test(held: Labelled, like: Pretrained, count: int) -> tuple[Tensor, Tensor]:
    """Test images (N, C, S, S) in [0, 1] as the encoder sees them, and their classes."""
    numbers = held.chosen.nonzero().squeeze(1)
    numbers = numbers[evenly(min(count, len(numbers)), len(numbers))]
    views = pretrained.plain_views(like.pixels)
    views.mean, views.std = (0.0,) * like.pixels.channels, (1.0,) * like.pixels.channels
    found = list(plain(held.images.take(numbers), views, BATCH))
    if not found:
        raise UserError("no image of the test part can be read; check the files")
    index = torch.cat([i for i, _ in found])
    return torch.cat([x for _, x in found]), held.values[numbers][index]


def _batches(x: Tensor, y: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
    for start in range(0, len(x), BATCH):
        yield start, x[start : start + BATCH], y[start : start + BATCH]


def _measured(
    network: nn.Module,
    batches: Iterable[tuple[int, Tensor, Tensor]],
    asked: Asked,
    place: torch.device,
) -> dict[str, Any]:
    """Hits (N,) by name; of corruptions, (N, 5)."""
    hits: dict[str, list[Tensor]] = {}

    def right(some: Tensor, truth: Tensor) -> Tensor:
        with torch.no_grad():
            return network(some.to(place)).argmax(1).cpu() == truth

    for start, images, truth in batches:
        clean = right(images, truth)
        hits.setdefault("clean", []).append(clean)
        if asked.attacks and asked.epsilons:
            found = attacks.slope(network, images.to(place), truth.to(place))
            hits.setdefault("flat", []).append((found == 0).flatten(1).all(1).cpu())
        for attack in asked.attacks:
            for epsilon in asked.epsilons:
                g = seeds.generator(asked.seed, attack, start)
                there = images.to(place), truth.to(place), epsilon / 255
                attacked = (
                    attacks.fgsm(network, *there)
                    if attack == "fgsm"
                    else attacks.pgd(network, *there, g)
                )
                name = f"{attack}/{epsilon:g}"
                hits.setdefault(name, []).append(clean & right(attacked, truth))
        for name in asked.corruptions:
            of = []
            for severity in corruptions.SEVERITIES:
                g = seeds.generator(asked.seed, name, start)
                of.append(right(corruptions.corrupt(images, name, severity, g), truth))
            hits.setdefault(name, []).append(torch.stack(of, 1))
    return {name: torch.cat(of) for name, of in hits.items()}


def _result(found: Mapping[str, Mapping[str, Tensor]], asked: Asked) -> dict[str, Any]:
    names = [name for name in found["encoder"] if name != "flat"]
    scores: dict[str, dict[str, Score]] = {
        row: {n: mean_score(of[n].double().reshape(len(of[n]), -1).mean(1)) for n in names}
        for row, of in found.items()
    }
    return {
        **rounded_rows(scores),
        "severities": {
            row: {
                n: [round(100 * v, 2) for v in of[n].double().mean(0).tolist()]
                for n in asked.corruptions
            }
            for row, of in found.items()
        },
        "mce": {row: _mce(of, found["supervised"], asked.corruptions) for row, of in found.items()},
        "flat": {
            row: round(100 * of["flat"].double().mean().item(), 2)
            for row, of in found.items()
            if "flat" in of
        },
    }


def _mce(
    of: Mapping[str, Tensor], supervised: Mapping[str, Tensor], names: Sequence[str]
) -> float | None:
    """The mean over corruptions of the error relative to the supervised network's, in percent.

    None where that network makes no error on one of them.
    """
    ratios = []
    for name in names:
        base = (~supervised[name]).sum().item()
        if not base:
            return None
        ratios.append((~of[name]).sum().item() / base)
    return round(100 * sum(ratios) / len(ratios), 2) if ratios else None


def _record(run: str | Path, data: str | Path, found: dict[str, Any]) -> None:
    """Keep what was found in ``robustness.json``, by the name of the data.

    A folder that cannot be written to stays as it is, with a warning.
    """
    path = expanded(run) / "robustness.json"
    try:
        everything = json.loads(path.read_text()) if path.exists() else {}
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); remove it and measure again") from error
    everything[str(data)] = found | {"date": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
    keep(path, everything)
