"""The line that shows whether a run is learning, or how far a long command has come."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from rich.console import Console
from rich.live import Live
from rich.text import Text

T = TypeVar("T")
#: Is told what is being done, how much of it is done and how much there is (0: nobody knows).
Tell = Callable[[str, int, int], None]

PLAIN_EVERY = 10.0  # seconds between lines where there is no terminal


class Line:
    """One live line in a terminal, plain lines elsewhere. A context manager.

    One that does not ``stay`` is gone at the end.
    """

    def __init__(self, console: Console, *, stay: bool = True) -> None:
        self.console = console
        self._live = Live(console=console, refresh_per_second=4, transient=not stay)
        self._shown = float("-inf")

    def __enter__(self) -> Any:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.console.is_terminal:
            self._live.stop()

    def say(self, line: str, *, anyway: bool = False) -> None:
        """Show it; where there is no terminal only now and then, unless ``anyway``."""
        if self.console.is_terminal:
            self._live.update(Text(line))
            return
        now = time.monotonic()
        if now - self._shown >= PLAIN_EVERY or anyway:
            self._shown = now
            self.console.print(line, soft_wrap=True)


class Progress(Line):
    """Of a run."""

    def __init__(self, steps: int, console: Console) -> None:
        super().__init__(console)
        self.steps = steps

    def show(self, record: dict[str, Any], signals: dict[str, Any] | None) -> None:
        """Show a record of ``metrics.jsonl`` and the newest label-free signals."""
        self.say(describe(record, signals, self.steps), anyway=record["step"] == self.steps)


class Doing(Line):
    """What a command is at: a `Tell`. Where there is no terminal, it is silent for a while."""

    def __init__(self, console: Console) -> None:
        super().__init__(console, stay=False)
        self._shown = time.monotonic()
        self._what, self._done, self._began = "", 0, 0.0

    def __call__(self, what: str, done: int, whole: int) -> None:
        """Show what is being done, how far, and how long the rest of it will take."""
        now = time.monotonic()
        if what != self._what or done < self._done:
            self._what, self._began = what, now
        self._done = done
        if not whole:
            self.say(f"{what} ...")
            return
        left = f"  {clock((now - self._began) / done * (whole - done))} left" if done else ""
        self.say(f"{what} {done:,}/{whole:,}{left}")


def silent(what: str, done: int, whole: int) -> None:
    """A `Tell` that says nothing."""


def counted(items: Iterable[T], tell: Tell, what: str, whole: int, *, each: int = 1) -> Iterator[T]:
    """The items, of which one counts as ``each`` of a ``whole``."""
    for number, item in enumerate(items):
        tell(what, min(number * each, whole), whole)
        yield item
    tell(what, whole, whole)


def named(tell: Tell, name: str) -> Tell:
    """A `Tell` that says of what it is."""
    return lambda what, done, whole: tell(f"{name}: {what}", done, whole)


def describe(record: dict[str, Any], signals: dict[str, Any] | None, steps: int) -> str:
    """A record as one line."""
    speed = record["samples_per_second"]
    left = (steps - record["step"]) * record["batch_size"] / speed
    numbers = record["terms"] | record.get("watched", {})
    terms = "  ".join(f"{name} {value:.4f}" for name, value in numbers.items())
    line = (
        f"step {record['step']}/{steps}  {clock(left)} left  {speed:.0f} samples/s  "
        f"waiting {100 * record['waiting']:.0f}%  {terms}  lr {record['lr']:.2e}"
    )
    line += f"  {record['verdict']}" if "verdict" in record else ""
    if signals:
        rank, dim = signals["effective_rank"], signals["dim"]
        line += f"  effective rank {rank:.1f}/{dim}" if rank is not None else ""  # too few images
        line += f"  feature std {signals['feature_std']:.2f}"
    return line


def clock(seconds: float) -> str:
    """A duration as 4:05 or 1:04:05."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
