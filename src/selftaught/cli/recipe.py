"""Pre-training, whose options are the signature of the recipe."""

import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import arg

from selftaught import recipes
from selftaught.cli.options import Data, Device, Precision
from selftaught.cli.parsing import parse
from selftaught.cli.processes import launch, launched
from selftaught.cores import keep_to_granted
from selftaught.errors import UserError
from selftaught.recipes.parameters import parameters


@dataclasses.dataclass
class Common:
    """What every run has."""

    data: Data
    """A folder of images or of IDX files, an .npz file, digits, or a torchvision name."""
    out: Annotated[Path, arg(metavar="RUN")]
    """A new folder for the run."""
    steps: int | None = None
    """Train for so many steps."""
    minutes: float | None = None
    """Train for so many minutes: speed is measured first, and the run planned to end in time."""
    size: int | None = None
    """Side in pixels that the encoder sees; without it, the images' own up to 64 (GPU: 224)."""
    flip: bool = True
    """Mirror half of the views; not where a mirror image is another thing: digits, text, organs."""
    seed: int | None = None
    """Of everything random; without it 0."""
    workers: int | None = None
    """Processes that read images, with the same batches; without it as many as a GPU needs."""
    processes: int = 1
    """Processes that train, each on its share of every batch; each on a GPU of its own if any."""
    device: Device = "auto"
    """Where to train."""
    precision: Precision = "auto"
    """Of the forward passes; auto is bfloat16 where the hardware has it."""
    scale: Literal["auto", "paper", "small"] = "auto"
    """Whose settings stand in for those not given: the paper's, or those for small data."""
    init: str | None = None
    """What the encoder begins with: a run, a .safetensors file or timm:NAME; random without it."""
    resume: bool = False
    """Go on with the run in --out, bit for bit, with the settings it began with."""
    evaluate: Literal["auto", "off"] = "auto"
    """Evaluate at the end where the data have labels."""
    draw_every: float = 5.0
    """Minutes between pictures of what the method makes, where it makes images; 0 is never."""
    not_finite: Literal["stop", "skip"] = "stop"
    """Where a loss or gradient is NaN or infinite: stop, or leave the step out, 1 % at most."""


def pretrain_with(method: str, argv: list[str]) -> int:
    """Run ``selftaught pretrain METHOD`` with the rest of its arguments; the exit code."""
    if method not in recipes.RECIPES and argv and argv[0] in recipes.RECIPES:
        raise UserError(f"the method comes first: selftaught pretrain {argv[0]} {method} ...")
    recipe = recipes.find(method)
    values = vars(parse(_options(recipe), argv, prog=f"selftaught pretrain {method}"))
    common = {f.name: values.pop(f.name) for f in dataclasses.fields(Common)}
    processes = common.pop("processes")
    if processes != 1 and not launched():
        return launch(["pretrain", method, *argv], processes)
    keep_to_granted()
    options = [word for word in argv if word.startswith("--")]
    words = {w.split("=")[0].removeprefix("--").removeprefix("no-") for w in options}
    named = {word.replace("-", "_") for word in words}
    given = {name: value for name, value in values.items() if name in named}
    from selftaught.commands.pretrain import pretrain

    pretrain(method, **common, **given)
    return 0


def _options(recipe: Callable[..., Any]) -> type:
    """What every run has and, with their meaning from the docstring, the recipe's parameters."""
    fields = [
        (p.name, Annotated[p.annotation, arg(help=p.meaning)], p.default)
        for p in parameters(recipe).values()
    ]
    options = dataclasses.make_dataclass("Options", fields, bases=(Common,))
    options.__doc__ = (inspect.getdoc(recipe) or "").split("\n")[0]
    return options
