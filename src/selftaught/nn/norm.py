"""Batch norm whose statistics are those of the global batch, or of groups of it."""

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from selftaught import dist
from selftaught.errors import UserError


class GroupedBatchNorm(_BatchNorm):
    """Batch norm over each of ``groups`` contiguous, equal groups of the global batch.

    One group is batch norm synchronised over processes (Ioffe & Szegedy 2015, arXiv 1502.03167).
    Several are what as many devices without synchronisation compute (He et al. 2019, arXiv
    1911.05722, section 3.3), on any number of processes that divides them. Running statistics are
    the mean over groups. Unlike torch's SyncBatchNorm it runs on a CPU.

    Raises UserError for a batch that the groups do not divide, for groups that the processes do not
    divide, and for groups of one value a channel.
    """

    groups: int = 1

    def forward(self, input: Tensor) -> Tensor:
        """(B, C) or (B, C, ...) in the same shape; a subclass's activation is applied too."""
        world = dist.world_size()
        if not self.training or (self.groups == 1 and world == 1):
            return super().forward(input)
        y = self._together(input, world) if self.groups == 1 else self._apart(input, world)
        for then in ("drop", "act"):  # timm's BatchNormAct2d
            y = getattr(self, then, _nothing)(y)
        return y

    def _apart(self, input: Tensor, world: int) -> Tensor:
        """Each group lies in one process and is normalised there."""
        here, left = divmod(self.groups, world)
        if left or len(input) % here:
            raise UserError(
                f"a batch of {len(input) * world} in {world} processes does not make {self.groups} "
                "groups; use a batch that the groups divide, and groups that the processes divide"
            )
        _require_two(input.numel() // (here * input.shape[1]))
        wide = torch.promote_types(input.dtype, torch.float32)
        stats = torch.zeros(2, here, input.shape[1], dtype=wide, device=input.device)  # (2, G, C)
        y = [
            F.batch_norm(part, mean, var, self.weight, self.bias, True, momentum=1.0, eps=self.eps)
            for part, mean, var in zip(input.chunk(here), *stats, strict=True)
        ]
        self._remember(*(dist.total(stats.mean(dim=1)) / world))
        return torch.cat(y)

    def _together(self, input: Tensor, world: int) -> Tensor:
        """One group over all processes."""
        count = input.numel() // input.shape[1] * world
        _require_two(count)
        with torch.autocast(input.device.type, enabled=False):
            x = input.float() if input.dtype in (torch.bfloat16, torch.float16) else input
            over = (0, *range(2, x.ndim))
            mean = dist.summed(x.sum(over, keepdim=True)) / count  # (1, C, ...)
            centred = x - mean
            var = dist.summed(centred.square().sum(over, keepdim=True)) / count
            self._remember(mean.detach().flatten(), var.detach().flatten() * count / (count - 1))
            y = centred * (var + self.eps).rsqrt()
            if self.affine:
                scale, shift = (p.view_as(mean) for p in (self.weight, self.bias))
                y = y * scale + shift
        return y.to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, var: Tensor) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share: Any = self.momentum
        if share is None:  # the mean over all batches, as in torch
            share = 1 / self.num_batches_tracked.to(mean)
        for running, now in ((self.running_mean, mean), (self.running_var, var)):
            running.lerp_(now.to(running), share)


def _require_two(count: int) -> None:
    if count < 2:
        raise UserError("batch norm over one value; use a larger batch, or fewer groups")


def _nothing(x: Tensor) -> Tensor:
    return x


@functools.cache
def _grouped(kind: type, groups: int) -> Any:
    return type(f"Grouped{kind.__name__}", (GroupedBatchNorm, kind), {"groups": groups})


def group(module: nn.Module, groups: int) -> nn.Module:
    """Turn every batch norm in ``module`` into one over groups, in place; others stay.

    Raises UserError for fewer groups than one.
    """
    if groups < 1:
        raise UserError(f"batch norm over {groups} groups; use --groups with 1 or more")
    for part in module.modules():
        if isinstance(part, _BatchNorm) and not isinstance(part, GroupedBatchNorm):
            part.__class__ = _grouped(type(part), groups)
    return module


def synchronise(module: nn.Module) -> nn.Module:
    """Turn every batch norm that is not in groups into a synchronised one, in place."""
    return group(module, 1)
