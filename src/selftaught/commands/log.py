"""What a run logs of its steps."""

from typing import Any

from selftaught.train import Step


class Log:
    """Turns steps into records; speed and waiting are those since the last record."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self.samples, self.seconds, self.waiting = 0, 0.0, 0.0

    def add(self, step: Step) -> None:
        """Count a step in."""
        self.samples += step.samples
        self.seconds += step.seconds
        self.waiting += step.waiting

    def record(self, step: Step, signals: dict[str, Any] | None) -> dict[str, Any]:
        """What ``metrics.jsonl`` says of the steps since the last record."""
        record = {
            "step": step.number,
            "samples_per_second": float(f"{self.samples / self.seconds:.4g}"),
            "waiting": round(self.waiting / self.seconds, 4),
            "lr": step.lr,
            "terms": {name: term.item() for name, term in step.terms.items()},
            "batch_size": self.batch_size,
        }
        if step.watched:
            record["watched"] = {name: value.item() for name, value in step.watched.items()}
        self.__init__(self.batch_size)
        return record if signals is None else record | {"signals": signals}
