"""Pre-train on Fashion-MNIST for a number of minutes and evaluate: one row a method and seed.

    SELFTAUGHT_DATA=... python benchmarks/fashion_mnist.py --out benchmarks/results/NAME.jsonl

Rows are appended to the file; those that are there already are not run again, so the script can be
stopped and goes on. Each row holds the command, the commit, the hardware and the versions.
Nothing else should run on the machine meanwhile. `--table` prints the file as Markdown.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rows import commit, spread

METHODS = {"simclr": (0, 1, 2), "byol": (0, 1, 2), "mae": (0, 1, 2)}
PROTOCOLS = ("knn/20", "knn/200", "logreg")


def measure(method: str, seed: int, minutes: float, data: Path) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        options = ["--minutes", f"{minutes:g}", "--seed", str(seed)]
        command = ["selftaught", "pretrain", method, str(data), "--out", str(out), *options]
        began = time.perf_counter()
        subprocess.run([str(Path(sys.executable).parent / command[0]), *command[1:]], check=True)
        run = json.loads((out / "run.json").read_text())
        records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    shown = ["$SELFTAUGHT_DATA/fashion-mnist" if c == str(data) else c for c in command]
    speed = statistics.median(r["samples_per_second"] for r in records)
    return {
        "method": method,
        "seed": seed,
        "command": " ".join("RUN" if c == str(out) else c for c in shown),
        "rows": run["evaluation"]["rows"],
        "steps": run["steps"],
        "batch_size": run["call"]["arguments"]["batch_size"],
        "encoder": run["call"]["arguments"]["encoder"],
        "samples_per_second": speed,
        "signals": run["signals"],
        "training_seconds": round(run["training_seconds"], 1),
        "seconds": round(time.perf_counter() - began, 1),
        "environment": run["environment"],
        "commit": commit(),
    }


def table(rows: list[dict]) -> str:
    """Mean and sd over seeds of each method, with its baselines."""
    lines = [
        "| method | encoder | seeds | features | knn/20 | knn/200 | logreg | samples/s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for method in dict.fromkeys(row["method"] for row in rows):
        mine = [row for row in rows if row["method"] == method]
        speed = statistics.mean(row["samples_per_second"] for row in mine)
        for features in ("encoder", "random", "pixels"):
            cells = [spread([r["rows"][features][p] for r in mine]) for p in PROTOCOLS]
            seeds = ", ".join(str(r["seed"]) for r in mine)
            name = mine[0]["encoder"] if features != "pixels" else ""
            lines.append(
                f"| {method} | {name} | {seeds} | {features} | {' | '.join(cells)} | "
                + (f"{speed:.0f} |" if features == "encoder" else "|")
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--seeds", default="")
    parser.add_argument("--table", action="store_true")
    asked = parser.parse_args()
    rows = (
        [json.loads(line) for line in asked.out.read_text().splitlines()]
        if asked.out.exists()
        else []
    )
    if not asked.table:
        data = Path(os.environ["SELFTAUGHT_DATA"]) / "fashion-mnist"
        seeds = [int(seed) for seed in asked.seeds.split(",") if seed]
        for method in asked.methods.split(","):
            for seed in seeds or METHODS[method]:
                if any(row["method"] == method and row["seed"] == seed for row in rows):
                    continue
                rows.append(measure(method, seed, asked.minutes, data))
                with asked.out.open("a") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
