"""Every image recipe at one budget on Fashion-MNIST: one row a method and seed, then one table.

    SELFTAUGHT_DATA=... python benchmarks/image_methods.py --out benchmarks/results/NAME.jsonl
    ... --methods swav,dino --seeds 0          some rows only
    ... --table                                prints the table of the rows that are there

Each row is a command, `selftaught pretrain METHOD ... --steps N`, where N batches of the recipe's
size are the stated number of images, and what it led to. Rows are appended as they are measured and
measured again only where the recipe's defaults have changed, so the script can be stopped at any
time. Random encoders and raw pixels are
rows of their own, one for each encoder and seed. Speed and memory mean something only where nothing
else runs: with `--shared` they are left out.
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
from typing import Any

from fashion_mnist import commit, spread

from selftaught import evaluate, pretrained
from selftaught.recipes import RECIPES, find
from selftaught.recipes.parameters import parameters

IMAGES = 240_000
SEEDS = (0, 1, 2)
SHOWN = ("knn/20", "logreg")


class Rows:
    """The rows of a file; those that are there are not measured again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        text = path.read_text() if path.exists() else ""
        self.all: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]

    def find(self, kind: str, name: str, seed: int) -> dict[str, Any] | None:
        """The newest row of that kind, name and seed; of methods, with the defaults of now."""
        key = (kind, name, seed)
        found = [r for r in self.all if (r["kind"], r["name"], r["seed"]) == key]
        if kind == "method":
            found = [r for r in found if r["arguments"] == defaults(name)]
        return found[-1] if found else None

    def add(self, row: dict[str, Any]) -> None:
        """Append a row to the file."""
        self.all.append(row)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")


def defaults(method: str) -> dict[str, Any]:
    return {p.name: p.default for p in parameters(find(method)).values()}


def measure(rows: Rows, method: str, seed: int, data: Path, shared: bool) -> None:
    steps = IMAGES // defaults(method)["batch_size"]
    options = ["--steps", str(steps), "--seed", str(seed), "--evaluate", "off"]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = ["selftaught", "pretrain", method, str(data), "--out", str(out), *options]
        began = time.perf_counter()
        peak = run([str(Path(sys.executable).parent / command[0]), *command[1:]])
        seconds = time.perf_counter() - began
        done = json.loads((out / "run.json").read_text())
        records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        scores = baselines(rows, out, seed, data)
    shown = {str(data): "$SELFTAUGHT_DATA/fashion-mnist", str(out): "RUN"}
    rows.add(
        {
            "kind": "method",
            "name": method,
            "seed": seed,
            "command": " ".join(shown.get(word, word) for word in command),
            "scores": scores,
            "encoder": done["call"]["arguments"]["encoder"],
            "arguments": done["call"]["arguments"],
            "steps": done["steps"],
            "samples_per_second": None
            if shared
            else statistics.median(r["samples_per_second"] for r in records),
            "peak_megabytes": None if shared else round(peak / 1024),
            "seconds": round(seconds, 1),
            "signals": done["signals"],
            "verdict": done["verdict"],
            "environment": done["environment"],
            "commit": commit(),
        }
    )


def run(command: list[str]) -> int:
    """Run to the end; the most memory it held, in kilobytes."""
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
    return usage.ru_maxrss


def baselines(rows: Rows, out: Path, seed: int, data: Path) -> dict[str, float]:
    """Evaluate the run, and its baselines where no row has them; the run's own scores."""
    card = pretrained.read_card(out)
    encoder = card["arguments"]["encoder"]
    wanted = ["encoder"]
    wanted += ["random"] if rows.find("random", encoder, seed) is None else []
    wanted += ["pixels"] if rows.find("pixels", "", 0) is None else []
    found = evaluate(out, data, rows=wanted)["rows"]
    for kind, name, number in (("random", encoder, seed), ("pixels", "", 0)):
        if kind in found:
            row = {"kind": kind, "name": name, "seed": number, "scores": found[kind]}
            rows.add(row | {"commit": commit()})
    return found["encoder"]


def table(rows: Rows) -> str:
    """Mean and sd over seeds of each method, its random encoder below, raw pixels last."""
    head = "| method | encoder | seeds | knn/20 | logreg | random: knn/20 | random: logreg | "
    lines = [head + "samples/s | MB | verdict |", "|---|---|---|---|---|---|---|---|---|---|"]
    for name in RECIPES:
        mine = [r for seed in SEEDS if (r := rows.find("method", name, seed))]
        if not mine:
            continue
        random = [rows.find("random", r["encoder"], r["seed"]) for r in mine]
        cells = [spread([r["scores"][p] for r in mine]) for p in SHOWN]
        cells += [spread([r["scores"][p] for r in random if r]) for p in SHOWN]
        speeds = [r["samples_per_second"] for r in mine if r["samples_per_second"]]
        cells.append(f"{statistics.mean(speeds):.0f}" if speeds else "")
        cells.append(str(max((r["peak_megabytes"] or 0 for r in mine), default=0) or ""))
        cells.append(", ".join(dict.fromkeys(r["verdict"]["word"] for r in mine)))
        seeds = ", ".join(str(r["seed"]) for r in mine)
        lines.append(f"| {name} | {mine[0]['encoder']} | {seeds} | {' | '.join(cells)} |")
    pixels = rows.find("pixels", "", 0)
    if pixels:
        scores = " | ".join(f"{pixels['scores'][p]:.2f}" for p in SHOWN)
        lines.append(f"| raw pixels | | | {scores} | | | | | |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--methods", default=",".join(RECIPES))
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)))
    parser.add_argument("--shared", action="store_true", help="other programs run beside it")
    parser.add_argument("--table", action="store_true")
    asked = parser.parse_args()
    rows = Rows(asked.out)
    if not asked.table:
        data = Path(os.environ["SELFTAUGHT_DATA"]) / "fashion-mnist"
        for seed in map(int, asked.seeds.split(",")):
            for method in asked.methods.split(","):
                if rows.find("method", method, seed) is None:
                    measure(rows, method, seed, data, asked.shared)
    print(table(rows))


if __name__ == "__main__":
    main()
