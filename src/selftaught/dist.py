"""Several processes: the only module that talks to torch.distributed.

With one process each function is the identity, so methods are written once. A batch is split by
rows: process r holds rows r * B to (r + 1) * B of the global batch. All processes run the same
code; where a clock, the disk or a signal decides, they do what one of them says (`first`, `agreed`,
`largest`), and only the first one writes and prints.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, TypeVar

import torch
import torch.distributed as distributed
from torch import Tensor

from selftaught.errors import Lost, UserError

T = TypeVar("T")

BUNDLE = 2**22  # entries of gradients that are exchanged at once

_by_itself = False


def world_size() -> int:
    """How many processes train together."""
    on = distributed.is_available() and distributed.is_initialized() and not _by_itself
    return distributed.get_world_size() if on else 1


def rank() -> int:
    """Which of the processes this is, from 0."""
    return distributed.get_rank() if world_size() > 1 else 0


def local_rank() -> int:
    """Which of the processes of this machine this is, from 0."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def local_world_size() -> int:
    """The processes on this machine; where the environment does not say, all there are."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", world_size()))


def is_first() -> bool:
    """Whether this is the process that writes and prints."""
    return rank() == 0


@contextmanager
def joined() -> Iterator[None]:
    """The group of processes that torchrun, or ``selftaught pretrain --processes``, has started.

    Nothing where this process was started alone, or is in a group already. Raises Lost where
    another process of the group has ended, UserError for an environment that does not name one.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or world_size() > 1:
        yield
        return
    cuda = torch.cuda.is_available()
    if cuda and local_rank() < torch.cuda.device_count():
        torch.cuda.set_device(local_rank())
    missing = [n for n in ("RANK", "MASTER_ADDR", "MASTER_PORT") if n not in os.environ]
    if missing:
        raise UserError(f"WORLD_SIZE is set and {missing[0]} is not; use torchrun, or unset it")
    # PyTorch imports this module on the way, and its default arguments keep the group of that
    # moment: its threads would run into the interpreter's end, and may then abort the process.
    import_module("torch.distributed.nn.functional")
    try:
        distributed.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo")
        yield
    except RuntimeError as error:
        if isinstance(error, distributed.DistError) or "gloo" in str(error):
            raise Lost("another process of this run has ended") from error
        raise
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()


@contextmanager
def alone() -> Iterator[None]:
    """A context in which this process counts as the only one: it asks nothing of the others."""
    global _by_itself
    before, _by_itself = _by_itself, True
    try:
        yield
    finally:
        _by_itself = before


def agreed(value: T) -> T:
    """The first process's value, everywhere."""
    if world_size() == 1:
        return value
    found = [value]
    distributed.broadcast_object_list(found)
    return found[0]


def first(function: Callable[[], T]) -> T:
    """What the function returns in the first process, everywhere; or the UserError it raises."""
    value, error = None, None
    if is_first():
        try:
            value = function()
        except UserError as raised:
            error = raised
    value, error = agreed((value, error))
    if error is not None:
        raise error
    return value  # pyright: ignore


def largest(value: int) -> int:
    """The largest of all processes' numbers."""
    if world_size() == 1:
        return value
    found = torch.tensor(value)
    distributed.all_reduce(found, distributed.ReduceOp.MAX)
    return int(found)


def everyones(value: T) -> list[T]:
    """All processes' values, in their order."""
    if world_size() == 1:
        return [value]
    found: list[Any] = [None] * world_size()
    distributed.all_gather_object(found, value)
    return found


class _Gather(torch.autograd.Function):
    """All-gather along the first axis whose backward sums what every process sends back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.contiguous()  # in memory too: images may be channels last
        parts = [torch.empty_like(x) for _ in range(world_size())]
        distributed.all_gather(parts, x)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return mine(total(grads[0].contiguous()))


def gather(x: Tensor) -> Tensor:
    """The global batch's rows (W * B, ...) from each process's own (B, ...), differentiably.

    The gradients of all processes are summed. Each process computes the same loss on the gathered
    rows, so averaging the parameters' gradients afterwards, as data-parallel training does, gives
    those of the global loss.
    """
    return _Gather.apply(x) if world_size() > 1 else x  # pyright: ignore


class _Sum(torch.autograd.Function):
    """All-reduce whose backward sums what every process sends back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return total(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return total(grads[0])


def summed(x: Tensor) -> Tensor:
    """The sum over processes, differentiably: gradients are summed as those of `gather` are."""
    return _Sum.apply(x) if world_size() > 1 else x  # pyright: ignore


def mine(x: Tensor) -> Tensor:
    """This process's rows (B, ...) of the global batch's (W * B, ...)."""
    return x.chunk(world_size())[rank()]


def total(x: Tensor) -> Tensor:
    """The sum over processes, without a gradient."""
    if world_size() == 1:
        return x.detach()
    x = x.detach().clone()
    distributed.all_reduce(x)
    return x


def stacked(x: Tensor) -> Tensor:
    """All processes' x (...), without a gradient: (W, ...)."""
    if world_size() == 1:
        return x.detach()[None]
    parts = x.new_empty(world_size(), *x.shape)
    distributed.all_gather(list(parts), x.detach().contiguous())
    return parts


@torch.no_grad()
def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Replace each gradient by its mean over the processes; what has none anywhere keeps none."""
    if world_size() == 1:
        return
    trained = [p for p in parameters if p.requires_grad]
    given = torch.tensor([float(p.grad is not None) for p in trained], device=trained[0].device)
    some = [p for p, anywhere in zip(trained, total(given).tolist(), strict=True) if anywhere]
    for p in some:
        p.grad = torch.zeros_like(p) if p.grad is None else p.grad
    for grads in _bundles([p.grad for p in some if p.grad is not None]):
        flat = torch.cat([grad.flatten() for grad in grads])
        distributed.all_reduce(flat)
        flat /= world_size()
        for grad, mean in zip(grads, flat.split([g.numel() for g in grads]), strict=True):
            grad.copy_(mean.view_as(grad))


def _bundles(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Tensors of one kind together, as long as they are small: an exchange of each takes longer."""
    bundle: list[Tensor] = []
    for x in tensors:
        size = sum(y.numel() for y in bundle) + x.numel()
        if bundle and (size > BUNDLE or x.dtype != bundle[0].dtype):
            yield bundle
            bundle = []
        bundle.append(x)
    if bundle:
        yield bundle
