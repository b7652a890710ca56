"""What it costs and gains that threads which wait for each other soon sleep, on a processor.

    SELFTAUGHT_DATA=... python benchmarks/beside.py
    ... --beside    only beside another program

Each round runs the command as it is and with GNU OpenMP's own patience, in turn, first alone and
then beside a program that keeps one core busy, in a session of its own as one of another terminal
is (Linux gives sessions equal shares); samples/s are of a run's last step.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from rows import fashion_mnist

ROUNDS = 3
PATIENCE = {"ours": {}, "OpenMP's": {"GOMP_SPINCOUNT": "300000"}}
STEPS = {False: {"digits": 60, "fashion-mnist": 16}, True: {"digits": 8}}  # beside: it takes long
SPEED = re.compile(r"([\d,]+) samples/s  waiting")


def samples_per_second(data: str, steps: int, environment: dict[str, str]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        words = ["pretrain", "simclr", data, "--out", f"{folder}/run", "--steps", str(steps)]
        said = subprocess.run(
            [sys.executable, "-m", "selftaught", *words, "--evaluate", "off"],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=True,
        )
    return float(SPEED.findall(said.stdout + said.stderr)[-1].replace(",", ""))


@contextmanager
def another_program(busy: bool) -> Iterator[None]:
    words = [sys.executable, "-c", "while True: pass"]
    other = subprocess.Popen(words, start_new_session=True) if busy else None
    try:
        yield
    finally:
        if other is not None:
            other.kill()
            other.wait()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--beside", action="store_true")
    only = parser.parse_args().beside
    places = {"digits": "digits", "fashion-mnist": str(fashion_mnist())}
    for busy in (True,) if only else (False, True):
        print("beside a busy program" if busy else "alone")
        for name, steps in STEPS[busy].items():
            found: dict[str, list[float]] = {waits: [] for waits in PATIENCE}
            with another_program(busy):
                for _ in range(ROUNDS):
                    for waits, environment in PATIENCE.items():
                        speed = samples_per_second(places[name], steps, environment)
                        found[waits].append(speed)
            shown = (
                f"{waits} {statistics.mean(s):6.0f} ± {statistics.stdev(s):.0f}"
                for waits, s in found.items()
            )
            print(f"  {name:14}", *shown, flush=True)


if __name__ == "__main__":
    main()
