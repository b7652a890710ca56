"""From a classifier to a smaller one that keeps its accuracy, on images without labels."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from selftaught import checkpoint, pretrained, seeds
from selftaught.commands import settings
from selftaught.commands.classifying import Chosen, digest
from selftaught.commands.parts import Labelled, parts
from selftaught.commands.scores import rounded
from selftaught.commands.supervised import (
    Supervised,
    Training,
    accuracy,
    call_of,
    longer,
    same_settings,
    trained_classifier,
    views_of,
)
from selftaught.commands.trainings import DistilSettings, among, chosen
from selftaught.data.images import Images, open_images, open_labels
from selftaught.errors import UserError
from selftaught.methods.distilled import Distilled
from selftaught.nn.encoders import build
from selftaught.nn.heads import ClassScores
from selftaught.optim import Schedule, groups
from selftaught.recipes.run import Pixels, Run
from selftaught.report import table
from selftaught.report.console import terminal
from selftaught.runfolder import RunFolder

STEPS, EPOCHS = 600, 5  # by default the longer of the two


def distill(
    run: str | Path,
    data: str | Path,
    *,
    out: str | Path,
    student: str,
    labels: str | None = None,
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
    """Train ``student``, an encoder's name, to say what the classifier of ``run`` says of ``data``.

    ``run`` is what `selftaught.finetune` or this function made. The data need no labels; where they
    have some of the teacher's classes, ``labels`` says which may be used, as in
    `selftaught.finetune`, and all of the test part's serve to compare the two; a test part that is
    held out is not trained on. ``more`` are `DistilSettings`.

    Returns ``{"rows": {"teacher": accuracy, "student": ...}, "intervals": ..., "parameters":
    {"teacher": N, "student": N}, "test": N, ...}``, without accuracies where there are no labels,
    and writes it to ``distill.json``. Warns where the student is larger than the teacher. Raises
    UserError for what the user can mend.
    """
    own = chosen(DistilSettings, more, "distillation")
    if bool(labels) != bool(own.label_weight):
        raise UserError("labels count by their weight; give --labels and --label-weight together")
    teacher, card = trained_classifier(run)
    console, place = terminal(quiet=quiet), RunFolder(out)
    place.check(resume=resume)
    arguments = {"run": str(run), "student": student, "labels": labels or ""} | asdict(own)
    budget = {"steps": steps, "minutes": minutes, "seed": seed, "precision": precision}
    asked = call_of(data, card["pixels"]["size"], arguments, **budget) | {"method": "distilled"}
    split = _split(data, labels, test, card)
    shown = _shown(data, split, labels, seed or 0)
    asked |= {"items": digest(*shown), "weights": pretrained.weights_digest(teacher)}
    same_settings(place, asked, DistilSettings)
    job = Distilling(Training(place, asked, device, console, card), teacher, shown)
    sizes = {
        "teacher": sum(p.numel() for p in teacher.parameters()),
        "student": pretrained.parameter_count([job.run.method]),
    }
    if sizes["student"] > sizes["teacher"]:
        print(
            f"selftaught: warning: the student {student} has {sizes['student']:,} parameters, more "
            f"than the teacher's {sizes['teacher']:,}",
            file=sys.stderr,
        )
    job.complete()
    result = {"rows": {}, "intervals": {}, "parameters": sizes, "call": asked}
    result |= _compared(job, split)
    checkpoint.write_atomic(place.path / "distill.json", json.dumps(result, indent=2).encode())
    console.print(table.distilled(result))
    return result


class Shown(NamedTuple):
    """What a student is trained on."""

    items: Tensor  # (N,) among all images of the train part
    known: Tensor  # (N,) their classes, -1 where these may not be used


def _split(
    data: str | Path, labels: str | None, test: str | Path | None, card: Mapping[str, Any]
) -> tuple[Labelled, Labelled, str] | None:
    """What `parts` says, or None where there are no labels of the teacher's classes."""
    try:
        found = parts(data, test, card=card)
    except UserError:
        if test is not None:
            raise
        return None
    there = open_labels(data, "train")
    assert there is not None
    known = card.get("classes", list(there.classes))
    if known == list(there.classes[: len(known)]) and found[0].values.max() < len(known):
        return found
    if labels or test is not None:
        raise UserError(
            f"{data} has the classes {_listed(there.classes)}, the teacher {_listed(known)}; leave "
            "out --labels and --test, or give data with the teacher's classes"
        )
    return None


def _listed(classes: Sequence[str]) -> str:
    return ", ".join(classes[:5]) + (", ..." if len(classes) > 5 else "")


def _shown(
    data: str | Path,
    split: tuple[Labelled, Labelled, str] | None,
    labels: str | None,
    seed: int,
) -> Shown:
    """All images but those that are held out, and the labels that may be used."""
    if labels and split is None:
        parts(data, None)  # says what is wrong
    count = len(open_images(data)) if split is None else len(split[0].images)
    known = torch.full((count,), -1)
    if split is None:
        return Shown(torch.arange(count), known)
    train = split[0]
    if labels:
        some = Chosen.of(train, labels, seed)
        known[some.items] = some.labels
    items = train.chosen.nonzero().squeeze(1)
    return Shown(items, known[items])


def _compared(job: "Distilling", split: tuple[Labelled, Labelled, str] | None) -> dict[str, Any]:
    """The accuracies of teacher and student, where there are labels to compare with."""
    if split is None:
        return {"test": 0, "split": "no labels to test with"}
    _, held, said = split
    like = pretrained.Pretrained(job.run.method.encoder, job.pixels, job.card)
    found = {"student": job.accuracy(held), "teacher": accuracy(job.teacher, like, held)}
    return {
        **rounded(found),
        "test": int(held.chosen.sum()),
        "split": said,
    }


class Distilling(Supervised):
    """The training of a student."""

    def __init__(self, training: Training, teacher: ClassScores, shown: Shown) -> None:
        self.teacher, self.shown = teacher, shown
        super().__init__(training)

    def _choose(self) -> Images:
        return self.images.take(self.shown.items)

    def _build(self) -> Run:
        arguments = self.call["arguments"]
        own = among(DistilSettings, arguments)
        pixels: Pixels = self.pixels
        with torch.random.fork_rng([]):
            seeds.plant(seeds.derive(self.call["seed"], "weights"))
            method = Distilled(
                build(arguments["student"], channels=pixels.channels, size=pixels.size),
                self.teacher,
                classes=self.teacher.dim,
                labels=self.shown.known,
                temperature=own.temperature,
                label_weight=own.label_weight,
            )
        count = len(self.shown.items)
        batch = settings.batch_size_for(None, own.batch_size, count)
        run = Run(
            method=method,
            views=views_of(pixels, method.encoder, own.smallest_crop, flip=own.flip),
            optimizer=torch.optim.AdamW(groups(method, weight_decay=own.weight_decay), lr=own.lr),
            batch_size=batch,
            epochs=longer(STEPS, EPOCHS, count // batch),
            schedule=Schedule(own.warmup),
        )
        return self._placed(run)

    def _announce(self) -> None:
        count, student = int((self.shown.known >= 0).sum()), self.call["arguments"]["student"]
        labels = f"{count:,} labels" if count else "no labels"
        self._say(f"distilling to {student}: {len(self.shown.items):,} images, {labels}")

    def _origin(self) -> dict[str, Any]:
        own = self.call["arguments"]
        origin = {"recipe": "distilled", "arguments": own}
        origin |= {"architecture": {"name": own["student"]}}
        return origin | self._remembered("labelled" if own["labels"] else "shown")
