"""Parameter groups, the gradient's bound, LARS and LARC and the learning rate's schedule."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from selftaught.errors import UserError, from_zero_to_one

#: What has a bound of the gradient's norm: the whole module, each of its parts, each tensor.
Clip = Literal["whole", "part", "tensor"]


def groups(
    module: nn.Module,
    *,
    weight_decay: float,
    constant: Iterable[nn.Module] = (),
    decay_all: bool = False,
    lr: float | None = None,
    bias_lr: float = 1.0,
) -> list[dict[str, Any]]:
    """Every trainable parameter, in groups.

    The weight matrices and kernels of layers decay and, under LARS, are adapted; biases, the scales
    of norms, positions and learned tokens are neither, unless ``decay_all`` lets them decay too,
    and have ``bias_lr`` times the ``lr`` where one is given. The parameters of ``constant`` modules
    have groups of their own, whose learning rate the schedule leaves alone.
    """
    apart = {p for part in constant for p in part.parameters()}
    found = []
    for is_constant in (False, True) if apart else (False,):
        weights, others = [], []
        for name, p in module.named_parameters():
            if p.requires_grad and (p in apart) == is_constant:
                (weights if name.endswith("weight") and p.ndim > 1 else others).append(p)
        more = {"constant": True} if is_constant else {}
        own = {} if lr is None else {"lr": lr * bias_lr}
        decay = weight_decay if decay_all else 0.0
        found += [
            {"params": weights, "weight_decay": weight_decay, "adapt": True, **more},
            {"params": others, "weight_decay": decay, "adapt": False, **own, **more},
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

    ``stages`` are the parts of the encoder in ``module``, from its input on; a norm that is the
    last of them counts with what comes after. The last other one's rate is ``lr * decay``, the
    one's before that ``lr * decay ** 2`` and so on; what comes after them has ``lr``, and what of
    the encoder is in none of them (class token, positions) the first one's. As in BEiT (Bao et al.
    2021, arXiv 2106.08254, appendix) and MAE (`util/lr_decay.py` of its code). Weight decay is as
    in `groups`.
    """
    depth = {p: i for i, stage in enumerate(stages) for p in stage.parameters()}
    inside, top = set(encoder.parameters()), len(stages)
    if stages and all(p.ndim < 2 for p in stages[-1].parameters()):
        top -= 1
    found: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, p in module.named_parameters():
        if p.requires_grad:
            place = depth.get(p, 0) if p in inside else top
            found.setdefault((place, name.endswith("weight") and p.ndim > 1), []).append(p)
    return [
        {
            "params": parameters,
            "lr": lr * decay ** (top - place),
            "weight_decay": weight_decay if decays else 0.0,
        }
        for (place, decays), parameters in sorted(found.items())
    ]


def bounded(module: nn.Module, bound: float, by: Clip = "whole") -> torch.Tensor:
    """Shorten gradients that are longer than ``bound``; the norm of all that there were.

    Those of the whole module, of each ``part``, its children and the parameters of its own, or of
    each ``tensor``.
    """
    if by == "whole":
        return nn.utils.clip_grad_norm_(module.parameters(), bound)
    if by == "tensor":
        apart = [[p] for p in module.parameters()]
    else:
        own = module.parameters(recurse=False)
        apart = [list(found) for found in (own, *(part.parameters() for part in module.children()))]
    moved = ([p for p in found if p.grad is not None] for found in apart)
    return torch.stack([nn.utils.clip_grad_norm_(found, bound) for found in moved if found]).norm()


@dataclass(frozen=True)
class Schedule:
    """Factor of the base learning rate by the share of the run that is done.

    Up in a line from ``first`` for a share ``warmup`` of the run, if there is one. Then down along
    a cosine to ``last`` (SGDR, Loshchilov & Hutter 2016, arXiv 1608.03983, equation 5 without
    restarts), or, unless ``cosine``, constant but for a factor of ``drop`` at each of the shares
    ``drops``. Raises UserError for shares and factors outside their range.
    """

    warmup: float = 0.1
    cosine: bool = True
    last: float = 0.0
    drops: tuple[float, ...] = ()
    drop: float = 0.1
    first: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.warmup < 1:
            raise UserError(f"a warm-up of {self.warmup}; use --warmup with a share from 0 to 1")
        from_zero_to_one(first_lr=self.first, last_lr=self.last)
        if not (all(0 < share < 1 for share in self.drops) and 0 < self.drop < 1):
            raise UserError(
                f"a factor of {self.drop} at {self.drops} of the run; use --drop and --drops with "
                "shares between 0 and 1"
            )

    def __call__(self, progress: float) -> float:
        """From 0 to 1, at a share of the run in [0, 1)."""
        if progress < self.warmup:
            return self.first + (1 - self.first) * progress / self.warmup
        if not self.cosine:
            return self.drop ** sum(progress >= share for share in self.drops)
        turn = math.pi * (progress - self.warmup) / (1 - self.warmup)
        return self.last + (1 - self.last) * 0.5 * (1 + math.cos(turn))


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
        update = self._scaled(p, grad, group)
        state = self.state[p]
        velocity = state.setdefault("velocity", torch.zeros_like(p))
        velocity.mul_(group["momentum"]).add_(update)
        p.sub_(group["lr"] * velocity)

    def _scaled(self, p: torch.Tensor, grad: torch.Tensor, group: dict[str, Any]) -> torch.Tensor:
        update = grad + group["weight_decay"] * p
        if not group["adapt"]:
            return update
        size, push = p.norm(), update.norm()
        return update * torch.where((size > 0) & (push > 0), group["trust"] * size / push, 1.0)


class LARC(LARS):
    """LARS as NVIDIA's apex has it, without its clipping, as SwAV's authors take it.

    Every parameter is adapted, biases and norms too. The trust ratio is that of the paper: relative
    to the norm of the gradient and the decay times that of the parameter. What is zero, or has no
    gradient, neither decays nor is scaled.
    """

    def _scaled(self, p: torch.Tensor, grad: torch.Tensor, group: dict[str, Any]) -> torch.Tensor:
        decay, size, push = group["weight_decay"], p.norm(), grad.norm()
        ratio = group["trust"] * size / (push + decay * size + 1e-8)
        return torch.where((size > 0) & (push > 0), ratio * (grad + decay * p), grad)
