"""From an encoder and few labels to a classifier, beside the same network without the encoder."""

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from torch import nn

from selftaught import checkpoint, pretrained
from selftaught.commands import settings
from selftaught.commands.classifying import Chosen, Classifying
from selftaught.commands.features import features
from selftaught.commands.outputs import own_folder
from selftaught.commands.parts import Labelled, parts
from selftaught.commands.scores import Score, mean_score, rounded
from selftaught.commands.supervised import (
    Training,
    call_of,
    kept_by_default,
    kept_of,
    same_settings,
)
from selftaught.commands.trainings import FineTuneSettings, chosen
from selftaught.data.images import Images, open_labels
from selftaught.data.sources import printable
from selftaught.protocols.convex import doubts
from selftaught.protocols.linear import LogregResult, logreg
from selftaught.report import table
from selftaught.report.console import terminal
from selftaught.report.live import Doing
from selftaught.runfolder import RunFolder

CLASSIFIERS = {"fine-tuned": False, "from scratch": True}  # and whether it begins from scratch
PLACES = {name: name.replace(" ", "-") for name in CLASSIFIERS}  # their folders
FILES = ("labels.txt", "finetune.json")


def finetune(
    run: str | Path,
    data: str | Path,
    *,
    out: str | Path,
    labels: str = "all",
    test: str | Path | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    seed: int | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    resume: bool = False,
    quiet: bool = False,
    **more: Any,
) -> dict[str, Any]:
    """Train a classifier from the encoder of ``run``, and the same from random weights beside it.

    ``labels`` is ``1%`` of each class, ``10-per-class`` or ``all``; ``seed`` decides which, and
    ``labels.txt`` in ``out`` names them. ``more`` are `FineTuneSettings`. Each of the two is a run
    in a folder of ``out``, trained for the same steps on the same labels; ``resume`` goes on with
    both.

    Returns ``{"rows": {"fine-tuned": accuracy, "from scratch": ..., "logreg": of the frozen
    features, "logreg on pixels": ...}, "intervals": ..., "notes": what to know of a number,
    "labels": N, "test": N, ...}``, all of them with the same labels, and writes it to
    ``finetune.json``. Raises UserError for what the user can mend.
    """
    own, card = chosen(FineTuneSettings, more, "fine-tuning"), pretrained.read_card(run)
    if own.from_head_layer is None:
        own = replace(own, from_head_layer=kept_by_default(run, card))
    arguments, size = {"run": str(run), "labels": labels} | asdict(own), card["pixels"]["size"]
    budget = {"steps": steps, "minutes": minutes, "seed": seed, "precision": precision}
    call = call_of(data, size, arguments, **budget)
    train, held, split = parts(data, test, card=card)
    console, folder = terminal(quiet=quiet), own_folder(out, (*PLACES.values(), *FILES))
    some = Chosen.of(train, labels, call["seed"])
    places = {name: RunFolder(folder / place) for name, place in PLACES.items()}
    for place in places.values():
        place.check(resume=resume)
    encoder = pretrained.load(run).to(settings.device_of(device))
    call["weights"] = pretrained.weights_digest(encoder.encoder)
    probes = Probes(encoder, train, some, console)
    last = probes.begin(run, own) if own.probe else None
    found: dict[str, Score] = {}
    for name, scratch in CLASSIFIERS.items():
        asked = call | {"method": name, "items": some.digest}
        same_settings(places[name], asked, FineTuneSettings)
        training = Training(places[name], asked, device, console, card)
        job = Classifying(training, some, scratch=scratch, last=None if scratch else last)
        job.complete()
        found[name] = job.accuracy(held)
    _write_items(folder / "labels.txt", train, some, data)
    found |= dict(probes.scores(held))
    notes = {name: score.note for name, score in found.items() if score.note}
    if probes.frozen is None:
        notes["fine-tuned"] = (
            "no class has two labels, so that no regression could be fitted to begin with"
        )
    result = {
        **rounded(found),
        "notes": notes,
        "labels": len(some.items),
        "test": int(held.chosen.sum()),
        "split": split,
        "call": call,
    }
    checkpoint.write_atomic(folder / "finetune.json", json.dumps(result, indent=2).encode())
    console.print(table.finetuned(result))
    return result


class Probes:
    """Logistic regressions on what frozen networks make of the labelled images."""

    def __init__(
        self, encoder: pretrained.Pretrained, train: Labelled, some: Chosen, console: Console
    ) -> None:
        self.encoder, self.console = encoder, console
        everything = torch.ones(len(some.items), dtype=torch.bool)
        self.few = Labelled(train.images.take(some.items), some.labels, everything)
        self.frozen = self._fitted(encoder)

    def begin(self, run: str | Path, own: FineTuneSettings) -> LogregResult | None:
        """What a classifier's last layer begins with."""
        if not own.from_head_layer:
            return self.frozen
        method = pretrained.method_of(run)[0].to(next(self.encoder.parameters()).device)
        kept = kept_of(method, own.from_head_layer, self.encoder.card)
        assert kept is not None
        return self._fitted(nn.Sequential(method.encoder, kept).eval())

    def scores(self, held: Labelled) -> Iterator[tuple[str, Score]]:
        """The accuracy on the test part, of the encoder's features and of pixels."""
        pixels = pretrained.RawPixels(self.encoder)
        if self.frozen is not None:
            yield "logreg", self._score(self.encoder, self.frozen, held)
        if (fitted := self._fitted(pixels)) is not None:
            yield "logreg on pixels", self._score(pixels, fitted, held)

    def _fitted(self, net: nn.Module) -> LogregResult | None:
        """None for too few labels: to choose its penalty it needs a class with two."""
        if self.few.values.unique(return_counts=True)[1].max() < 2:
            return None
        x, index = self._features(net, self.few.images)
        return logreg(x, self.few.values[index], x[:0])

    def _score(self, net: nn.Module, fitted: LogregResult, held: Labelled) -> Score:
        x, index = self._features(net, held.images)
        keep = held.chosen[index]
        scores = x[keep].double() @ fitted.weight.T.cpu() + fitted.bias.cpu()
        found = mean_score(fitted.classes[scores.argmax(dim=1)] == held.values[index][keep])
        return found._replace(note=doubts(fitted.held_out, converged=fitted.converged))

    def _features(self, net: nn.Module, images: Images) -> tuple[torch.Tensor, torch.Tensor]:
        with Doing(self.console) as doing:
            return features(net, self.encoder, images, cached=net is self.encoder, tell=doing)


def _write_items(path: Path, train: Labelled, some: Chosen, data: str | Path) -> None:
    """Which labels were used: the image's name and its class, one a line."""
    found = open_labels(data, "train")
    assert found is not None
    names = train.images.names
    pairs = zip(some.items.tolist(), some.labels.tolist(), strict=True)
    lines = [f"{printable(str(names[i]))}\t{printable(found.classes[c])}\n" for i, c in pairs]
    checkpoint.write_atomic(path, "".join(lines).encode())
