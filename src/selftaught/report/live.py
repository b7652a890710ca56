"""The line that shows whether a run is learning."""

import time
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

PLAIN_EVERY = 10.0  # seconds between lines where there is no terminal


class Progress:
    """One live line in a terminal, plain lines elsewhere. A context manager."""

    def __init__(self, steps: int, console: Console) -> None:
        self.steps = steps
        self.console = console
        self._live = Live(console=console, refresh_per_second=4, transient=False)
        self._shown = float("-inf")

    def __enter__(self) -> "Progress":
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.console.is_terminal:
            self._live.stop()

    def show(self, record: dict[str, Any], signals: dict[str, Any] | None) -> None:
        """Show a record of ``metrics.jsonl`` and the newest label-free signals."""
        line = describe(record, signals, self.steps)
        if self.console.is_terminal:
            self._live.update(Text(line))
            return
        now = time.monotonic()
        if now - self._shown >= PLAIN_EVERY or record["step"] == self.steps:
            self._shown = now
            self.console.print(line, soft_wrap=True)


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
    if signals:
        rank, dim = signals["effective_rank"], signals["dim"]
        shown = "?" if rank is None else f"{rank:.1f}"
        line += f"  {record['verdict']}" if "verdict" in record else ""
        line += f"  effective rank {shown}/{dim}  feature std {signals['feature_std']:.2f}"
    return line


def clock(seconds: float) -> str:
    """A duration as 4:05 or 1:04:05."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
