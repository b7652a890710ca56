"""Several processes: the only module that talks to torch.distributed.

With one process each function is the identity, so methods are written once. A batch is split by
rows: process r holds rows r * B to (r + 1) * B of the global batch.
"""

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as distributed
from torch import Tensor


def world_size() -> int:
    """How many processes train together."""
    on = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if on else 1


def rank() -> int:
    """Which of the processes this is, from 0."""
    return distributed.get_rank() if world_size() > 1 else 0


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
        total = grads[0].contiguous()
        distributed.all_reduce(total)
        return mine(total)


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


@torch.no_grad()
def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Replace each gradient by its mean over the processes; what has none anywhere keeps none."""
    if world_size() == 1:
        return
    trained = [p for p in parameters if p.requires_grad]
    given = torch.tensor([float(p.grad is not None) for p in trained], device=trained[0].device)
    for p, anywhere in zip(trained, total(given).tolist(), strict=True):
        if anywhere:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
            distributed.all_reduce(p.grad)
            p.grad /= world_size()
