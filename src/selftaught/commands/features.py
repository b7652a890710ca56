"""Features of all images of a data set, computed once for each encoder."""

import hashlib
import os
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from selftaught.checkpoint import write_atomic
from selftaught.commands.settings import readers_for
from selftaught.data.batches import placed, plain
from selftaught.data.images import Images
from selftaught.errors import UserError
from selftaught.paths import expanded
from selftaught.pretrained import Pretrained, weights_digest
from selftaught.report.live import Tell, counted, silent

BATCH = 128
KEPT = 4 << 30  # bytes of the folder; what was used longest ago goes first


@torch.no_grad()
def features(
    net: torch.nn.Module,
    like: Pretrained,
    images: Images,
    *,
    cached: bool = False,
    tell: Tell = silent,
) -> tuple[Tensor, Tensor]:
    """Features (N, D) in float32 on the CPU of every sound image, and the images' numbers (N,).

    ``like`` says where to compute and how images are preprocessed. With ``cached`` they are read
    from the cache where the same weights saw the same images before, and else left there. Raises
    UserError for features that are not finite.
    """
    path = _place(net, like, images) if cached else None
    if path is not None and (before := _read(path)) is not None:
        return before
    device = next(like.parameters()).device
    parts, index = [], []
    found = plain(images, like.views, BATCH, readers_for(None, device))
    for numbers, x in counted(found, tell, "features", len(images), each=BATCH):
        x = placed(x, device)
        parts.append(finite(net(x).float().cpu()))
        index.append(numbers)
    result = torch.cat(parts), torch.cat(index)
    if path is not None:
        _keep(path, *result)
    return result


def finite(x: Tensor) -> Tensor:
    """The features x; UserError where one is NaN or infinite."""
    if not x.isfinite().all():
        raise UserError(
            "features hold NaN or infinity: the encoder has diverged; train it again with a lower "
            "learning rate, or give another run"
        )
    return x


def cache() -> Path:
    """The folder of cached features: below SELFTAUGHT_CACHE, or the user's cache."""
    own = os.environ.get("SELFTAUGHT_CACHE")
    if own:
        return expanded(own) / "features"
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "selftaught" / "features"


def _place(net: torch.nn.Module, like: Pretrained, images: Images) -> Path:
    """A file whose name tells these weights, this preprocessing and these images from others."""
    digest = hashlib.sha256(f"3 {like.card.get('recipe')} {like.card.get('arguments')}".encode())
    digest.update(f"{like.pixels} {images.stamp()}".encode())
    digest.update(weights_digest(net).encode())
    return cache() / f"{digest.hexdigest()[:32]}.safetensors"


def _read(path: Path) -> tuple[Tensor, Tensor] | None:
    """What is there, if it is sound."""
    try:
        found = load_file(path)
        path.touch()
        return found["features"], found["index"]
    except (OSError, SafetensorError, KeyError):
        return None


def _keep(path: Path, x: Tensor, index: Tensor) -> None:
    """Leave features there, and see that the folder does not grow without end.

    A cache that cannot be written is none.
    """
    with suppress(OSError, UserError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, save({"features": x.contiguous(), "index": index.contiguous()}))
        files = sorted(path.parent.glob("*.safetensors"), key=lambda f: f.stat().st_mtime)
        size = sum(file.stat().st_size for file in files)
        for file in files[:-1]:
            if size > KEPT:
                size -= file.stat().st_size
                file.unlink()
