"""Images that are kept from training, to see whether what is learnt there holds for others too."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from selftaught import dist, seeds
from selftaught.data.batches import Views
from selftaught.data.images import Images
from selftaught.data.sources import evenly
from selftaught.method import ViewBatch

SHARE = 20  # of so many images one may be kept
LEAST = 8  # images that can stand for others


def kept(count: int, batch_size: int) -> Tensor:
    """Which of ``count`` images are kept from training: a batch, or fewer, or none of few images.

    Evenly spread. Never more than one in `SHARE`, and never so many that no batch is left.
    """
    wanted = min(batch_size, count // SHARE, count - batch_size)
    return evenly(wanted, count) if wanted >= LEAST else torch.zeros(0, dtype=torch.long)


class Probes:
    """Batches on which the objective is looked at: the same images in the same views each time.

    Iterates over their names: ``trained``, images that are trained on; ``held_out``, as many that
    are not, in views drawn alike; and, if asked for, ``mixed``, where the views of a row are those
    of different images. An image comes as often as it takes to fill the batch.
    """

    def __init__(
        self, trained: Images, held: Images | None, views: Views, batch_size: int, seed: int
    ) -> None:
        self.views = views
        self.parameters = views.draw(seeds.generator(seed, "held out"), batch_size)
        self.crops: dict[str, list[Tensor]] = {}
        shown = {"trained": trained.spread(batch_size if held is None else len(held))}
        shown |= {} if held is None else {"held_out": held}
        for name, images in shown.items():
            read, _, _ = images.gather(torch.arange(batch_size) % len(images))
            self.crops[name] = views.crop(read, self.parameters)

    def batches(self, *, mixed: bool) -> Iterator[tuple[str, ViewBatch]]:
        """Each name with its batch, or with this process's rows of it."""
        for name, crops in self.crops.items():
            seen = self.views.apply(crops, self.parameters)
            yield name, _mine(seen)
            if mixed and name == "trained":
                yield "mixed", _mine([x.roll(view, 0) for view, x in enumerate(seen)])


def _mine(views: Sequence[Tensor]) -> ViewBatch:
    index = dist.mine(torch.arange(len(views[0])))
    return ViewBatch(tuple(x[index] for x in views), index)
