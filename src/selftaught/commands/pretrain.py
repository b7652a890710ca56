"""The main job: from images without labels to an encoder, and a number that says how good it is."""

import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from selftaught import dist, pretrained
from selftaught.commands import settings
from selftaught.commands.evaluate import evaluate as evaluate_run
from selftaught.commands.evaluate import still
from selftaught.commands.job import Job
from selftaught.data.images import open_labels
from selftaught.errors import UserError
from selftaught.report import curves, table
from selftaught.report.console import terminal
from selftaught.report.live import Doing
from selftaught.runfolder import RunFolder


def pretrain(
    method: str,
    data: str | Path,
    *,
    out: str | Path,
    steps: int | None = None,
    minutes: float | None = None,
    size: int | None = None,
    flip: bool = True,
    seed: int | None = None,
    workers: int | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    scale: Literal["auto", "paper", "small"] = "auto",
    init: str | Path | None = None,
    resume: bool = False,
    evaluate: Literal["auto", "off"] = "auto",
    draw_every: float = 5.0,
    not_finite: Literal["stop", "skip"] = "stop",
    quiet: bool = False,
    **parameters: Any,
) -> dict[str, Any]:
    """Train an encoder on images without labels.

    ``method`` is a recipe's name or ``package.module:function``; ``parameters`` are the recipe's
    own. ``flip`` mirrors half of the random views, unless a mirror image is another thing, as of
    digits. ``scale`` says whose settings stand in for those that are not given: the paper's, or
    those measured on small data. The budget is ``epochs`` (a parameter of every recipe), ``steps``
    or ``minutes``. ``init`` is what the encoder begins with: a run, a ``.safetensors`` file or
    ``timm:NAME``. ``resume`` goes on where the run in ``out`` was stopped, bit for bit, with the
    settings it began with; it begins the run where there is none. Methods that make images draw
    some into ``pictures`` every ``draw_every`` minutes and at the end, never where it is 0. A step
    whose loss or gradient is ``not_finite`` stops the run before anything has moved, or is left out
    of it, as long as such steps are one or at most 1 %. In processes that torchrun has started,
    each trains on its share of every batch, and the first one writes, prints and evaluates.

    Returns what ``run.json`` says: the call, the data, the environment, the label-free signals
    and, where the data have labels, the evaluation. Raises UserError for what the user can mend,
    and Stopped after SIGINT or SIGTERM.
    """
    asked = {
        "method": method,
        "data": str(data),
        "steps": steps,
        "minutes": minutes,
        "size": size,
        "flip": None if flip else False,
        "seed": seed,
        "precision": None if precision == "auto" else precision,
        "scale": None if scale == "auto" else scale,
        "init": None if init is None else str(init),
        "arguments": parameters,
    }
    if evaluate not in ("auto", "off"):
        raise UserError(f"evaluate is {evaluate!r}; use auto or off")
    settings.check_budget(steps=steps, minutes=minutes, epochs=parameters.get("epochs"))
    if not_finite not in ("stop", "skip"):
        raise UserError(f"not_finite is {not_finite!r}; use stop or skip")
    if workers is not None and workers < 0:
        raise UserError(f"{workers} workers; use --workers with 0 or more")
    if not 0 <= draw_every < math.inf:
        raise UserError(f"{draw_every} minutes between pictures; use --draw-every with 0 or more")
    with dist.joined():
        folder, console = RunFolder(out), terminal(quiet=quiet or not dist.is_first())
        asked = dist.first(lambda: _checked(asked, folder, resume))
        job = Job(folder, asked, settings.device_of(device), console)
        with folder.lock():
            if job.description.get("finished"):
                console.print(f"{folder.path} is finished; nothing to train", soft_wrap=True)
            else:
                readers, forgiving = settings.readers_for(workers, job.device), not_finite == "skip"
                job.train(readers, 60 * draw_every, forgiving=forgiving)
                _finish(job)
            if dist.is_first():
                with dist.alone():
                    _evaluate(job, evaluate)
                _conclude(job.description, folder, console)
    return job.description


def _checked(asked: dict[str, Any], folder: RunFolder, resume: bool) -> dict[str, Any]:
    """The settings of the run, those it began with if it did; UserError where it may not go on."""
    folder.check(resume=resume)
    if not folder.begun():
        return asked
    before = folder.describe()
    try:
        return _as_begun(asked, before["call"])
    except UserError as error:
        if not before.get("finished"):
            raise
        raise UserError(f"{error}, which may begin with --init {folder.path}") from None


def _as_begun(asked: dict[str, Any], begun: dict[str, Any]) -> dict[str, Any]:
    """The settings a run began with; UserError where others were asked for.

    The data may have moved: whether they are the same is seen by their fingerprint.
    """
    given = {k: v for k, v in asked.items() if v is not None and k not in ("arguments", "data")}
    own = {f"{k} (of the method)": v for k, v in asked["arguments"].items()}
    before = begun | {f"{k} (of the method)": v for k, v in begun["arguments"].items()}
    settings.require_same("the run", before, given | own)
    return begun | {"data": asked["data"]}


def _finish(job: Job) -> None:
    """Write the encoder, the picture and the end of run.json."""
    signals = job.watch.signals()
    if not dist.is_first():
        return
    card = {
        "format": 1,
        "recipe": job.call["method"],
        "arguments": job.call["arguments"],
        "seed": job.call["seed"],
        "pixels": asdict(job.pixels),
        "feature": "forward(x) in eval mode",
        "data": job.description["data"],
        "steps": job.description["steps"],
        "signals": signals,
        "verdict": job.verdict()._asdict(),
    }
    if job.run.architecture is not None:
        card["architecture"] = job.run.architecture
    pretrained.write(job.folder.path, job.run.method.encoder, card)
    title = f"{job.call['method']} on {job.images.name}"
    curves.draw(job.folder.metrics(), job.folder.path / "curves.png", title)
    job.description |= {
        "signals": signals,
        "verdict": card["verdict"],
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    job.folder.write(job.description)


def _evaluate(job: Job, when: str) -> None:
    """Add the table to run.json where the data have labels; training is over by now.

    Labels that are of no use are said, and take nothing from the run, which needs none.
    """
    data, before = job.call["data"], job.description.get("evaluation")
    if when == "off":
        return
    try:
        if open_labels(data, "train") is None:
            return
        if before is None or not still(before, data, pretrained.read_card(job.folder.path)):
            with Doing(job.console) as doing:
                where = str(job.device)
                found = evaluate_run(job.folder.path, job.call["data"], device=where, tell=doing)
            job.description["evaluation"] = found
            job.folder.write(job.description)
    except UserError as error:
        job.console.print(f"not evaluated: {error}", soft_wrap=True)


def _conclude(description: dict[str, Any], folder: RunFolder, console: Console) -> None:
    """Print how good the encoder is and how to load it."""
    signals = description["signals"]
    rank = signals["effective_rank"]
    console.print(
        f"effective rank {'unknown (too few images)' if rank is None else format(rank, '.1f')} of "
        f"{signals['dim']}, feature std {signals['feature_std']:.2f} (1: spread evenly, 0: "
        f"collapsed), on {signals['n']} images",
    )
    found = description["verdict"]
    console.print(f"{found['word']}: {found['sentence']}")
    if "evaluation" in description:
        table.show(description["evaluation"], console)
    console.print(
        f"\nimport selftaught\n\nencoder = selftaught.load({str(folder.path)!r})\n"
        "features = encoder(encoder.preprocess(images))  # paths, PIL images or uint8 arrays",
        soft_wrap=True,
    )
