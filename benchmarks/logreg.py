"""Logistic regression over the whole grid of C, beside one fit of scikit-learn's.

    SELFTAUGHT_DATA=... python benchmarks/logreg.py
    ... --samples 60000 --widths 256,512,2048

Features are random ones of Fashion-MNIST's pixels, max(0, W x + b), which are correlated as an
encoder's are. Ours tries every C on a held-out tenth and then fits to all; scikit-learn's is one
fit, with the C that was chosen, to its own tolerance. So the ratio of their times is that of a
whole choice to one fit. "Every thread" is our choice when PyTorch and SciPy use all threads that
they begin with, whatever there is to do. Fewer samples are the first ones.
"""

import argparse
import contextlib
import time
from collections.abc import Callable
from unittest.mock import patch

import torch
from rows import fashion_mnist
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from selftaught.commands.parts import Labelled, parts
from selftaught.protocols import linear
from selftaught.protocols.convex import GRID


def pixels(part: Labelled) -> Tensor:
    images, _, _ = part.images.gather(torch.arange(len(part.images)))
    assert isinstance(images, Tensor)
    return images.flatten(1).float() / 255


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def row(train: Labelled, test: Labelled, samples: int, width: int) -> str:
    draw = torch.Generator().manual_seed(0)
    y = train.values[:samples]
    x, tx = pixels(train)[:samples], pixels(test)
    weight = torch.randn(x.shape[1], width, generator=draw) / x.shape[1] ** 0.5
    bias = torch.randn(width, generator=draw) / 10
    x, tx = ((part @ weight + bias).relu() for part in (x, tx))
    found = linear.logreg(x, y, tx)
    ours = seconds(lambda: linear.logreg(x, y, tx))
    with patch.object(linear, "few_threads", contextlib.nullcontext):
        every = seconds(lambda: linear.logreg(x, y, tx))
    mean, std = x.mean(0), x.std(0).clamp(min=1e-6)
    model = LogisticRegression(C=found.C, max_iter=1000)
    other = seconds(lambda: model.fit(((x - mean) / std).numpy(), y.numpy()))
    right = found.predictions == test.values
    theirs = model.score(((tx - mean) / std).numpy(), test.values.numpy())
    times = f"{ours:.1f} | {every:.1f} | {other:.1f}"
    accuracy = f"{100 * right.double().mean():.2f} | {100 * theirs:.2f}"
    return f"| {len(x):,} | {width} | {found.C:g} | {times} | {accuracy} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--samples", default="600,6000,60000")
    parser.add_argument("--widths", default="256,512")
    asked = parser.parse_args()
    train, test, _ = parts(fashion_mnist(), None)
    print(
        f"{torch.get_num_threads()} threads, PyTorch {torch.__version__}, {len(GRID)} values of C"
    )
    times = "choice s | every thread s | scikit-learn s"
    print(f"\n| samples | width | C | {times} | accuracy | scikit-learn |")
    print("|---" * 8 + "|")
    for samples in map(int, asked.samples.split(",")):
        for width in map(int, asked.widths.split(",")):
            print(row(train, test, samples, width), flush=True)


if __name__ == "__main__":
    main()
