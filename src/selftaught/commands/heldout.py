"""Images that are kept from training, to see whether what is learnt there holds for others too."""

from collections.abc import Iterator

import torch
from torch import Tensor

from selftaught import dist, seeds
from selftaught.commands.settings import PIECE
from selftaught.data.batches import Views, rows
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
        self.mine = dist.mine(torch.arange(batch_size))  # rows of the global batch
        self.crops: dict[str, list[Tensor]] = {}
        shown = {"trained": trained.spread(batch_size if held is None else len(held))}
        shown |= {} if held is None else {"held_out": held}
        for name, images in shown.items():
            parts = []
            for part in torch.arange(batch_size).split(PIECE):  # photographs may be large
                read, _, _ = images.gather(part % len(images))
                parts.append(views.crop(read, rows(self.parameters, part)))
            self.crops[name] = [torch.cat(crops) for crops in zip(*parts, strict=True)]

    def batches(self, device: torch.device, *, mixed: bool) -> Iterator[tuple[str, ViewBatch]]:
        """Each name with its batch, or with this process's rows of it, finished on the device."""
        for name in self.crops:
            seen = self._seen(name, self.mine, device)
            yield name, ViewBatch(seen, self.mine)
            if mixed and name == "trained":
                yield "mixed", ViewBatch(self._mixed(name, seen, device), self.mine)

    def _mixed(
        self, name: str, seen: tuple[Tensor, ...], device: torch.device
    ) -> tuple[Tensor, ...]:
        """Of each row the first view, the second of the row before, and so on."""
        count = len(self.crops[name][0])
        if len(self.mine) == count:
            return tuple(x.roll(view, 0) for view, x in enumerate(seen))
        rows_before = ((self.mine - view) % count for view in range(len(seen)))
        return tuple(self._seen(name, at, device)[view] for view, at in enumerate(rows_before))

    def _seen(self, name: str, index: Tensor, device: torch.device) -> tuple[Tensor, ...]:
        crops = [x[index].to(device) for x in self.crops[name]]
        return self.views.apply(crops, rows(self.parameters, index))
