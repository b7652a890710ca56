"""Batches of views, each a pure function of (seed, step).

Any step is reached without the steps before it, by any number of worker processes. Workers read and
crop; only uint8 pixels and numbers come back from them. What is random is drawn from generators of
its own: torch's global generator is never touched. So workers may begin, and die, at any step.
"""

import functools
import math
import multiprocessing
import os
import shutil
import signal
import sys
import time
import warnings
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from selftaught import dist, seeds
from selftaught.data.images import Images, Skipped
from selftaught.errors import UserError
from selftaught.method import ViewBatch
from selftaught.trees import rows

CPU = torch.device("cpu")
TRIED = 8  # batches by whose reading it is decided, again and again, whether workers are worth it
SLOW = 0.1  # of the time: reading that takes more is worth workers
PATIENCE = 300.0  # seconds for a batch, after which workers that nobody asked for are given up
SHARED = Path("/dev/shm")  # where tensors are handed over; containers may have little of it
HELD = 3  # batches of each worker that may be there at once

T = TypeVar("T")


class Readers(NamedTuple):
    """Worker processes: ``now``, or ``later``, once reading has proved slow."""

    now: int = 0
    later: int = 0


NONE = Readers()


class WorkerDied(UserError):
    """A process that reads images has ended."""


class Views(Protocol):
    """How the views of n images are drawn, cropped (in a worker) and finished (in the process)."""

    def draw(self, generator: torch.Generator, n: int) -> Any:
        """The parameters of n images, a tree of tensors with n rows."""
        ...

    def crop(self, images: Tensor | Sequence[Tensor], parameters: Any) -> list[Tensor]:
        """uint8 crops of n images, small enough to hand between processes."""
        ...

    def apply(self, crops: list[Tensor], parameters: Any) -> tuple[Tensor, ...]:
        """The finished views of these crops, float and where they are."""
        ...


class Batch(NamedTuple):
    """What a worker hands over; the parameters are drawn again on the other side."""

    used: Tensor  # (B,) the images in it
    crops: list[Tensor]  # uint8
    skipped: Skipped


def placed(x: Tensor, device: torch.device) -> Tensor:
    """The images on that device, each pixel's channels together, as convolutions like it best."""
    return x.to(device=device, memory_format=torch.channels_last, non_blocking=True)


def moved(batch: ViewBatch, device: torch.device) -> ViewBatch:
    """The batch with its views `placed` on that device."""
    return ViewBatch(tuple(placed(x, device) for x in batch.views), batch.index)


@functools.lru_cache(maxsize=2)
def _order(n: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(n, generator=seeds.generator(seed, "order", epoch))


def order(n: int, seed: int, epoch: int) -> Tensor:
    """The order of n images in one epoch: a permutation (n,)."""
    return _order(n, seed, epoch).clone()


def index(n: int, batch_size: int, seed: int, step: int) -> Tensor:
    """The images of one step (batch_size,).

    An epoch is n // batch_size full batches of a fresh permutation; what is left over waits for the
    next epoch's. Raises `UserError` where n does not fill one batch.
    """
    if not 1 <= batch_size <= n:
        raise UserError(f"a batch of {batch_size} does not fit {n} images; choose from 1 to {n}")
    epoch, place = divmod(step, n // batch_size)
    return _order(n, seed, epoch)[place * batch_size : (place + 1) * batch_size].clone()


def batches(
    images: Images,
    views: Views,
    *,
    batch_size: int,
    seed: int,
    start: int,
    stop: int,
    readers: Readers = NONE,
    device: torch.device = CPU,
) -> Iterator[tuple[ViewBatch, Skipped]]:
    """The batches of steps start to stop - 1, each with the (name, reason) of images skipped.

    The same bit for bit from any start and with any ``readers``. Of several processes each
    has its rows, which must be as many for all. Views are finished, and lie, on the ``device``. An
    image that stands in for a broken one carries its own index. Raises `UserError`: more in a batch
    than there are images (at once), no image that can be read, a worker of ``now`` that died.
    """
    index(len(images), batch_size, seed, start)
    steps = _Steps(images, views, batch_size, seed, dist.mine(torch.arange(batch_size)))
    return _finished(steps, _read(steps, range(start, stop), readers), start, device)


def _finished(
    steps: "_Steps", found: Iterator[Batch | UserError], start: int, device: torch.device
) -> Iterator[tuple[ViewBatch, Skipped]]:
    for step, batch in enumerate(found, start):
        if isinstance(batch, UserError):
            raise batch
        crops = [crop.to(device, non_blocking=True) for crop in batch.crops]
        yield ViewBatch(steps.views.apply(crops, steps.draw(step)), batch.used), batch.skipped


class _Steps(Dataset[Batch | UserError]):
    """Step -> batch of crops. An error comes back as a value: raised, it would be wrapped."""

    def __init__(
        self, images: Images, views: Views, batch_size: int, seed: int, mine: Tensor
    ) -> None:
        self.images, self.views, self.batch_size, self.seed = images, views, batch_size, seed
        self.mine = mine  # (B,) rows of the global batch

    def draw(self, step: int) -> Any:
        drawn = self.views.draw(seeds.generator(self.seed, "views", step), self.batch_size)
        return rows(drawn, self.mine)

    def __getitem__(self, step: int) -> Batch | UserError:
        chosen = index(len(self.images), self.batch_size, self.seed, step)[self.mine]
        try:
            images, used, skipped = self.images.gather(chosen)
        except UserError as error:
            return error
        return Batch(used, self.views.crop(images, self.draw(step)), skipped)


def _read(items: Dataset[T], wanted: range, readers: Readers) -> Iterator[T]:
    """The wanted items in their order, from wherever they are read."""
    if readers.now:
        yield from _parallel(items, wanted, readers.now)
        return
    reading, began = 0.0, time.perf_counter()
    for place, i in enumerate(wanted):
        asked = time.perf_counter()
        item = items[i]
        reading += time.perf_counter() - asked
        yield item
        if place % TRIED:
            continue
        now = time.perf_counter()
        slow = reading > SLOW * (now - began)
        # what is done with the first one takes longer, so that it tells nothing
        left = wanted[place + 1 :]
        if place and slow and left and (workers := min(readers.later, _room(item))):
            yield from _while_they_live(items, left, workers)
            return
        reading, began = 0.0, now


def _room(item: Any) -> int:
    """How many workers can hand over such batches through half of the memory that is free."""
    size = sum(crop.nbytes for crop in item.crops) if isinstance(item, Batch) else 0
    if not (SHARED.is_dir() and size):
        return sys.maxsize
    free = shutil.disk_usage(SHARED).free // dist.local_world_size()
    return free // (2 * HELD * size)


def _while_they_live(items: Dataset[T], wanted: range, workers: int) -> Iterator[T]:
    """The items by workers, and those that are left when one of them dies without."""
    done = 0
    try:
        for item in _parallel(items, wanted, workers, PATIENCE):
            done += 1
            yield item
    except WorkerDied as error:
        warnings.warn(f"{error}; reading goes on without workers", stacklevel=2)
    yield from map(items.__getitem__, wanted[done:])


def _parallel(items: Dataset[T], wanted: range, workers: int, patience: float = 0) -> Iterator[T]:
    """The wanted items by workers, who may take ``patience`` seconds for one; 0 is for ever."""
    loader = DataLoader(
        items,
        batch_size=None,
        sampler=wanted,
        num_workers=min(workers, len(wanted)),
        collate_fn=_same,
        worker_init_fn=_ignore_signals,
        timeout=patience,
        generator=torch.Generator(),  # without one it draws from the global generator
    )
    others = set(multiprocessing.active_children())
    try:
        with _handler_kept():
            found = iter(loader)
    except OSError as error:
        _end(os.getpid(), set(multiprocessing.active_children()) - others)
        raise WorkerDied(f"no loader worker can be started ({error}); use fewer") from error
    weakref.finalize(found, _end, os.getpid(), set(multiprocessing.active_children()) - others)
    try:
        yield from found
    except (RuntimeError, ConnectionError, EOFError) as error:
        if isinstance(error, RuntimeError) and not str(error).startswith("DataLoader"):
            raise
        raise WorkerDied(
            f"a loader worker died ({error}), perhaps for want of memory; use fewer workers"
        ) from error


def _same(batch: Any) -> Any:
    """For collate_fn: the default one makes lists of tuples."""
    return batch


def _ignore_signals(_: int) -> None:
    """For workers: the main process alone decides when to stop, and stops them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _end(owner: int, workers: set[BaseProcess]) -> None:
    """End the workers of an iterator that is given up, at the latest when Python exits.

    By itself Python would send them SIGTERM, which they ignore, and wait for them for ever.
    """
    if os.getpid() == owner:
        for worker in workers:
            worker.kill()


@contextmanager
def _handler_kept() -> Iterator[None]:
    """Undo the SIGCHLD handler that a DataLoader installs.

    It raises a RuntimeError wherever the main process happens to be, in the middle of a step or of
    a save. Without it a dead worker is noticed where the next batch is waited for, in seconds.
    """
    before = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGCHLD) is not before:
            signal.signal(signal.SIGCHLD, before or signal.SIG_DFL)


def plain(
    images: Images, size_views: Views, batch_size: int, readers: Readers = NONE
) -> Iterator[tuple[Tensor, Tensor]]:
    """Every good image once and in order, through views that draw nothing random (Centre).

    Yields the index (n,) and the one view of these images, float (n, ...). Broken images are left
    out, so that a batch may be smaller; the last one is what remains.
    """
    pieces = _Pieces(images, size_views, batch_size)
    for piece in _read(pieces, range(math.ceil(len(images) / batch_size)), readers):
        if isinstance(piece, UserError):
            raise piece
        if len(piece.used):
            (x,) = size_views.apply(piece.crops, pieces.draw(len(piece.used)))
            yield piece.used, x


class _Pieces(Dataset[Batch | UserError]):
    """Number of a piece of all images -> its good ones. An error comes back as a value."""

    def __init__(self, images: Images, views: Views, batch_size: int) -> None:
        self.images, self.views, self.batch_size = images, views, batch_size

    def draw(self, n: int) -> Any:
        return self.views.draw(torch.Generator(), n)

    def __getitem__(self, number: int) -> Batch | UserError:
        start = number * self.batch_size
        wanted = torch.arange(start, min(start + self.batch_size, len(self.images)))
        try:
            found, used, skipped = self.images.gather(wanted)
        except UserError as error:
            return error
        good = (used == wanted).nonzero().squeeze(1)  # the others stand in for broken ones
        if not len(good):
            return Batch(good, [], skipped)
        found = found[good] if isinstance(found, Tensor) else [found[i] for i in good.tolist()]
        return Batch(wanted[good], self.views.crop(found, self.draw(len(good))), skipped)
