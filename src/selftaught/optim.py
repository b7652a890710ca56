"""Parameter groups, the LARS optimiser and the learning rate's schedule."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn


def groups(module: nn.Module, *, weight_decay: float) -> list[dict[str, Any]]:
    """Every trainable parameter, in two groups.

    The weight matrices and kernels of layers decay and, under LARS, are adapted; biases, the scales
    of norms, positions and learned tokens are neither.
    """
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]

    def is_weight(name: str, p: nn.Parameter) -> bool:
        return name.endswith("weight") and p.ndim > 1

    weights = [p for name, p in named if is_weight(name, p)]
    others = [p for name, p in named if not is_weight(name, p)]
    return [
        {"params": weights, "weight_decay": weight_decay, "adapt": True},
        {"params": others, "weight_decay": 0.0, "adapt": False},
    ]


def warmup_cosine(progress: float, warmup: float) -> float:
    """Factor of the base learning rate: up in a line for a share of the run, then down to zero.

    SGDR (Loshchilov & Hutter 2016, arXiv 1608.03983), equation 5 without restarts.
    """
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


class LARS(torch.optim.Optimizer):
    """Layer-wise adaptive rate scaling (You et al. 2017, arXiv 1708.03888, algorithm 1).

    As in BYOL's code: the trust ratio, relative to the decayed gradient, scales it before the
    momentum, the learning rate after; groups with ``adapt`` false get plain momentum SGD. The
    ratio is used with a weight decay of 0 too.
    """

    def __init__(
        self,
        params: Any,
        lr: float,
        *,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 1e-3,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(params, defaults | {"trust": trust, "adapt": True})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # pyright: ignore
        """Move every parameter that has a gradient."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._move(p, p.grad, group)
        return loss

    def _move(self, p: torch.Tensor, grad: torch.Tensor, group: dict[str, Any]) -> None:
        update = grad + group["weight_decay"] * p
        if group["adapt"]:
            size, push = p.norm(), update.norm()
            ratio = torch.where((size > 0) & (push > 0), group["trust"] * size / push, 1.0)
            update = update * ratio
        state = self.state[p]
        velocity = state.setdefault("velocity", torch.zeros_like(p))
        velocity.mul_(group["momentum"]).add_(update)
        p.sub_(group["lr"] * velocity)
