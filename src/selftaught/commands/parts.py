"""Labelled data in a train and a test part, and what a network makes of them."""

import hashlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from selftaught import seeds
from selftaught.commands.features import features
from selftaught.data.images import Images, Labels, Part, has_part, open_images, open_labels
from selftaught.data.masks import Masks, open_masks
from selftaught.data.sources import evenly
from selftaught.data.tags import Tags, open_tags
from selftaught.errors import UserError
from selftaught.pretrained import Pretrained
from selftaught.report.live import Tell, silent

HELD_OUT = 0.2  # share of the data that is held out where they have no test part
SPLIT_SEED = 0
COMPARED = 8  # images of two data sets that are looked at to see whether they are the same

Kind = Literal["labels", "tags", "masks"]
KINDS: dict[Kind, str] = {
    "labels": "one label an image",
    "tags": "several labels an image",
    "masks": "masks of the images",
}


class Labelled(NamedTuple):
    """Images, the labels of some of them, and which these are."""

    images: Images
    values: Any  # of all images: (N,) labels, (N, K) tags, or Masks
    chosen: Tensor  # (N,) bool


class Seen:
    """A train and a test part as a network sees them; features are taken when they are needed."""

    def __init__(
        self,
        net: nn.Module,
        like: Pretrained,
        train: Labelled,
        test: Labelled,
        *,
        cached: bool,
        tell: Tell = silent,
    ) -> None:
        self.net, self.like, self.train, self.test = net, like, train, test
        self.cached, self.tell = cached, tell

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return next(self.like.parameters()).device

    @cached_property
    def features(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(N, D) of train, their labels, (M, D) of test, their labels; of sound images only."""
        return *self._of(self.train), *self._of(self.test)

    def _of(self, part: Labelled) -> tuple[Tensor, Tensor]:
        x, index = features(self.net, self.like, part.images, cached=self.cached, tell=self.tell)
        chosen = part.chosen[index]
        return x[chosen], part.values[index][chosen]

    def counts(self) -> tuple[int, int]:
        """Images of train and of test; without the broken ones where these are known."""
        if "features" in self.__dict__:
            return len(self.features[0]), len(self.features[2])
        return int(self.train.chosen.sum()), int(self.test.chosen.sum())


def kind_of(data: str | Path) -> Kind:
    """What the data have to evaluate with. Raises UserError for masks or tags that don't fit."""
    if open_masks(data, "train") is not None:
        return "masks"
    return "labels" if open_tags(data, "train") is None else "tags"


def parts(
    data: str | Path,
    test: str | Path | None,
    kind: Kind = "labels",
    *,
    card: Mapping[str, Any] | None = None,
) -> tuple[Labelled, Labelled, str]:
    """The train part and the test part, and how the latter was chosen.

    With the ``card`` of an encoder it also says whether that was trained on the images of the test
    part, or with their labels. Raises UserError where the data have no labels of that kind, other
    classes in either part, or the same images in both.
    """
    channels = (card or {}).get("pixels", {}).get("channels")
    images, labels = open_images(data, channels=channels), _opened(data, "train", kind)
    values, everything = _values(labels), torch.ones(len(images), dtype=torch.bool)
    if test is None and not has_part(data, "test"):
        order = torch.randperm(len(images), generator=seeds.generator(SPLIT_SEED, "held out"))
        held = torch.zeros(len(images), dtype=torch.bool)
        held[order[: max(1, round(HELD_OUT * len(images)))]] = True
        split = f"test: a fifth of {images.name}, held out by seed {SPLIT_SEED}"
        split += _trained_on(images, card or {})
        return Labelled(images, values, ~held), Labelled(images, values, held), split
    source = data if test is None else test
    part = "test" if has_part(source, "test") else "train"
    others = _opened(source, part, kind)
    renumbered = _renumbered(others, labels, f"{source}", f"{data}")
    held_images = open_images(source, part, channels)
    if test is not None and _same(images, held_images):
        raise UserError(
            f"{source} holds the images of {data}, which are trained on; give others to --test, or "
            "leave it out"
        )
    return (
        Labelled(images, values, everything),
        Labelled(held_images, renumbered, torch.ones(len(held_images), dtype=torch.bool)),
        f"test: the {part} part of {source}{_trained_on(held_images, card or {})}"
        f"{_untaught(labels, others)}",
    )


def content(*found: Labelled) -> str:
    """Tells images, their labels and their choice from others, 16 hex digits."""
    digest = hashlib.sha256()
    for images, values, chosen in found:
        masks = isinstance(values, Masks)
        said = values.stamp().encode() if masks else values.numpy().tobytes()
        digest.update(images.stamp().encode() + said + chosen.numpy().tobytes())
    return digest.hexdigest()[:16]


def _trained_on(images: Images, card: Mapping[str, Any]) -> str:
    """The end of a sentence, where an encoder was trained on the images that it is tested on."""
    own = images.fingerprint()
    if own in card.get("labelled", ()):
        return "; the encoder was trained on its images, and with labels of the same data"
    if own in (card.get("data", {}).get("fingerprint"), *card.get("shown", ())):
        return "; its images, not its labels, were pre-trained on"
    return ""


def _same(one: Images, other: Images) -> bool:
    """Whether two data sets are one; of files, by their names, their sizes and some images."""
    if one.fingerprint() != other.fingerprint():
        return False
    index = evenly(min(COMPARED, len(one)), len(one))
    (x, used, _), (y, others, _) = one.gather(index), other.gather(index)
    return torch.equal(used, others) and all(map(torch.equal, x, y))


def _opened(data: str | Path, part: Part, kind: Kind) -> Labels | Tags | Masks:
    openers = {"labels": open_labels, "tags": open_tags, "masks": open_masks}
    found = openers[kind](data, part)
    if found is not None:
        return found
    others: list[Kind] = [k for k in KINDS if k != kind and openers[k](data, part) is not None]
    if others:
        raise UserError(
            f"{data} has {KINDS[others[0]]}, not {KINDS[kind]}, which is needed here; "
            "`selftaught evaluate` has protocols for both"
        )
    raise UserError(
        f"{data} has no labels to evaluate with; put the images into one folder a class, or "
        "use `selftaught embed`"
    )


def _values(labels: Labels | Tags | Masks) -> Any:
    return labels if isinstance(labels, Masks) else labels.values


def _untaught(labels: Any, others: Any) -> str:
    """The end of a sentence, where test images have classes that no image of train has."""
    if not isinstance(labels, Labels):
        return ""
    taught, asked = (
        {of.classes[i] for i in of.values.unique().tolist()} for of in (labels, others)
    )
    lacking = sorted(asked - taught)
    return f"; train has no image of {', '.join(lacking[:5])}" if lacking else ""


def _renumbered(
    others: Labels | Tags | Masks, labels: Labels | Tags | Masks, source: str, data: str
) -> Any:
    """The test part's labels, numbered as those of train."""
    if isinstance(others, Masks) or isinstance(labels, Masks):
        return others
    unknown = sorted(set(others.classes) - set(labels.classes))
    if unknown:
        raise UserError(
            f"{source} has classes that {data} lacks ({', '.join(unknown[:5])}); evaluate on the "
            "same classes"
        )
    if isinstance(others, Labels):
        return torch.tensor([labels.classes.index(n) for n in others.classes])[others.values]
    missing = sorted(set(labels.classes) - set(others.classes))
    if missing:
        raise UserError(
            f"{source} does not say which images are {', '.join(missing[:5])}; evaluate on the "
            "same classes"
        )
    return others.values[:, [others.classes.index(n) for n in labels.classes]]
