"""Logistic regression over the whole grid of C, beside one fit of scikit-learn's.

    SELFTAUGHT_DATA=... python benchmarks/logreg.py
    ... --widths 256,512,2048

Features are random ones of Fashion-MNIST's pixels, max(0, W x + b), which are correlated as an
encoder's are. Ours tries every C on a held-out tenth and then fits to all; scikit-learn's is one
fit, with the C that was chosen, to its own tolerance. So the ratio of their times is that of a
whole choice to one fit.
"""

import argparse
import time

import torch
from rows import fashion_mnist
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from selftaught.commands.parts import Labelled, parts
from selftaught.protocols.convex import GRID
from selftaught.protocols.linear import logreg


def pixels(part: Labelled) -> Tensor:
    images, _, _ = part.images.gather(torch.arange(len(part.images)))
    assert isinstance(images, Tensor)
    return images.flatten(1).float() / 255


def row(train: Labelled, test: Labelled, width: int) -> str:
    draw = torch.Generator().manual_seed(0)
    x, tx = pixels(train), pixels(test)
    weight = torch.randn(x.shape[1], width, generator=draw) / x.shape[1] ** 0.5
    bias = torch.randn(width, generator=draw) / 10
    x, tx = ((part @ weight + bias).relu() for part in (x, tx))
    began = time.perf_counter()
    found = logreg(x, train.values, tx)
    ours = time.perf_counter() - began
    mean, std = x.mean(0), x.std(0).clamp(min=1e-6)
    model = LogisticRegression(C=found.C, max_iter=1000)
    began = time.perf_counter()
    model.fit(((x - mean) / std).numpy(), train.values.numpy())
    other = time.perf_counter() - began
    right = found.predictions == test.values
    theirs = model.score(((tx - mean) / std).numpy(), test.values.numpy())
    accuracy = f"{100 * right.double().mean():.2f} | {100 * theirs:.2f}"
    return f"| {len(x):,} | {width} | {found.C:g} | {ours:.1f} | {other:.1f} | {accuracy} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--widths", default="256,512")
    asked = parser.parse_args()
    train, test, _ = parts(fashion_mnist(), None)
    print(
        f"{torch.get_num_threads()} threads, PyTorch {torch.__version__}, {len(GRID)} values of C"
    )
    print("\n| samples | width | C | choice s | scikit-learn s | accuracy | scikit-learn |")
    print("|---" * 7 + "|")
    for width in map(int, asked.widths.split(",")):
        print(row(train, test, width), flush=True)


if __name__ == "__main__":
    main()
