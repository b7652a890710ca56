"""From an encoder and few labels to a classifier, beside the same network without the encoder."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from rich.console import Console
from torch import Tensor, nn

from selftaught import checkpoint, pretrained, seeds
from selftaught.commands import settings
from selftaught.commands.features import features
from selftaught.commands.labels import choose
from selftaught.commands.parts import Labelled, parts
from selftaught.commands.scores import Score, mean_score, rounded
from selftaught.commands.supervised import Supervised, fresh, kept_of, same_settings, views_of
from selftaught.data.images import Images, open_labels
from selftaught.data.sources import printable
from selftaught.errors import UserError
from selftaught.methods.classifier import Classifier
from selftaught.nn.encoders import stages
from selftaught.optim import layered
from selftaught.protocols.linear import LogregResult, logreg
from selftaught.recipes.run import Run
from selftaught.report import table
from selftaught.runfolder import RunFolder

CLASSIFIERS = {"fine-tuned": False, "from scratch": True}  # and whether it begins from scratch
STEPS, EPOCHS = 600, 10  # by default the longer of the two
BATCH = 128


class Settings(NamedTuple):
    """How a classifier is trained."""

    run: str
    labels: str
    from_head_layer: int = 0
    layer_decay: float = 1.0
    freeze: bool = False
    freeze_norm: bool = True
    probe: bool = True
    batch_size: int = BATCH
    lr: float = 1e-3
    weight_decay: float = 0.05
    warmup: float = 0.1
    smallest_crop: float = 0.6


class Chosen(NamedTuple):
    """The labelled images that are trained on, and their classes."""

    items: Tensor  # (N,) among all images
    labels: Tensor  # (N,)
    classes: int


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
    ``labels.txt`` in ``out`` names them. ``more`` are `Settings`. Each of the two is a run in a
    folder of ``out``, trained for the same steps on the same labels; ``resume`` goes on with both.

    Returns ``{"rows": {"fine-tuned": accuracy, "from scratch": ..., "logreg": of the frozen
    features, "logreg on pixels": ...}, "intervals": ..., "labels": N, "test": N, ...}``, all of
    them with the same labels, and writes it to ``finetune.json``. Raises UserError for what the
    user can mend.
    """
    settings.check_budget(steps=steps, minutes=minutes)
    own = _settings(run, labels, more)
    card = pretrained.read_card(run)
    train, held, split = parts(data, test)
    console, folder = Console(quiet=quiet), Path(out).expanduser()
    chosen = _chosen(train, labels, seed or 0)
    places = {name: RunFolder(folder / name.replace(" ", "-")) for name in CLASSIFIERS}
    for place in places.values():
        place.check(resume=resume)
    few = Labelled(
        train.images.take(chosen.items),
        chosen.labels,
        torch.ones(len(chosen.items), dtype=torch.bool),
    )
    encoder = pretrained.load(run).to(settings.device_of(device))
    frozen = _probe(encoder, encoder, few)
    call = {"data": str(data), "steps": steps, "minutes": minutes, "seed": seed or 0}
    call |= {"precision": precision, "scale": None, "size": card["pixels"]["size"]}
    found: dict[str, Score] = {}
    for name, scratch in CLASSIFIERS.items():
        place = places[name]
        asked = call | {"method": name, "arguments": own._asdict()}
        same_settings(place, asked)
        begun = None if scratch or not own.probe else _last_layer(own, encoder, few, frozen)
        job = FineTuning(place, asked, device, console, card, chosen, scratch=scratch, last=begun)
        job.complete()
        found[name] = job.accuracy(held)
    _write_items(folder / "labels.txt", train, chosen, data)
    pixels = pretrained.RawPixels(encoder)
    for name, net, fitted in (
        ("logreg", encoder, frozen),
        ("logreg on pixels", pixels, _probe(pixels, encoder, few)),
    ):
        if fitted is not None:
            found[name] = _score(net, encoder, fitted, held)
    result = {
        **rounded(found),
        "labels": len(chosen.items),
        "test": int(held.chosen.sum()),
        "split": split,
        "call": call | own._asdict(),
    }
    checkpoint.write_atomic(folder / "finetune.json", json.dumps(result, indent=2).encode())
    console.print(table.finetuned(result))
    return result


def _settings(run: str | Path, labels: str, more: Mapping[str, Any]) -> Settings:
    unknown = more.keys() - set(Settings._fields)
    if unknown:
        raise UserError(f"fine-tuning has no setting {sorted(unknown)[0]!r}")
    own = Settings(str(run), labels, **more)
    if not (0 < own.layer_decay <= 1 and own.lr > 0 and own.batch_size > 0):
        raise UserError(
            f"a layer decay of {own.layer_decay}, a learning rate of {own.lr}, a batch of "
            f"{own.batch_size}; use --layer-decay up to 1, all above 0"
        )
    return own


def _chosen(train: Labelled, labels: str, seed: int) -> Chosen:
    among = train.chosen.nonzero().squeeze(1)
    index = among[choose(train.values[among], labels, seed)]
    return Chosen(index, train.values[index], int(train.values.max()) + 1)


def _write_items(path: Path, train: Labelled, chosen: Chosen, data: str | Path) -> None:
    """Which labels were used: the image's name and its class, one a line."""
    found = open_labels(data, "train")
    assert found is not None
    names = train.images.names
    pairs = zip(chosen.items.tolist(), chosen.labels.tolist(), strict=True)
    lines = [f"{printable(str(names[i]))}\t{printable(found.classes[c])}\n" for i, c in pairs]
    checkpoint.write_atomic(path, "".join(lines).encode())


def _probe(net: nn.Module, like: pretrained.Pretrained, few: Labelled) -> LogregResult | None:
    """Logistic regression on what ``net`` makes of the labelled images; None for too few of them.

    It needs a class with two to choose its penalty.
    """
    if few.values.unique(return_counts=True)[1].max() < 2:
        return None
    x, index = features(net, like, few.images, cached=net is like)
    return logreg(x, few.values[index], x[:0])


def _last_layer(
    own: Settings, encoder: pretrained.Pretrained, few: Labelled, frozen: LogregResult | None
) -> LogregResult | None:
    """What the classifier's last layer begins with; ``frozen`` is the probe of the encoder."""
    if not own.from_head_layer:
        return frozen
    method = pretrained.method_of(own.run)[0].to(next(encoder.parameters()).device)
    kept = kept_of(method, own.from_head_layer, encoder.card)
    assert kept is not None
    return _probe(nn.Sequential(method.encoder, kept).eval(), encoder, few)


def _score(
    net: nn.Module, like: pretrained.Pretrained, fitted: LogregResult, held: Labelled
) -> Score:
    """The accuracy of a logistic regression on what ``net`` makes of the test part."""
    x, index = features(net, like, held.images, cached=net is like)
    keep = held.chosen[index]
    scores = x[keep].double() @ fitted.weight.T.cpu() + fitted.bias.cpu()
    return mean_score(fitted.classes[scores.argmax(dim=1)] == held.values[index][keep])


class FineTuning(Supervised):
    """The training of one classifier, from an encoder's weights or from random ones."""

    def __init__(
        self,
        folder: RunFolder,
        call: dict[str, Any],
        device: str,
        console: Console,
        card: dict[str, Any],
        chosen: Chosen,
        *,
        scratch: bool,
        last: LogregResult | None = None,
    ) -> None:
        self.chosen, self.scratch, self.last = chosen, scratch, last
        super().__init__(folder, call, device, console, card)

    def _choose(self) -> Images:
        return self.images.take(self.chosen.items)

    def _build(self) -> Run:
        own = Settings(**self.call["arguments"])
        with torch.random.fork_rng([]):
            torch.manual_seed(seeds.derive(self.call["seed"], "weights"))
            encoder, kept = self._networks(own)
            method = Classifier(
                encoder,
                labels=self.chosen.labels,
                classes=self.chosen.classes,
                kept=kept,
                freeze=own.freeze and not self.scratch,
                freeze_norm=own.freeze_norm and not self.scratch,
            )
            if self.last is not None:
                method.begin_with(self.last.weight, self.last.bias)
        count = len(self.chosen.items)
        batch = settings.batch_size_for(None, own.batch_size, count)
        rates = {"lr": own.lr, "weight_decay": own.weight_decay, "decay": own.layer_decay}
        run = Run(
            method=method,
            views=views_of(self.pixels, encoder, own.smallest_crop),
            optimizer=torch.optim.AdamW(layered(method, encoder, stages(encoder), **rates)),
            batch_size=batch,
            epochs=max(EPOCHS, math.ceil(STEPS / (count // batch))),
            warmup=own.warmup,
        )
        return self._placed(run)

    def _networks(self, own: Settings) -> tuple[nn.Module, nn.Sequential | None]:
        """The encoder, and what is kept of the projection head."""
        seed = self.call["seed"]
        if self.scratch or not own.from_head_layer:
            method = fresh(self.card, self.pixels, seed)
            if not self.scratch:
                return pretrained.load(own.run).encoder, None
        else:
            method = pretrained.method_of(own.run)[0]
        return method.encoder, kept_of(method, own.from_head_layer, self.card)

    def _announce(self) -> None:
        self._say(
            f"{self.call['method']}: {len(self.chosen.items):,} labels of {self.chosen.classes} "
            "classes"
        )

    def _origin(self) -> dict[str, Any]:
        return {"finetuned": self.call, "scratch": self.scratch}
