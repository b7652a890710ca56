"""What the trainings with labels share."""

import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from torch import nn

from selftaught import checkpoint, pretrained
from selftaught.commands import settings
from selftaught.commands.features import features
from selftaught.commands.job import Job
from selftaught.commands.parts import Labelled
from selftaught.commands.scores import Score, mean_score
from selftaught.data.images import Images, open_images
from selftaught.errors import UserError
from selftaught.health import Verdict, verdict
from selftaught.method import Method
from selftaught.nn.heads import ClassScores, first_layers
from selftaught.paths import expanded
from selftaught.recipes.run import Pixels
from selftaught.recipes.shared import Look
from selftaught.report.live import Doing, Tell, silent
from selftaught.runfolder import RunFolder
from selftaught.views.image import Views

#: What a card says of the encoder itself, and of none that is trained from it.
OF_THE_ENCODER = ("signals", "verdict", "evaluation", "accuracy", "exported", "dim")
#: What a call says of what is trained on, in digests.
LABELLED = {"items", "annotations"}


class Training(NamedTuple):
    """Where a training with labels runs, and what was asked for."""

    folder: RunFolder
    call: dict[str, Any]
    device: str
    console: Console
    card: dict[str, Any]  # of the encoder that it begins with


class Supervised(Job):
    """The training of a network whose images are seen as those of an encoder's card."""

    probes = 2

    def __init__(self, training: Training) -> None:
        folder, call, device, console, self.card = training
        super().__init__(folder, call, settings.device_of(device), console)

    def complete(self) -> None:
        """Train to the end, unless that was done before, and write the encoder."""
        with self.folder.lock():
            if not self.description.get("finished"):
                self.train(settings.readers_for(None, self.device), 0.0)
                self._after_training()
                begun = {key: v for key, v in self.card.items() if key not in OF_THE_ENCODER}
                card = begun | self._origin() | {"steps": self.description["steps"]}
                pretrained.write(self.folder.path, self.run.method.encoder, card)
                self.description["finished"] = True
                self.folder.write(self.description)

    def _after_training(self) -> None:
        """What is done with the weights of the last step before they are written."""

    def restore_weights(self) -> None:
        """Put the weights that were saved last into the method."""
        found = checkpoint.latest(self.folder.checkpoints)
        assert found is not None
        self.run.method.load_state_dict(found[1]["method"])

    def accuracy(self, held: Labelled) -> Score:
        """Of the classifier as it was saved last, on the test part."""
        self.restore_weights()
        like = pretrained.Pretrained(self.run.method.encoder, self.pixels, self.card)
        with Doing(self.console) as doing:
            return accuracy(self.run.method.network, like, held, doing)  # pyright: ignore

    def verdict(self, *newest: dict[str, Any]) -> Verdict:
        """With labels, features may lie on as few dimensions as there are classes."""
        unknown = self.description["untrained"] | {"effective_rank": None}
        kept = [r | {"signals": None} for r in (*self.folder.metrics(), *newest)]
        return verdict(kept, unknown)

    def _hold_out(self) -> None:
        """Nothing: labels are few, and they are known by the number of the image."""

    def _resolve(self, call: dict[str, Any]) -> dict[str, Any]:
        return call

    def _pixels(self) -> Pixels:
        return Pixels.read(self.card["pixels"])

    def _open(self, data: str) -> Images:
        return open_images(data, channels=self.card["pixels"]["channels"])

    def _origin(self) -> dict[str, Any]:
        """What the card says besides that of the encoder it began with."""
        raise NotImplementedError

    def _remembered(self, how: str) -> dict[str, list[str]]:
        """The data that the card's encoder was trained on so, these too: their fingerprints."""
        return {how: sorted({*self.card.get(how, ()), self.images.fingerprint()})}

    def _say(self, what: str) -> None:
        trained = pretrained.parameter_count([self.run.method]) / 1e6
        batch = self.run.batch_size
        self.console.print(f"\n{what}; batch {batch}, {trained:.1f} M trained parameters")


@torch.no_grad()
def accuracy(
    network: nn.Module, like: pretrained.Pretrained, held: Labelled, tell: Tell = silent
) -> Score:
    """Of a network's largest scores, on labelled images."""
    network.eval()
    scores, index = features(network, like, held.images, tell=tell)
    keep = held.chosen[index]
    return mean_score(scores.argmax(1)[keep] == held.values[index][keep])


def fresh(card: Mapping[str, Any], pixels: Pixels, seed: int) -> Method:
    """The method of a card with random weights."""
    return pretrained.rebuild(card["recipe"], pixels, card["arguments"], seed).method


def kept_by_default(run: str | Path, card: Mapping[str, Any]) -> int:
    """Layers of the projection head that the run's method keeps, at the paper's scale.

    None of an encoder alone, and none at small scale: there fine-tuning from the head of simclr_v2
    costs accuracy (Fashion-MNIST, 600 labels: 81.1 % instead of 82.7).
    """
    if "architecture" in card or not (expanded(run) / "checkpoints").is_dir():
        return 0
    if RunFolder(run).describe()["call"].get("scale") != "paper":
        return 0
    return fresh(card, Pixels.read(card["pixels"]), 0).kept_layers


def kept_of(method: Any, layers: int, card: Mapping[str, Any]) -> nn.Sequential | None:
    """The first layers of a method's projection head; none for 0.

    Raises UserError where there is no such head, or a shorter one.
    """
    if not layers:
        return None
    head = getattr(method, "projector", None)
    if not isinstance(head, nn.Sequential):
        raise UserError(
            f"{card['recipe']} has no projection head to keep; leave out --from-head-layer"
        )
    return first_layers(head, layers)


def trained_classifier(run: str | Path) -> tuple[ClassScores, dict[str, Any]]:
    """The network of a classifier that `finetune` or `distill` trained, and its encoder's card.

    ``run`` is the folder of `distill`, of `finetune` or of one of its two runs. Raises UserError
    where there is none.
    """
    root = expanded(run)
    place = root / "fine-tuned" if (root / "fine-tuned").is_dir() else root
    ours = "give the folder that `finetune --out` or `distill --out` made"
    if not place.is_dir():
        raise UserError(f"there is no classifier at {run}; {ours}")
    card = pretrained.read_card(place)
    found = checkpoint.latest(place / "checkpoints")
    if "finetuned" not in card or found is None:
        raise UserError(f"{run} is no classifier; {ours}")
    own = "network."
    state = {n.removeprefix(own): t for n, t in found[1]["method"].items() if n.startswith(own)}
    encoder, kept = pretrained.untrained(card).encoder, None
    if any(name.startswith("1.") for name in state):
        method = fresh(card, Pixels.read(card["pixels"]), 0)
        kept = kept_of(method, card["finetuned"]["arguments"]["from_head_layer"], card)
    network = ClassScores(encoder, len(state["2.weight"]), kept)
    network.load_state_dict(state)
    return network.eval(), card


def call_of(
    data: str | Path,
    size: int | None,
    arguments: Mapping[str, Any],
    *,
    steps: int | None,
    minutes: float | None,
    seed: int | None,
    precision: str,
) -> dict[str, Any]:
    """What ``run.json`` says was asked for. Raises UserError for a budget that cannot be."""
    settings.check_budget(steps=steps, minutes=minutes)
    asked = {"data": str(data), "steps": steps, "minutes": minutes, "seed": seed or 0}
    asked |= {"precision": precision, "scale": None, "size": size}
    return asked | {"arguments": dict(arguments)}


def same_settings(place: RunFolder, asked: Mapping[str, Any], kind: Any) -> None:
    """Raises UserError where the run was begun with other settings or on other labels.

    ``kind`` are the settings' defaults, of which a run may lack those that are newer than it.
    """
    if not place.begun():
        return
    begun = place.describe()["call"]
    before = begun | asdict(kind()) | begun["arguments"]
    now = {k: v for k, v in asked.items() if k not in ("data", "arguments")} | asked["arguments"]
    if "weights" in before and "weights" in now:
        if before["weights"] != now["weights"]:
            raise UserError(
                f"{place.path} was begun from other weights than {now['run']} has now; give the "
                "encoder that it began with, or another folder to --out"
            )
        del now["run"]  # which may have moved
    now.pop("weights", None)
    of_data = {name: now.pop(name) for name in LABELLED & now.keys()}
    settings.require_same(f"{place.path}", before, now)
    if any(before.get(name) != value for name, value in of_data.items()):
        raise UserError(
            f"{place.path} was begun on other labelled images; resume with the same data, and "
            "--test if any, or give another folder to --out"
        )


def longer(steps: int, epochs: int, batches: int) -> int:
    """The longer of two budgets, in epochs of so many batches."""
    return max(epochs, math.ceil(steps / batches))


def views_of(pixels: Pixels, encoder: Any, smallest_crop: float, *, flip: bool) -> Views:
    """One crop of each image; with ``flip`` half are mirrored, unless those of the run are not."""
    look = Look(view_share=1.0, smallest_crop=smallest_crop, jitter=0.0, gray=0.0)
    return look.views(replace(pixels, flip=pixels.flip and flip), encoder, count=1)


def scratch_in(folder: str | Path) -> Path:
    """Where the network from scratch is, in a folder that `finetune` made or in itself."""
    root = expanded(folder)
    return root / "from-scratch" if (root / "from-scratch").is_dir() else root


def is_from_scratch(card: Mapping[str, Any], like: Mapping[str, Any]) -> bool:
    """Whether the card is of a network from scratch whose encoder is that of the other card."""
    same = all(card.get(key) == like[key] for key in ("recipe", "arguments", "pixels"))
    return same and bool(card.get("scratch"))
