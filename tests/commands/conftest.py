"""One finished run, which the commands that need one share and only read; ways to stop one."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from commands.tiny import archive, training
from data.marked import coco
from selftaught.cli import main
from selftaught.commands import job


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return archive(tmp_path_factory.mktemp("data") / "images.npz")


@pytest.fixture(scope="session")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "simclr"
    assert main(training("simclr", data, out)) == 0
    return out


@pytest.fixture(scope="session")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images whose class can be seen: how bright they are."""
    draw = np.random.default_rng(0)
    y = np.arange(60) % 3
    x = (60 + 60 * y[:, None, None] + draw.integers(0, 40, (60, 8, 8))).astype(np.uint8)
    place = tmp_path_factory.mktemp("few") / "images.npz"
    np.savez(place, x=x, y=y, x_test=x[:30], y_test=y[:30])
    return place


@pytest.fixture(scope="session")
def teacher(finished: Path, few: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `finetune` made of them."""
    out = tmp_path_factory.mktemp("teachers") / "out"
    words = ("finetune", finished, few, "--out", out, "--steps", 40, "--batch-size", 8)
    assert main([str(w) for w in (*words, "--labels", "8-per-class", "--json")]) == 0
    return out


@pytest.fixture(scope="session")
def canvases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images with boxes and masks, in COCO's format."""
    return coco(tmp_path_factory.mktemp("data") / "coco")


@pytest.fixture
def kill_after(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let the process send itself a signal right after a step."""
    fit = job.fit

    def arrange(number: int, which: int = signal.SIGTERM) -> None:
        def stopped(*arguments: Any, **options: Any) -> Iterator[Any]:
            for step in fit(*arguments, **options):
                if step.number == number:
                    monkeypatch.setattr(job, "fit", fit)
                    os.kill(os.getpid(), which)
                yield step

        monkeypatch.setattr(job, "fit", stopped)

    return arrange


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or leaves anything in the user's cache."""
    monkeypatch.setenv("SELFTAUGHT_CACHE", str(tmp_path / "cache"))
