"""Samples per second of `fit` on prepared uint8 batches beside the bare forward and backward.

    python benchmarks/throughput.py [--encoder resnet-nano] [--size 28] [--batch-size 256]

Both sides train the same encoder on as many views of the same size in the same precision and memory
layout, in turn, in one process. `fit` adds views, projection head, objective, checks and optimiser.
"""

import argparse
import itertools
import statistics
import time

import torch

from selftaught import precision
from selftaught.allocator import keep_freed_memory
from selftaught.data.batches import batches
from selftaught.data.images import ArrayImages
from selftaught.method import ViewBatch
from selftaught.nn.encoders import build
from selftaught.recipes.instance import simclr
from selftaught.recipes.parameters import call
from selftaught.recipes.run import Pixels
from selftaught.train import fit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--encoder", default="resnet-nano")
    parser.add_argument("--size", type=int, default=28)
    parser.add_argument("--channels", type=int, default=1, choices=(1, 3))
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4, help="in a round")
    asked = parser.parse_args()
    n, c, s = asked.batch_size, asked.channels, asked.size
    keep_freed_memory()
    device = torch.device("cpu")
    dtype = precision.choose("auto", device)

    images = ArrayImages((torch.rand(4 * n, c, s, s) * 255).byte(), "noise")
    pixels = Pixels(channels=c, size=s, count=4 * n, mean=(0.5,) * c, std=(0.3,) * c)
    run = call(simclr, pixels, {"encoder": asked.encoder, "batch_size": n})
    run.method.to(memory_format=torch.channels_last)
    found = batches(images, run.views, batch_size=n, seed=0, start=0, stop=10**6)
    views = (
        ViewBatch(tuple(x.to(memory_format=torch.channels_last) for x in b.views), b.index)
        for b, _ in found
    )
    steps = fit(run.method, views, run.optimizer, steps=10**6, dtype=dtype)

    encoder = build(asked.encoder, channels=c, size=s).to(memory_format=torch.channels_last)
    side = run.views.views[0].size
    x = torch.rand(n, c, side, side).to(memory_format=torch.channels_last)

    def bare() -> None:
        for _ in range(2):  # as many views
            with precision.autocast(device, dtype):
                h = encoder(x)
            h.float().square().mean().backward()

    speeds: dict[str, list[float]] = {"fit": [], "bare": []}
    next(steps), bare()
    for _ in range(asked.rounds):
        for name in speeds:
            began = time.perf_counter()
            if name == "fit":
                list(itertools.islice(steps, asked.steps))
            else:
                [bare() for _ in range(asked.steps)]
            speeds[name].append(n * asked.steps / (time.perf_counter() - began))
    ratios = [a / b for a, b in zip(speeds["fit"], speeds["bare"], strict=True)]
    print(f"{asked.encoder}, {c} x {s} px, views of {side} px, batch {n}, {dtype}")
    for name, found_speeds in speeds.items():
        print(f"{name:5} {statistics.median(found_speeds):8.0f} samples/s")
    print(f"ratio {statistics.median(ratios):8.3f}  ({min(ratios):.3f} to {max(ratios):.3f})")


if __name__ == "__main__":
    main()
