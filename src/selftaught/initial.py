"""Weights to begin with: of a run, of a file, or public ones of timm's."""

import logging
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from selftaught.errors import UserError
from selftaught.paths import expanded
from selftaught.pretrained import WEIGHTS

TIMM = "timm:"


@torch.no_grad()
def initialise(method: Any, source: str) -> str:
    """Load ``source`` into the method's encoder and all copies of it; what was loaded, in a line.

    ``source`` is the folder of a run or of an exported encoder, a ``.safetensors`` file, or
    ``timm:NAME`` for that network's public weights. Every tensor of the encoder has to be there in
    its shape; what else there is, such as a classifier, is left out. A method's slow copies begin
    with the same weights. Raises UserError where something is missing or of another shape.
    """
    encoder: nn.Module = method.encoder
    own = encoder.state_dict()
    found = _matching(_read(source, encoder), own)
    wrong = [
        f"{name} is {tuple(found[name].shape)} and not {tuple(value.shape)}"
        for name, value in own.items()
        if name in found and found[name].shape != value.shape
    ]
    missing = [name for name in own if name not in found]
    if wrong or missing:
        first = wrong[0] if wrong else f"{missing[0]} is missing"
        raise UserError(
            f"{source} does not fit the encoder ({first}; {len(wrong) + len(missing)} such of "
            f"{len(own)}); begin with the same --encoder and image --size, or leave out --init"
        )
    copies = [part for part in method.modules() if _is_copy(part, encoder)]
    used = {name: found[name] for name in own}
    for part in copies:
        part.load_state_dict(used)
    count = sum(value.numel() for value in used.values())
    extra = sorted(found.keys() - own.keys())
    left = f"; left out: {len(extra)}, {extra[0]} the first" if extra else ""
    return f"begins with {source}: {len(used)} tensors, {count / 1e6:.1f} M numbers{left}"


def _read(source: str, encoder: nn.Module) -> dict[str, Tensor]:
    if source.startswith(TIMM):
        return _public(source.removeprefix(TIMM), encoder)
    path = expanded(source)
    path = path / WEIGHTS if path.is_dir() else path
    if not path.is_file():
        raise UserError(
            f"no weights at {source}; give --init a finished run, a .safetensors file or timm:NAME"
        )
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} is no sound .safetensors file: {reason}") from error


def _public(name: str, encoder: nn.Module) -> dict[str, Tensor]:
    """The weights of a network of timm's, for as many channels as the encoder has."""
    import timm

    logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)  # which tells of each attempt
    first = next((p for p in encoder.parameters() if p.ndim == 4), None)
    if first is None:
        raise UserError(f"{TIMM}{name} is no network for this encoder; leave out --init")
    options: dict[str, Any] = {"in_chans": first.shape[1], "num_classes": 0}
    try:
        net = timm.create_model(name, pretrained=True, **options)
    except Exception as error:  # of the network, of the hub, of an unknown name
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"cannot get the weights of timm's {name} ({reason}); see that the name is one with "
            "public weights and that there is a network"
        ) from error
    found = dict(net.state_dict())
    if "norm.weight" not in found:  # of a mean of patches, which timm calls by another name
        found = {name.replace("fc_norm.", "norm.", 1): value for name, value in found.items()}
    return found


def _matching(found: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same with names as the encoder's, which may hold its network as ``net``, or deeper."""
    for holder in ("", "net.", "encoder.", "encoder.net."):
        named = {f"{holder}{name}": value for name, value in found.items()}
        if own.keys() & named.keys():
            return named
    return found


def _is_copy(part: nn.Module, encoder: nn.Module) -> bool:
    """Whether a part of the method is the encoder, or has the same weights."""
    if type(part) is not type(encoder):
        return False
    one, two = part.state_dict(), encoder.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
