"""How good an encoder is, with the same protocols on random weights and on raw pixels beside it."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from selftaught import pretrained, seeds
from selftaught.commands.settings import device_of
from selftaught.data.batches import plain
from selftaught.data.images import Images, Labels, has_part, open_images, open_labels
from selftaught.errors import UserError
from selftaught.pretrained import Pretrained
from selftaught.protocols.knn import knn
from selftaught.protocols.linear import logreg

PROTOCOLS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "knn/20": lambda train, labels, test: knn(train, labels, test, k=20),
    "knn/200": lambda train, labels, test: knn(train, labels, test, k=200),
    "logreg": lambda train, labels, test: logreg(train, labels, test).predictions,
}
HELD_OUT = 0.2  # share of the data that is held out where they have no test part
SPLIT_SEED = 0
BATCH = 128


def evaluate(
    run: str | Path | Pretrained,
    data: str | Path,
    *,
    test: str | Path | None = None,
    protocols: Sequence[str] = tuple(PROTOCOLS),
    device: str = "auto",
    rows: Sequence[str] = ("encoder", "random", "pixels"),
) -> dict[str, Any]:
    """Accuracies in percent of the encoder, of the same with random weights and of raw pixels.

    ``data`` and ``test`` are labelled images; ``test`` may be left out where the data have a test
    part of their own, else a fifth is held out by a fixed seed. Returns ``{"rows": {"encoder":
    {"knn/20": ..., ...}, "random": ..., "pixels": ...}, "train": N, "test": N, "split": how the
    test part was chosen}``. Features are taken in float32; that the encoder did not change is
    asserted. ``rows`` leaves out baselines that the caller has already. Raises UserError where
    labels are missing or an unknown protocol is named.
    """
    names = _protocols(protocols)
    encoder = run if isinstance(run, Pretrained) else pretrained.load(run)
    train, held, split = _parts(data, test)
    place = device_of(device)
    nets: dict[str, Callable[[], torch.nn.Module]] = {
        "encoder": lambda: encoder,
        "random": lambda: pretrained.untrained(encoder.card),
        "pixels": lambda: _RawPixels(encoder.pixels.mean, encoder.pixels.std),
    }
    before = {name: t.clone() for name, t in encoder.state_dict().items()}
    scores: dict[str, dict[str, float]] = {}
    y = ty = torch.empty(0)
    for row in rows:
        net = nets[row]().to(place)
        x, y = _features(net, encoder, train, place)
        tx, ty = _features(net, encoder, held, place)
        scores[row] = {name: _accuracy(PROTOCOLS[name](x, y, tx), ty) for name in names}
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(tensor.cpu(), before[name].cpu()), f"the evaluation changed {name}"
    return {"rows": scores, "train": len(y), "test": len(ty), "split": split}


def _protocols(asked: Iterable[str]) -> list[str]:
    """Full names: ``knn`` is all that begin with ``knn/``."""
    found = []
    for name in asked:
        matching = [p for p in PROTOCOLS if p == name or p.startswith(f"{name}/")]
        if not matching:
            raise UserError(f"no protocol named {name!r}; there are {', '.join(PROTOCOLS)}")
        found += matching
    return list(dict.fromkeys(found))


class Labelled(NamedTuple):
    """Images, the labels of some of them, and which these are."""

    images: Images
    values: Tensor  # (N,) of all images
    chosen: Tensor  # (N,) bool


def _parts(data: str | Path, test: str | Path | None) -> tuple[Labelled, Labelled, str]:
    """The train part and the test part, and how the latter was chosen."""
    images, labels = open_images(data), _labels(data, "train")
    everything = torch.ones(len(images), dtype=torch.bool)
    if test is None and not has_part(data, "test"):
        order = torch.randperm(len(images), generator=seeds.generator(SPLIT_SEED, "held out"))
        held = torch.zeros(len(images), dtype=torch.bool)
        held[order[: max(1, round(HELD_OUT * len(images)))]] = True
        split = f"test: a fifth of {images.name}, held out by seed {SPLIT_SEED}"
        return (
            Labelled(images, labels.values, ~held),
            Labelled(images, labels.values, held),
            split,
        )
    source = data if test is None else test
    part = "test" if has_part(source, "test") else "train"
    others = _labels(source, part)
    unknown = sorted(set(others.classes) - set(labels.classes))
    if unknown:
        raise UserError(
            f"{source} has classes that {data} lacks ({', '.join(unknown[:5])}); evaluate on the "
            "same classes"
        )
    renumber = torch.tensor([labels.classes.index(name) for name in others.classes])
    held_images = open_images(source, part)
    return (
        Labelled(images, labels.values, everything),
        Labelled(
            held_images,
            renumber[others.values],
            torch.ones(len(held_images), dtype=torch.bool),
        ),
        f"test: the {part} part of {source}",
    )


def _labels(data: str | Path, part: Any) -> Labels:
    labels = open_labels(data, part)
    if labels is None:
        raise UserError(
            f"{data} has no labels to evaluate with; put the images into one folder a class, or "
            "use `selftaught embed`"
        )
    return labels


class _RawPixels(torch.nn.Module):
    """The image as it was before it was normalised, in [0, 1], as features."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.mean = torch.nn.Buffer(torch.tensor(mean)[:, None, None])
        self.std = torch.nn.Buffer(torch.tensor(std)[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.std + self.mean).flatten(1)


@torch.no_grad()
def features(net: torch.nn.Module, like: Pretrained, images: Images) -> tuple[Tensor, Tensor]:
    """Features (N, D) on the CPU of every sound image, and the images' numbers (N,)."""
    place = next(like.parameters()).device
    found, index = [], []
    for numbers, x in plain(images, like.views, BATCH):
        x = x.to(device=place, memory_format=torch.channels_last)
        found.append(net(x).float().cpu())
        index.append(numbers)
    return torch.cat(found), torch.cat(index)


def _features(
    net: torch.nn.Module, like: Pretrained, part: Labelled, place: torch.device
) -> tuple[Tensor, Tensor]:
    like.to(place)
    x, index = features(net, like, part.images)
    chosen = part.chosen[index]
    return x[chosen], part.values[index][chosen]


def _accuracy(predictions: Tensor, labels: Tensor) -> float:
    return round(100 * (predictions.cpu() == labels).double().mean().item(), 2)
