"""Recipes that do something to an image and ask what it was."""

from collections.abc import Sequence
from typing import Any, Literal

from selftaught.errors import UserError
from selftaught.methods.jigsaw import Jigsaw
from selftaught.methods.relative_patch import RelativePatch
from selftaught.methods.rotation import Rotation
from selftaught.nn.encoders import build
from selftaught.recipes.run import Pixels, Run
from selftaught.recipes.shared import Training, check_tile, crop, for_tiles, view_side
from selftaught.views.aberration import KeepOneChannel, Project, ShiftChannels
from selftaught.views.image import Gray, View
from selftaught.views.jigsaw import SIDE
from selftaught.views.jigsaw import Jigsaw as Cut
from selftaught.views.neighbours import Neighbours
from selftaught.views.rotate import Turned
from selftaught.views.tiles import TilesAlone

SMALLEST = 4  # pixels a side of a tile in which there is something to see


def rotation(
    data: Pixels,
    *,
    encoder: str = "resnet-nano",
    view_share: float = 0.7,
    smallest_crop: float = 0.3,
    training: Training = Training(),
) -> Run:
    """Rotation (Gidaris et al. 2018, arXiv 1803.07728): which way up is the image?

    Each image is seen in all four rotations at each step, so that a step costs twice that of a
    method with two views.

    Args:
        data: what the images look like.
        encoder: resnet-nano, resnet-pico, vit-nano or any timm name; theirs are AlexNet and NIN.
        view_share: side of a view as a share of the image's, where the encoder takes any size.
        smallest_crop: the view shows at least this share of the image's area.
    """
    net = build(encoder, channels=data.channels, size=data.size)
    view = View(crop(data, view_side(data, net, view_share), smallest_crop))
    return training.run(Rotation(net), Turned(view, data.mean, data.std))


def jigsaw(
    data: Pixels,
    *,
    encoder: str = "resnet-nano",
    permutations: int = 64,
    tile: int = 0,
    width: int = 128,
    hidden: int = 512,
    smallest_crop: float = 0.77,
    gray: float = 0.3,
    channel_shift: float = 0.03,
    training: Training = Training(),
) -> Run:
    """Jigsaw (Noroozi & Favaro 2016, arXiv 1603.09246): in what order do the nine tiles lie?

    Args:
        data: what the images look like.
        encoder: resnet-nano, resnet-pico, vit-nano or a timm name whose images may be of any size.
        permutations: orders that are told apart, chosen to be as unlike as possible.
        tile: side of a tile in pixels; 0 leaves the paper's share of a third as gap.
        width: of what is said of each tile.
        hidden: width of the layer that sees all tiles.
        smallest_crop: the puzzle shows at least this share of the image's largest square.
        gray: probability that a puzzle of a colour image is gray.
        channel_shift: colours of a tile are shifted by up to this share of its side.
    """
    net = for_tiles("jigsaw", encoder, data)
    cell = data.size // SIDE
    tile = tile or _tile(net, cell)
    least = _whole(net, SMALLEST)
    if not least <= tile < cell or tile % _patch(net):
        works = _works(net, range(least, cell, _patch(net)), SIDE * (least + 1))
        raise UserError(
            f"3 x 3 tiles of {max(tile, least)} pixels with gaps between them do not fit images of "
            f"{data.size}; use {works}"
        )
    check_tile(net, data, tile)
    if channel_shift < 0:
        raise UserError(f"a shift of {channel_shift}; use --channel-shift with 0 or more")
    method = Jigsaw(net, permutations=permutations, width=width, hidden=hidden)
    shift = ShiftChannels(round(channel_shift * tile))
    square: dict[str, Any] = {"scale": (smallest_crop, 1.0), "square": True}
    puzzle = Cut(tile, cell, shift, flip=0.0, alike=[Gray(gray)], shuffled=False, **square)
    return training.run(method, TilesAlone(puzzle, data.mean, data.std))


def relative_patch(
    data: Pixels,
    *,
    encoder: str = "resnet-nano",
    grid: int = 2,
    tile: int = 0,
    gap: float = 0.5,
    jitter: float = 0.07,
    width: int = 128,
    hidden: int = 512,
    smallest_crop: float = 0.6,
    guard: Literal["drop", "project", "none"] = "drop",
    training: Training = Training(),
) -> Run:
    """Relative patch (Doersch et al. 2015, arXiv 1505.05192): on which side of one lies the other?

    A deviation from the paper's settings: patches are as large as the image has room for, about a
    third of its side, where those of the authors' code are a fifth (96 pixels of 390 to 670), on a
    grid over the whole image. ``--size 512 --tile 96`` comes near.

    Args:
        data: what the images look like.
        encoder: resnet-nano, resnet-pico, vit-nano or a timm name whose images may be of any size.
        grid: patches along a side; all pairs of neighbours are asked for.
        tile: side of a patch in pixels; 0 makes them as large as the image has room for.
        gap: between patches, as a share of their side; more where their jitter asks for it.
        jitter: a patch lies up to this share of its side away from its place, either way.
        width: of what is said of each patch.
        hidden: width of the layers that see two patches.
        smallest_crop: the grid lies within at least this share of the image's largest square.
        guard: against chromatic aberration: drop two colours, project green and magenta out, none.
    """
    net = for_tiles("relative_patch", encoder, data)
    if gap <= 0 or jitter < 0:
        raise UserError(f"a gap of {gap}, a jitter of {jitter}; use --gap above 0, --jitter from 0")
    method = RelativePatch(net, grid=grid, width=width, hidden=hidden)
    least, every = _whole(net, SMALLEST), range(_whole(net, SMALLEST), data.size, _patch(net))
    fits = [p for p in every if _extent(grid, p, gap, jitter) <= data.size]
    tile = tile or max(fits, default=least)
    if tile not in fits:
        works = _works(net, fits, _extent(grid, least, gap, jitter))
        raise UserError(
            f"{grid} x {grid} patches of {tile} pixels with gaps between them do not fit images of "
            f"{data.size}; use {works}"
        )
    check_tile(net, data, tile)
    guards = {"drop": [KeepOneChannel()], "project": [Project()], "none": []}
    if guard not in guards:
        raise UserError(f"no guard named {guard!r}; use --guard drop, project or none")
    apart, moved = _spacing(tile, gap, jitter)
    scale = (smallest_crop, 1.0)
    patches = Neighbours(data.size, tile, apart, moved, *guards[guard], grid=grid, scale=scale)
    return training.run(method, TilesAlone(patches, data.mean, data.std))


def _spacing(tile: int, gap: float, jitter: float) -> tuple[int, int]:
    """Pixels of gap and of jitter, so that patches never touch."""
    moved = max(round(jitter * tile), 1 if jitter else 0)
    return max(round(gap * tile), 2 * moved + 1), moved


def _extent(grid: int, tile: int, gap: float, jitter: float) -> int:
    """Pixels along a side of the grid."""
    apart, moved = _spacing(tile, gap, jitter)
    return grid * tile + (grid - 1) * apart + 2 * moved


def _works(net: Any, sides: Sequence[int], size: int) -> str:
    """Which sides of a tile fit the image, or from which size on an image has room for any."""
    if not sides:
        return f"--size {size} or more"
    if len(sides) == 1:
        return f"--tile {sides[0]}"
    steps = f" in steps of {_patch(net)}" if _patch(net) > 1 else ""
    return f"--tile from {sides[0]} to {sides[-1]}{steps}"


def _patch(net: Any) -> int:
    """What the side of a tile must be a multiple of."""
    return getattr(net, "patch", 1)


def _whole(net: Any, side: int) -> int:
    """The side of a tile of at least so many pixels."""
    return -(-side // _patch(net)) * _patch(net)


def _tile(net: Any, cell: int) -> int:
    """The side of a tile that is the paper's share of its cell, or the next that leaves a gap."""
    patch = _patch(net)
    tile = round(cell * 64 / 75 / patch) * patch
    return tile if tile < cell else tile - patch
