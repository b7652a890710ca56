"""What two choices for processors are worth: kept memory, and products for tiny maps.

    python benchmarks/processor.py

Each side by side in one run, medians over rounds. The memory setting holds for a whole process and
cannot be taken back, so it is measured last.
"""

import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from selftaught import precision
from selftaught.allocator import keep_freed_memory
from selftaught.nn.residual import Conv3x3

CPU = torch.device("cpu")
SHAPES = ((256, 256, 3, 1), (128, 256, 5, 2), (128, 128, 5, 1), (64, 64, 10, 1))


def seconds(work: Callable[[], object], repeats: int = 10) -> float:
    work()
    began = time.perf_counter()
    for _ in range(repeats):
        work()
    return (time.perf_counter() - began) / repeats


def convolve(module: nn.Module, x: torch.Tensor) -> None:
    with precision.autocast(CPU, precision.choose("auto", CPU)):
        y = module(x)
    y.backward(torch.ones_like(y))
    x.grad = None


def compare(d_in: int, d_out: int, side: int, stride: int, rounds: int = 5) -> str:
    torch.manual_seed(0)
    product = Conv3x3(d_in, d_out, stride).to(memory_format=torch.channels_last)
    product.TINY = product.MANY = 10**6
    usual = nn.Conv2d(d_in, d_out, 3, stride, 1, bias=False)
    usual = usual.to(memory_format=torch.channels_last)
    x = torch.randn(512, d_in, side, side, dtype=precision.choose("auto", CPU))
    x = x.to(memory_format=torch.channels_last).requires_grad_()
    times = [
        (seconds(lambda: convolve(usual, x)), seconds(lambda: convolve(product, x)))
        for _ in range(rounds)
    ]
    one, two = (1e3 * statistics.median(column) for column in zip(*times, strict=True))
    ratio = statistics.median(a / b for a, b in times)
    shape = f"{d_in:4} -> {d_out:3}, {side:2} px, stride {stride}"
    return f"{shape}: {one:6.1f} ms {two:6.1f} ms  {ratio:.2f}"


def memory() -> None:
    x = torch.randn(16 * 2**20)  # 64 MB
    before = seconds(lambda: x + 1)
    if not keep_freed_memory():
        print("this C library has no such setting")
        return
    seconds(lambda: x + 1)
    after = seconds(lambda: x + 1)
    print(f"adding to 64 MB: {1e3 * before:.1f} ms, with freed memory kept {1e3 * after:.1f} ms")


if __name__ == "__main__":
    print("forward and backward, 512 maps: torch's convolution, ours, ratio")
    for shape in SHAPES:
        print(compare(*shape))
    memory()
