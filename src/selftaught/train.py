"""Training, as a generator that yields after every step."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from selftaught import dist, precision, seeds
from selftaught.errors import UserError
from selftaught.method import Method, ViewBatch
from selftaught.nn.memory import Memory
from selftaught.nn.norm import synchronise
from selftaught.nn.schedules import cosine
from selftaught.optim import Clip, Schedule, bounded


class Step(NamedTuple):
    """What one optimiser step did."""

    number: int  # steps done, counted from 1
    terms: dict[str, Tensor]  # each a detached scalar; read them where they are logged
    watched: dict[str, Tensor]  # the method's other scalars, likewise
    lr: float  # of the first parameter group
    samples: int
    seconds: float  # the whole step
    waiting: float  # its part spent waiting for the batch


class NotFinite(ArithmeticError):
    """A term or a gradient is NaN or infinite; nothing has moved yet."""

    def __init__(self, name: str, step: int, index: Tensor) -> None:
        super().__init__(f"{name} is not finite at step {step}")
        self.name, self.step, self.index = name, step, index


def fit(
    method: Method,
    batches: Iterator[ViewBatch],
    optimizer: torch.optim.Optimizer,
    *,
    steps: int,
    start: int = 0,
    seed: int = 0,
    schedule: Callable[[float], float] = Schedule(),
    dtype: torch.dtype = torch.float32,
    clip: float = math.inf,
    clip_by: Clip = "whole",
    survey: Callable[[], Iterable[ViewBatch]] | None = None,
    survey_every: int = 0,
) -> Iterator[Step]:
    """Train ``method`` from step ``start`` to ``steps``; the caller logs, saves and stops between.

    ``batches`` begins with the batch of step ``start``. ``schedule`` maps the share of the run that
    is done to a factor of each group's learning rate. Random numbers inside a step come from
    (seed, step), so a resumed run draws what the unbroken one would have drawn, and whatever the
    caller does between two steps changes nothing. ``clip`` bounds the gradient's norm, of the
    ``whole``, of each ``part`` of the method or of each ``tensor`` by itself. Groups marked
    ``constant`` keep their learning rate; the weight decay of those with a ``last_decay`` goes to
    that multiple of it along a cosine.

    Every ``survey_every`` steps, from the first on, the method is shown the whole data set that
    ``survey()`` iterates over. With several processes batch norm is synchronised, except where a
    method has put it in groups.

    Raises NotFinite before the optimiser or a teacher moves.
    """
    device = next(method.parameters()).device
    cuda = [device] if device.type == "cuda" else []
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])
        if "last_decay" in group:
            group.setdefault("initial_decay", group["weight_decay"])
    if dist.world_size() > 1:
        synchronise(method)
    for number in range(start, steps):
        began = time.perf_counter()
        batch = next(batches, None)
        if batch is None:
            raise UserError(f"the batches ended after {number} of {steps} steps; ask for fewer")
        waiting = time.perf_counter() - began
        method.train()
        method.progress = number / steps
        for group in optimizer.param_groups:
            factor = 1.0 if group.get("constant") else schedule(method.progress)
            group["lr"] = group["initial_lr"] * factor
            if "last_decay" in group:
                factor = cosine(method.progress, 1.0, group["last_decay"])
                group["weight_decay"] = group["initial_decay"] * factor
        optimizer.zero_grad(set_to_none=True)
        with _undone_if_not_finite(method), torch.random.fork_rng(cuda):
            seeds.plant(seeds.derive(seed, "step", number), device)
            with precision.autocast(device, dtype):
                if survey is not None and survey_every and number % survey_every == 0:
                    _survey(method, survey())
                terms = method(batch)
            torch.stack(list(terms.values())).sum().backward()
            dist.average_gradients(method.parameters())
            norm = bounded(method, clip, clip_by)
            _require_finite(terms | {"the gradient": norm}, number, batch)
        optimizer.step()
        method.after_step()
        yield Step(
            number=number + 1,
            terms={name: term.detach() for name, term in terms.items()},
            watched={name: value.detach() for name, value in method.watched.items()},
            lr=optimizer.param_groups[0]["lr"],
            samples=len(batch.index) * dist.world_size(),
            seconds=time.perf_counter() - began,
            waiting=waiting,
        )


@torch.no_grad()
def judge(
    method: Method, batch: ViewBatch, *, seed: int = 0, dtype: torch.dtype = torch.float32
) -> dict[str, float]:
    """The terms on a batch that is not learnt from, averaged over processes.

    As in training, but nothing that is remembered moves, and the same is drawn each time.
    """
    device = next(method.parameters()).device
    cuda = [device] if device.type == "cuda" else []
    before = _moving(method)
    method.train()
    with torch.random.fork_rng(cuda), precision.autocast(device, dtype):
        seeds.plant(seeds.derive(seed, "judge"), device)
        terms = method(batch)
    _put_back(before)
    return {name: dist.total(term).item() / dist.world_size() for name, term in terms.items()}


@torch.no_grad()
def _survey(method: Method, whole: Iterable[ViewBatch]) -> None:
    method.eval()
    method.survey(whole)
    method.train()


@contextmanager
def _undone_if_not_finite(method: Method) -> Iterator[None]:
    """Put back what a forward pass may have moved."""
    before = _moving(method)
    try:
        yield
    except NotFinite:
        _put_back(before)
        raise


def _moving(method: Method) -> list[tuple[Tensor, Tensor]]:
    """The buffers that a forward pass may move, running statistics above all, and their values."""
    parts = [part for part in method.modules() if not isinstance(part, Memory)]
    return [(buffer, buffer.clone()) for part in parts for buffer in part.buffers(recurse=False)]


def _put_back(before: list[tuple[Tensor, Tensor]]) -> None:
    for buffer, value in before:
        buffer.copy_(value)


def _require_finite(values: dict[str, Tensor], step: int, batch: ViewBatch) -> None:
    """All processes stop together when one of them meets a value that is not finite."""
    bad = torch.stack([~torch.isfinite(value.detach()) for value in values.values()])
    bad = dist.total(bad.float()).tolist()
    for name, wrong in zip(values, bad, strict=True):
        if wrong:
            raise NotFinite(name, step, dist.gather(batch.index))
