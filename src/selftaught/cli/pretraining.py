"""Commands that train without labels, and what is known before."""

from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from selftaught import recipes
from selftaught.cli.options import Data, Device, print_json
from selftaught.errors import UserError
from selftaught.recipes import parameters

Settings = tuple[str, ...]


def methods(name: Positional[str | None] = None, *, json: bool = False) -> None:
    """List the methods: name, family, modality, paper, year, what the defaults were measured on.

    Args:
        name: only this one.
        json: print JSON.
    """
    from selftaught.commands.methods import show

    show(name, as_json=json)


def pretrain(method: Positional[str], data: Data) -> None:
    """Train an encoder on data without labels; `selftaught pretrain METHOD --help` has the options.

    Args:
        method: a name that `selftaught methods` lists, or package.module:function.
        data: a folder of images or of IDX files, an .npz file, digits, or a torchvision name.
    """
    raise UserError(f"name the method first: selftaught pretrain {method} {data} --out RUN")


def compare(
    data: Data,
    *,
    methods: str,
    out: Path,
    minutes: float | None = None,
    steps: int | None = None,
    size: int | None = None,
    flip: bool = True,
    seed: int | None = None,
    device: Device = "auto",
    scale: Literal["auto", "paper", "small"] = "auto",
    set: Settings = (),
    json: bool = False,
) -> None:
    """Train several methods under one equal budget and show them in one table with baselines.

    Args:
        data: images; where they have labels, for evaluation only, the methods are ranked.
        methods: their names, with commas.
        out: folder of the runs and the table; the same command goes on where it was stopped.
        minutes: budget of each method.
        steps: budget of each method, instead of minutes.
        size: side in pixels that the encoders see.
        flip: mirror half of the random views.
        seed: of everything random.
        device: where to train.
        scale: whose settings all methods take where none are given; auto asks the data.
        set: parameters of the methods, as encoder=vit-nano; each has those that it knows.
        json: print JSON.
    """

    from selftaught.commands.compare import compare
    from selftaught.report import table
    from selftaught.report.console import terminal

    names = [name for name in methods.split(",") if name]
    given = parameters.read(set, map(recipes.find, names))
    found = compare(
        data,
        methods=names,
        out=out,
        minutes=minutes,
        steps=steps,
        size=size,
        flip=flip,
        seed=seed,
        device=device,
        scale=scale,
        quiet=json,
        **given,
    )
    print_json(found) if json else terminal().print(table.compared(found))


def doctor(
    data: Data,
    *,
    encoder: str | None = None,
    size: int | None = None,
    method: str = "simclr",
    device: Device = "auto",
    set: Settings = (),
    json: bool = False,
) -> None:
    """Look at the data before any run: what is in them, what is broken, what a step costs.

    Args:
        data: images.
        encoder: the encoder to time; the method's default without it.
        size: side in pixels that the encoder sees.
        method: the method to time.
        device: where to time it.
        set: parameters of the method, as batch_size=64.
        json: print JSON.
    """
    from selftaught.commands.doctor import doctor

    given = parameters.read(set, [recipes.find(method)])
    given |= {"encoder": encoder} if encoder is not None else {}
    found = doctor(data, size=size, method=method, device=device, quiet=json, **given)
    if json:
        print_json(found)
