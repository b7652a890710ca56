"""What the benchmarks share: rows in a file, the commands behind them, spreads."""

import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from selftaught.allocator import keep_freed_memory


class Rows:
    """The rows of a file, into which others may write too."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def all(self, **wanted: Any) -> list[dict[str, Any]]:
        """Those with such values, as the file is now."""
        text = self.path.read_text() if self.path.exists() else ""
        rows = [json.loads(line) for line in text.splitlines()]
        return [r for r in rows if all(r.get(key) == value for key, value in wanted.items())]

    def add(self, row: dict[str, Any]) -> None:
        """Append a row to the file."""
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")


def fashion_mnist() -> Path:
    return Path(os.environ.get("SELFTAUGHT_DATA", ".")) / "fashion-mnist"


def call(*words: object, **named: Path) -> str:
    """Run a command of selftaught; the command as it is shown, paths by their names.

    Raises RuntimeError where it fails.
    """
    command = [str(word) for word in words]
    program = str(Path(sys.executable).parent / "selftaught")
    done = subprocess.run([program, *command], stdout=subprocess.DEVNULL)
    if done.returncode:
        raise RuntimeError(f"selftaught {' '.join(command)} ended with {done.returncode}")
    return shown(words, **named)


def shown(words: Iterable[object], **named: Path) -> str:
    """A command of selftaught, paths by their names."""
    names = {str(path): name.upper() for name, path in named.items()}
    names[str(fashion_mnist())] = "$SELFTAUGHT_DATA/fashion-mnist"
    return " ".join(["selftaught", *(names.get(str(word), str(word)) for word in words)])


def commit() -> str:
    git = ["git", "-C", str(Path(__file__).parent)]
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    dirty = subprocess.run(
        [*git, "status", "--porcelain", "--", "../src"], capture_output=True, text=True
    )
    return head.stdout.strip() + ("+changes" if dirty.stdout.strip() else "")


def spread(values: list[float]) -> str:
    """Their mean, and their standard deviation where there are several."""
    sd = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{sd}"


def workers(count: int) -> ProcessPoolExecutor:
    """Processes that measure rows, so many at once, and end when the script is stopped."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(count, context, initializer=_begin, initargs=(os.getpid(),))


def _begin(parent: int) -> None:
    """Keep memory as the commands do, and see to it that no process outlives its parent."""
    keep_freed_memory()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
