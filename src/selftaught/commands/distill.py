"""From a classifier to a smaller one that keeps its accuracy, on images without labels."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from torch import Tensor

from selftaught import checkpoint, pretrained, seeds
from selftaught.commands import settings
from selftaught.commands.classifying import Chosen
from selftaught.commands.parts import parts
from selftaught.commands.scores import rounded
from selftaught.commands.supervised import (
    Supervised,
    accuracy,
    call_of,
    same_settings,
    trained_classifier,
    views_of,
)
from selftaught.commands.trainings import DistilSettings, among, chosen
from selftaught.data.images import open_images
from selftaught.errors import UserError
from selftaught.methods.classifier import Classifier
from selftaught.methods.distilled import Distilled
from selftaught.nn.encoders import build
from selftaught.optim import Schedule, groups
from selftaught.recipes.run import Pixels, Run
from selftaught.report import table
from selftaught.runfolder import RunFolder

EPOCHS = 10


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

    ``run`` is what `selftaught.finetune` made. The data need no labels; where they have some,
    ``labels`` says which may be used, as in `selftaught.finetune`, and all of the test part's serve
    to compare the two. ``more`` are `DistilSettings`.

    Returns ``{"rows": {"teacher": accuracy, "student": ...}, "intervals": ..., "parameters":
    {"teacher": N, "student": N}, "test": N, ...}``, without accuracies where there are no labels,
    and writes it to ``distill.json``. Warns where the student is larger than the teacher. Raises
    UserError for what the user can mend.
    """
    own = chosen(DistilSettings, more, "distillation")
    if bool(labels) != bool(own.label_weight):
        raise UserError("labels count by their weight; give --labels and --label-weight together")
    teacher, card = trained_classifier(run)
    console, place = Console(quiet=quiet), RunFolder(out)
    place.check(resume=resume)
    arguments = {"run": str(run), "student": student, "labels": labels or ""} | asdict(own)
    budget = {"steps": steps, "minutes": minutes, "seed": seed, "precision": precision}
    asked = call_of(data, card["pixels"]["size"], arguments, **budget) | {"method": "distilled"}
    same_settings(place, asked)
    known = _known(data, labels, seed or 0)
    job = Distilling(place, asked, device, console, card, teacher, known)
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
    result |= _compared(job, data, test)
    checkpoint.write_atomic(place.path / "distill.json", json.dumps(result, indent=2).encode())
    console.print(table.distilled(result))
    return result


def _known(data: str | Path, labels: str | None, seed: int) -> Tensor:
    """The class of each image that may be used (N,), -1 for all others."""
    if not labels:
        return torch.full((len(open_images(data)),), -1)
    train, _, _ = parts(data, None)
    items = Chosen.of(train, labels, seed).items
    known = torch.full_like(train.values, -1)
    known[items] = train.values[items]
    return known


def _compared(job: "Distilling", data: str | Path, test: str | Path | None) -> dict[str, Any]:
    """The accuracies of teacher and student, where there are labels to compare with."""
    try:
        _, held, split = parts(data, test)
    except UserError:
        if test is not None:
            raise
        return {"test": 0, "split": "no labels to test with"}
    like = pretrained.Pretrained(job.run.method.encoder, job.pixels, job.card)
    found = {"student": job.accuracy(held), "teacher": accuracy(job.teacher.network, like, held)}
    return {
        **rounded(found),
        "test": int(held.chosen.sum()),
        "split": split,
    }


class Distilling(Supervised):
    """The training of a student."""

    def __init__(
        self,
        folder: RunFolder,
        call: dict[str, Any],
        device: str,
        console: Console,
        card: dict[str, Any],
        teacher: Classifier,
        known: Tensor,
    ) -> None:
        self.teacher, self.known = teacher, known
        super().__init__(folder, call, device, console, card)

    def _build(self) -> Run:
        arguments = self.call["arguments"]
        own = among(DistilSettings, arguments)
        pixels: Pixels = self.pixels
        with torch.random.fork_rng([]):
            torch.manual_seed(seeds.derive(self.call["seed"], "weights"))
            method = Distilled(
                build(arguments["student"], channels=pixels.channels, size=pixels.size),
                self.teacher.network,
                classes=self.teacher.network[2].out_features,  # pyright: ignore
                labels=self.known,
                temperature=own.temperature,
                label_weight=own.label_weight,
            )
        run = Run(
            method=method,
            views=views_of(pixels, method.encoder, own.smallest_crop),
            optimizer=torch.optim.AdamW(groups(method, weight_decay=own.weight_decay), lr=own.lr),
            batch_size=settings.batch_size_for(None, own.batch_size, len(self.images)),
            epochs=EPOCHS,
            schedule=Schedule(own.warmup),
        )
        return self._placed(run)

    def _announce(self) -> None:
        count, student = int((self.known >= 0).sum()), self.call["arguments"]["student"]
        labels = f"{count:,} labels" if count else "no labels"
        self._say(f"distilling to {student}: {len(self.images):,} images, {labels}")

    def _origin(self) -> dict[str, Any]:
        own = self.call["arguments"]
        return {"recipe": "distilled", "arguments": own, "architecture": {"name": own["student"]}}
