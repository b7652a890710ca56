"""Work so small that a command is done in a second."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from selftaught.cli import main

OPTIONS = {
    "simclr": ("--hidden", "32", "--dim", "16"),
    "byol": ("--hidden", "32", "--dim", "16"),
    "simclr_v2": ("--dim", "16", "--queue", "16"),
    "instdisc": ("--dim", "16", "--noise", "8"),
    "dino": ("--hidden", "32", "--bottleneck", "16", "--outputs", "24", "--crops", "1"),
    "swav": ("--dim", "16", "--prototypes", "16", "--crops", "1", "--queue", "16"),
    "deepcluster_v2": ("--hidden", "32", "--dim", "16", "--clusters", "8", "--crops", "1"),
    "mae": ("--dim", "32", "--depth", "1", "--heads", "2"),
    "vqvae": ("--codes", "16", "--dim", "8"),
    "gan": ("--dim", "8", "--width", "8"),
    "vae": ("--dim", "8", "--width", "8"),
    "bigan": ("--dim", "8", "--width", "8", "--hidden", "16"),
    "igpt": ("--side", "4", "--palette", "4", "--dim", "16", "--depth", "2", "--layer", "1"),
}
PATCH = {"mae": ("--patch", "2")}  # for 8 x 8 pixels
BATCH = ("--batch-size", "16")  # three batches an epoch of the archive's 48


class Answer(NamedTuple):
    code: int
    out: str
    err: str


def call(capsys: Any, *words: Any) -> Answer:
    """The command line's answer, in process."""
    capsys.readouterr()
    code = main([str(word) for word in words])
    return Answer(code, *capsys.readouterr())


def refused(answer: Answer, *words: str) -> None:
    """The user must act: exit code 2 and one line that holds these words."""
    assert answer.code == 2, answer
    assert answer.err.startswith("selftaught: "), answer.err
    assert answer.err.count("\n") == 1, answer.err
    assert "Traceback" not in answer.err + answer.out
    for word in words:
        assert word in answer.err, answer.err


def training(method: str, data: Any, out: Any, *more: Any, steps: int = 4) -> list[str]:
    """The words of a tiny run on the archive or on digits."""
    own = OPTIONS[method] + PATCH.get(method, ())
    words = ("pretrain", method, data, "--out", out, "--steps", steps, "--evaluate", "off")
    return [str(word) for word in (*words, *BATCH, *own, *more)]


def archive(path: Path, count: int = 48, classes: int = 3, seed: int = 0, **more: Any) -> Path:
    """An .npz file of random 8 x 8 images, with labels."""
    draw = np.random.default_rng(seed)
    x = draw.integers(0, 256, (count, 8, 8), dtype=np.uint8)
    np.savez(path, x=x, **({"y": np.arange(count) % classes} | more))
    return path


def photographs(root: Path, count: int, *, side: int = 24, depth: int = 1) -> Path:
    """Colour JPEGs of several shapes, each depth-th of them in a deeper folder."""
    draw = np.random.default_rng(1)
    for i in range(count):
        folder = root.joinpath(*["deeper"] * (i % depth))
        folder.mkdir(parents=True, exist_ok=True)
        coarse = draw.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((side + i % 5, side), Image.Resampling.BICUBIC).save(
            folder / f"{i:04}.jpg", quality=90
        )
    return root


def tree(root: Path) -> dict[str, bytes]:
    """Every file below a folder, and what is in it."""
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def flat(state: Any, path: str = "") -> dict[str, Any]:
    """The leaves of a nested state by their paths."""
    if isinstance(state, Mapping):
        items: Any = state.items()
    elif isinstance(state, list | tuple):
        items = enumerate(state)
    else:
        return {path: state}
    return {k: v for name, value in items for k, v in flat(value, f"{path}/{name}").items()}


def equal(left: Any, right: Any) -> None:
    """Two states agree in every leaf, bit for bit."""
    left, right = flat(left), flat(right)
    assert left.keys() == right.keys()
    for name, value in left.items():
        other = right[name]
        if isinstance(value, torch.Tensor):
            assert value.dtype == other.dtype, name
            assert torch.equal(value, other), name
        else:
            assert value == other, name


RECIPE = '''
import torch
from torch import nn

from selftaught.method import Method
from selftaught.recipes.run import Pixels, Run
from selftaught.views.image import Crop, View, Views


class Encoder(nn.Module):
    dim = 5

    def __init__(self, data):
        super().__init__()
        self.linear = nn.Linear(data.channels * data.size**2, self.dim)

    def forward(self, x):
        return self.linear(x.flatten(1))


class Agreement(Method):
    def __init__(self, encoder, bad):
        super().__init__()
        self.encoder, self.bad = encoder, bad
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    def forward(self, batch):
        first, second = (self.encoder(x) for x in batch.views)
        nan = float("nan") if int(self.seen) == self.bad else 1.0
        self.seen += 1
        return {"apart": (first - second).square().mean() * nan, "size": first.square().mean()}


def agreement(data: Pixels, *, batch_size: int = 16, bad: int = -1, note: str = "") -> Run:
    """Two views agree.

    Args:
        bad: the step whose first term is NaN.
    """
    method = Agreement(Encoder(data), bad)
    view = View(Crop(data.size, scale=(0.5, 1.0)))
    return Run(
        method=method,
        views=Views([view, view], data.mean, data.std),
        optimizer=torch.optim.SGD(method.parameters(), lr=0.01, momentum=0.9),
        batch_size=batch_size,
        epochs=2,
    )
'''


def recipe(folder: Path, monkeypatch: Any, name: str, text: str = RECIPE) -> str:
    """A recipe of somebody's own, in a module that can be imported."""
    (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(folder))
    return f"{name}:agreement"
