"""A device that isn't there: its tensors say that they are on it, and are told from all others.

PyTorch's meta device stands in for a GPU, by wrappers that say they are on it and hold their values
on the CPU. As on a GPU, tensors of two devices do not meet in one operation, but for single numbers
and for indices, nothing of it is read as an array, and a generator draws for its own device alone.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only

HERE, THERE = torch.device("cpu"), torch.device("meta")
COPIES = {"_to_copy", "copy_"}  # from one device to another
INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_"}  # by indices of the CPU, too


class Elsewhere(Tensor):
    """A tensor that says it is on the other device."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "Elsewhere":
        like = {"strides": held.stride(), "storage_offset": held.storage_offset()}
        found = Tensor._make_wrapper_subclass(
            cls, held.shape, dtype=held.dtype, device=THERE, **like
        )
        found.held = held
        return found

    __torch_function__ = torch._C._disabled_torch_function_impl

    def __tensor_flatten__(self) -> tuple[list[str], None]:  # by it `Module.to` keeps parameters
        return ["held"], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, Tensor], *_: Any) -> "Elsewhere":
        return Elsewhere(inner["held"])

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class Operations(TorchDispatchMode):
    """Keeps devices apart, and counts what is computed on the other one."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = _run(func, args, kwargs or {})
        self.count += any(isinstance(t, Elsewhere) for t in tree_leaves(found))
        return found


class _Literals(TorchFunctionMode):
    """Numbers to tensors and back, where PyTorch will not have it of the meta device."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is Tensor.tolist and isinstance(args[0], Elsewhere):
            return args[0].held.tolist()
        if func is Tensor.new_tensor:
            like, *args = args
            func, kwargs = torch.tensor, {"dtype": like.dtype, "device": like.device} | kwargs
        if func in (torch.tensor, torch.as_tensor) and "device" in kwargs:
            place = kwargs.pop("device")
            return func(*args, **kwargs).to(place)
        return func(*args, **kwargs)


def _run(func: Any, args: Any, kwargs: Any) -> Any:
    """The operation on what the wrappers hold, and wrappers of what comes of it."""
    given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
    assert all(isinstance(t, Elsewhere) for t in given if t.device == THERE), f"{func} of nothing"
    name, place = func._overloadpacket.__name__, kwargs.get("device")
    if name not in COPIES:
        met = [args[0], *args[2:3]] if name in INDEXED else given
        _check_alike(func, {t.device for t in met if t.ndim}, given)
    if place is None:
        place = given[0].device if name == "copy_" else _place(given)
    else:
        place, kwargs = torch.device(place), kwargs | {"device": HERE}
    drawn_by = kwargs.get("generator")
    if drawn_by is not None and drawn_by.device != place:
        raise RuntimeError(f"{func} on {place} by a generator of {drawn_by.device}")
    inner = tree_map_only(Elsewhere, lambda t: t.held, (args, kwargs))
    found = func(*inner[0], **inner[1])
    if place == HERE:
        return found
    return return_and_correct_aliasing(func, args, kwargs, tree_map_only(Tensor, Elsewhere, found))


def _place(given: list[Tensor]) -> torch.device:
    return THERE if any(t.device == THERE for t in given) else HERE


def _check_alike(func: Any, places: set[torch.device], given: list[Tensor]) -> None:
    if len(places) > 1 or (places == {HERE} and _place(given) == THERE):
        raise RuntimeError(f"{func} of tensors of two devices")


@contextlib.contextmanager
def elsewhere() -> Iterator[Operations]:
    """Inside, tensors may be made on `THERE` and moved there, and devices are kept apart."""
    autocast = torch.autocast

    def cast(device: str, *rest: Any, **more: Any) -> Any:
        return contextlib.nullcontext() if device == "meta" else autocast(device, *rest, **more)

    with pytest.MonkeyPatch.context() as patch, _Literals(), Operations() as ran:
        patch.setattr(torch, "autocast", cast)  # which the meta device does not have
        yield ran
