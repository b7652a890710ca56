"""Which floating-point type computes what."""

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

from selftaught.errors import UserError

P = ParamSpec("P")
R = TypeVar("R")


def float32(function: Callable[P, R]) -> Callable[P, R]:
    """Compute an objective in single precision whatever autocast says.

    Under bfloat16 autocast a matrix product runs in bfloat16 even on float32 inputs; a softmax over
    thousands of candidates does not survive that. Half-precision arguments are widened, float64
    ones stay.
    """

    def widen(value: object) -> object:
        if isinstance(value, Tensor) and value.dtype in (torch.bfloat16, torch.float16):
            return value.float()
        return value

    @functools.wraps(function)
    def inner(*args: P.args, **kwargs: P.kwargs) -> R:
        device = next((a.device.type for a in args if isinstance(a, Tensor)), "cpu")
        with torch.autocast(device, enabled=False):
            widened = {name: widen(value) for name, value in kwargs.items()}
            return function(*map(widen, args), **widened)  # pyright: ignore

    return inner


def native_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 matrices in hardware."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bool(
        torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    )


def choose(name: str, device: torch.device) -> torch.dtype:
    """``auto`` is bfloat16 where it is native, else float32. Raises UserError for other names."""
    if name == "auto":
        return torch.bfloat16 if native_bfloat16(device) else torch.float32
    if name not in ("float32", "bfloat16"):
        raise UserError(f"a precision of {name!r}; use auto, float32 or bfloat16")
    return getattr(torch, name)


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager:
    """Forward passes in ``dtype``; parameters stay float32."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype == torch.bfloat16)
