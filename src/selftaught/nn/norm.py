"""Batch norm whose statistics are those of the global batch, or of groups of it."""

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
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
                "groups; use a --batch-size that --groups divides, and --groups that they divide"
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
        y, mean, var = _Normalised.apply(input, self.weight, self.bias, self.eps)  # pyright: ignore
        self._remember(mean, var * count / (count - 1))
        return y

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


class _Normalised(torch.autograd.Function):
    """Batch norm over all processes, and the mean and the variance (C,) that it found.

    Each process makes PyTorch's own passes over its part of the batch, those of a batch norm whose
    statistics are given, and two numbers a channel are exchanged each way. What flows back through
    the statistics comes on top (Ioffe & Szegedy 2015, section 3).
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        wide = torch.promote_types(x.dtype, torch.float32)
        unused = torch.zeros(2, x.shape[1], dtype=wide, device=x.device)
        here = torch.stack(torch.batch_norm_update_stats(x, *unused, momentum=0.0))  # (2, C)
        means, variances = dist.stacked(here).unbind(1)  # (W, C)
        mean = means.mean(0)
        var = (variances + (means - mean).square()).mean(0)
        ctx.save_for_backward(x, weight, mean, var)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, var)
        scale, shift = (None if p is None else p.to(wide) for p in (weight, bias))
        return F.batch_norm(x, mean, var, scale, shift, training=False, eps=eps), mean, var

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        x, weight, mean, var = ctx.saved_tensors
        x, grad = x.to(mean.dtype), grads[0].to(mean.dtype)  # autograd casts what is returned
        scale = torch.ones_like(mean) if weight is None else weight.to(mean.dtype)
        invstd = (var + ctx.eps).rsqrt()
        fixed, by_scale, by_shift = torch.ops.aten.native_batch_norm_backward(
            grad, x, scale, mean, var, mean, invstd, False, ctx.eps, [True, True, True]
        )
        count = x.numel() // x.shape[1] * dist.world_size()
        along, even = dist.total(torch.stack([by_scale, by_shift])) / count
        slope = scale * invstd.square() * along  # what flows back through the variance, and
        level = scale * invstd * even - slope * mean  # through the mean
        wide = (-1, *[1] * (x.ndim - 2))
        fixed.addcmul_(x, slope.view(wide), value=-1).sub_(level.view(wide))
        _, scaled, shifted, _ = ctx.needs_input_grad
        return fixed, by_scale if scaled else None, by_shift if shifted else None, None


def _require_two(count: int) -> None:
    if count < 2:
        raise UserError(
            "batch norm over one value; use a larger --batch-size, or fewer --groups if any"
        )


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
