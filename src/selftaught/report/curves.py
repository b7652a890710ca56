"""The picture of a run."""

from pathlib import Path
from typing import Any


def draw(records: list[dict[str, Any]], path: Path, title: str) -> None:
    """Draw terms, learning rate, speed and label-free signals over the steps as a PNG."""
    from matplotlib.figure import Figure

    steps = [r["step"] for r in records]
    figure = Figure(figsize=(10, 6), layout="constrained")
    figure.suptitle(title, parse_math=False)
    (loss, rank), (rate, speed) = figure.subplots(2, 2)
    for name in records[-1]["terms"]:
        loss.plot(steps, [r["terms"][name] for r in records], label=name, linewidth=1)
    loss.set(title="terms of the objective", xlabel="step")
    loss.legend(frameon=False)

    probed = [r for r in records if r.get("signals")]
    at = [r["step"] for r in probed]
    rank.plot(at, [r["signals"]["effective_rank"] for r in probed], "o-", markersize=3)
    rank.set(title="label-free signals", xlabel="step", ylabel="effective rank")
    spread = rank.twinx()
    spread.plot(at, [r["signals"]["feature_std"] for r in probed], "s--", color="C1", markersize=3)
    spread.set(ylabel="feature std", ylim=(0, None))
    rank.yaxis.label.set_color("C0")
    spread.yaxis.label.set_color("C1")

    rate.plot(steps, [r["lr"] for r in records])
    rate.set(title="learning rate", xlabel="step")
    speed.plot(steps, [r["samples_per_second"] for r in records], linewidth=1)
    speed.set(title="samples per second", xlabel="step", ylim=(0, None))
    figure.savefig(path, dpi=100)
