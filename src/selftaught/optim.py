"""Parameter groups, the LARS optimiser and the learning rate's schedule."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn


def groups(
    module: nn.Module, *, weight_decay: float, constant: Iterable[nn.Module] = ()
) -> list[dict[str, Any]]:
    """Every trainable parameter, in groups.

    The weight matrices and kernels of layers decay and, under LARS, are adapted; biases, the scales
    of norms, positions and learned tokens are neither. The parameters of ``constant`` modules have
    groups of their own, whose learning rate the schedule leaves alone.
    """
    apart = {p for part in constant for p in part.parameters()}
    found = []
    for is_constant in (False, True) if apart else (False,):
        weights, others = [], []
        for name, p in module.named_parameters():
            if p.requires_grad and (p in apart) == is_constant:
                (weights if name.endswith("weight") and p.ndim > 1 else others).append(p)
        more = {"constant": True} if is_constant else {}
        found += [
            {"params": weights, "weight_decay": weight_decay, "adapt": True, **more},
            {"params": others, "weight_decay": 0.0, "adapt": False, **more},
        ]
    return found


def layered(
    module: nn.Module,
    encoder: nn.Module,
    stages: Sequence[nn.Module],
    *,
    lr: float,
    weight_decay: float,
    decay: float,
) -> list[dict[str, Any]]:
    """Groups of every trainable parameter, whose learning rates fall from output to input.

    ``stages`` are the parts of the encoder in ``module``, from its input on. The last one's rate is
    ``lr * decay``, the one's before that ``lr * decay ** 2`` and so on; what comes after them has
    ``lr``, and what of the encoder is in none of them (class token, positions) the first one's. As
    in BEiT (Bao et al. 2021, arXiv 2106.08254, appendix) and MAE. Weight decay is as in `groups`.
    """
    depth = {p: i for i, stage in enumerate(stages) for p in stage.parameters()}
    inside = set(encoder.parameters())
    found: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, p in module.named_parameters():
        if p.requires_grad:
            place = depth.get(p, 0) if p in inside else len(stages)
            found.setdefault((place, name.endswith("weight") and p.ndim > 1), []).append(p)
    return [
        {
            "params": parameters,
            "lr": lr * decay ** (len(stages) - place),
            "weight_decay": weight_decay if decays else 0.0,
        }
        for (place, decays), parameters in sorted(found.items())
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
