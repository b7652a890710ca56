"""The training of a classifier on few labels."""

import hashlib
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from selftaught import checkpoint, pretrained, seeds
from selftaught.commands import settings
from selftaught.commands.labels import choose
from selftaught.commands.parts import Labelled
from selftaught.commands.supervised import Supervised, Training, fresh, kept_of, longer, views_of
from selftaught.commands.trainings import FineTuneSettings, among
from selftaught.data.images import Images, open_labels
from selftaught.methods.classifier import Classifier
from selftaught.nn.encoders import stages
from selftaught.optim import Schedule, layered
from selftaught.protocols.linear import LogregResult
from selftaught.recipes.run import Run

STEPS, EPOCHS = 600, 10  # by default the longer of the two


class Chosen(NamedTuple):
    """The labelled images that are trained on, and their classes."""

    items: Tensor  # (N,) among all images of the train part
    labels: Tensor  # (N,)
    classes: int  # of the train part

    @classmethod
    def of(cls, train: Labelled, labels: str, seed: int) -> "Chosen":
        """As many as ``labels`` says: 1% of each class, 10-per-class, or all."""
        there = train.chosen.nonzero().squeeze(1)
        index = there[choose(train.values[there], labels, seed)]
        return cls(index, train.values[index], int(train.values.max()) + 1)

    @property
    def digest(self) -> str:
        """Tells these images and labels from others of the same data, 16 hex digits."""
        return digest(self.items, self.labels)


def digest(items: Tensor, labels: Tensor) -> str:
    """SHA-256 over numbers of images and their labels, 16 hex digits."""
    found = hashlib.sha256(items.to(torch.int64).numpy().tobytes())
    found.update(labels.to(torch.int64).numpy().tobytes())
    return found.hexdigest()[:16]


class Classifying(Supervised):
    """The training of one classifier, from an encoder's weights or from random ones."""

    def __init__(
        self,
        training: Training,
        chosen: Chosen,
        *,
        scratch: bool,
        last: LogregResult | None = None,
    ) -> None:
        self.chosen, self.scratch, self.last = chosen, scratch, last
        super().__init__(training)

    def _choose(self) -> Images:
        return self.images.take(self.chosen.items)

    def _build(self) -> Run:
        own = among(FineTuneSettings, self.call["arguments"])
        with torch.random.fork_rng([]):
            seeds.plant(seeds.derive(self.call["seed"], "weights"))
            encoder, kept = self._networks(own.from_head_layer or 0)
            method = Classifier(
                encoder,
                labels=self.chosen.labels,
                classes=self.chosen.classes,
                kept=kept,
                freeze=own.freeze and not self.scratch,
                freeze_norm=own.freeze_norm and not self.scratch,
            )
            if self.last is not None:
                method.begin_with(self.last.weight, self.last.bias, self.last.classes)
        count = len(self.chosen.items)
        batch = settings.batch_size_for(None, own.batch_size, count)
        decay = 1.0 if self.scratch else own.layer_decay
        rates = {"lr": own.lr, "weight_decay": own.weight_decay, "decay": decay}
        run = Run(
            method=method,
            views=views_of(self.pixels, encoder, own.smallest_crop, flip=own.flip),
            optimizer=torch.optim.AdamW(layered(method, encoder, stages(encoder), **rates)),
            batch_size=batch,
            epochs=longer(STEPS, EPOCHS, count // batch),
            schedule=Schedule(own.warmup),
        )
        return self._placed(run)

    def _after_training(self) -> None:
        """Mix the weights with those that fine-tuning began with, once.

        Where labels are few, weights between a probe on frozen features and the fine-tuned network
        generalise better than either: WiSE-FT (Wortsman et al. 2021, arXiv 2109.01903), equation 1.
        They are saved as if one more step had made them, by which a run that goes on knows.
        """
        share, steps = self.call["arguments"].get("mix", 1.0), self.description["steps"]
        found = checkpoint.latest(self.folder.checkpoints)
        if self.scratch or self.last is None or share == 1 or found is None or found[0] > steps:
            return
        end, start = (run.method.state_dict() for run in (self.run, self._build()))
        for name, value in end.items():
            if value.is_floating_point():
                value.lerp_(start[name], 1 - share)
        self._save(steps + 1)

    def _networks(self, layers: int) -> tuple[nn.Module, nn.Sequential | None]:
        """The encoder, and the layers that are kept of the projection head."""
        run, seed = self.call["arguments"]["run"], self.call["seed"]
        if layers:
            method = pretrained.method_of(run)[0]
            if self.scratch:
                method = fresh(self.card, self.pixels, seed)
            return method.encoder, kept_of(method, layers, self.card)
        found = pretrained.untrained(self.card, seed) if self.scratch else pretrained.load(run)
        return found.encoder, None

    def _announce(self) -> None:
        self._say(
            f"{self.call['method']}: {len(self.chosen.items):,} labels of {self.chosen.classes} "
            "classes"
        )

    def _origin(self) -> dict[str, Any]:
        names = open_labels(self.call["data"], "train")
        assert names is not None
        classes = names.classes[: self.chosen.classes]
        origin = {"finetuned": self.call, "scratch": self.scratch, "classes": list(classes)}
        return origin | self._remembered("labelled")
