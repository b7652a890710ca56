"""How long it takes to read a photograph and cut two random views of it, beside torchvision.

    python benchmarks/reading.py [--sizes 500 1600 4000] [--rounds 5]

Both read the same JPEG files on one thread, in turn in one process: ours with `decode` and `Views`,
torchvision's as most scripts do it, with Pillow and `RandomResizedCrop`. The files are composed:
noise at a twelfth of their size, enlarged.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import v2

from selftaught import seeds
from selftaught.data.images import open_images
from selftaught.views.image import Crop, View, Views

COUNT = 12  # files of each size
SIDE = 224  # pixels of a view
SCALE = (0.08, 1.0)


def write(folder: Path, width: int) -> None:
    draw = np.random.default_rng(width)
    for i in range(COUNT):
        noise = draw.integers(0, 256, (width // 16, width // 12, 3), dtype=np.uint8)
        image = Image.fromarray(noise).resize((width, width * 3 // 4), Image.Resampling.BICUBIC)
        image.save(folder / f"{i:02}.jpg", quality=90)


def ours(folder: Path) -> Callable[[], object]:
    images = open_images(folder)
    views = Views([View(Crop(SIDE, SCALE))] * 2, (0.5,) * 3, (0.5,) * 3)
    parameters = views.draw(seeds.generator(0, "views"), COUNT)
    return lambda: views.crop(images.gather(torch.arange(COUNT))[0], parameters)


def theirs(folder: Path) -> Callable[[], object]:
    crop = v2.Compose([v2.RandomResizedCrop(SIDE, SCALE), v2.RandomHorizontalFlip(), v2.ToImage()])
    files = sorted(folder.glob("*.jpg"))

    def read() -> object:
        found = []
        for path in files:
            image = Image.open(path).convert("RGB")
            found.append((crop(image), crop(image)))
        return found

    return read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="*", type=int, default=[500, 1600, 4000])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print("| width | ours, ms an image | torchvision | ratio |\n|---|---|---|---|")
    for width in options.sizes:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write(folder, width)
            sides = (ours(folder), theirs(folder))
            for read in sides:
                read()
            times: list[list[float]] = [[], []]
            for _ in range(options.rounds):
                for read, taken in zip(sides, times, strict=True):
                    began = time.perf_counter()
                    read()
                    taken.append(1000 * (time.perf_counter() - began) / COUNT)
        own, other = (float(np.median(taken)) for taken in times)
        print(f"| {width:,} | {own:.1f} | {other:.1f} | {other / own:.2f} |", flush=True)


if __name__ == "__main__":
    main()
