"""Detection and segmentation from few labelled canvases, pre-trained beside from scratch.

    SELFTAUGHT_DATA=... python benchmarks/transfer_dense.py --out benchmarks/results/NAME.jsonl
    ... --run RUN                        the encoder of a run, instead of one that is trained first
    ... --tasks detection --seeds 0      some rows only
    ... --table                          prints the table of the rows that are there

The canvases are those of `canvases.py`; the encoder is a `simclr` run on the train part of
Fashion-MNIST. Each row is one command, `selftaught transfer TASK ... --images N`, and has both
networks: they see the same images in the same order for as many steps, at the learning rate that
was best from scratch. Rows are appended as they are measured and not measured again, so the script
can be stopped at any time.
"""

import argparse
import json
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import Any

import canvases
from rows import Rows, call, commit, fashion_mnist, spread

IMAGES = 240_000  # that the encoder is pre-trained on
BATCH = 256
SEEDS = (0, 1, 2)
TASKS = ("detection", "segmentation")
COUNTS = (50, 200)  # labelled canvases
STEPS = 300
TRAIN, VAL = 400, 200
SHOWN = {"detection": ("AP", "AP50"), "segmentation": ("mIoU",)}


def key(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["task"], row["images"], row["seed"], row["steps"]


def measure(task: str, count: int, seed: int, steps: int, run: Path, data: Path) -> dict[str, Any]:
    """One row: both networks' scores."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        options = ["--images", count, "--steps", steps, "--seed", seed]
        words = ("transfer", task, run, data, "--out", out, *options)
        command = call(*words, run=run, canvases=data, out=out)
        found = json.loads((out / "transfer.json").read_text())
        environment = json.loads((out / "pre-trained" / "run.json").read_text())["environment"]
    card = json.loads((run / "encoder.json").read_text())
    return {
        "task": task,
        "images": count,
        "seed": seed,
        "steps": steps,
        "command": command,
        "encoder": {name: card[name] for name in ("recipe", "arguments", "seed", "steps")},
        "rows": found["rows"],
        "test": found["test"],
        "arguments": {k: v for k, v in found["call"]["arguments"].items() if k != "run"},
        "seconds": round(time.perf_counter() - began, 1),
        "environment": environment,
        "commit": commit(),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Mean and sd over seeds."""
    lines = ["| task | canvases | seeds | score | pre-trained | from scratch |", "|" + "---|" * 6]
    for task, count in product(TASKS, sorted({row["images"] for row in rows})):
        mine = [row for row in rows if (row["task"], row["images"]) == (task, count)]
        for score in SHOWN[task] if mine else ():
            seeds = ", ".join(str(row["seed"]) for row in mine)
            cells = [
                spread([row["rows"][name][score] for row in mine])
                for name in ("pre-trained", "from scratch")
            ]
            lines.append(f"| {task} | {count} | {seeds} | {score} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--run", type=Path, help="a finished run; without it one beside --out")
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)))
    parser.add_argument("--counts", default=",".join(map(str, COUNTS)))
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--table", action="store_true", help="measure nothing")
    asked = parser.parse_args()
    counts, seeds = ([int(n) for n in given.split(",")] for given in (asked.counts, asked.seeds))
    wanted = [] if asked.table else list(product(seeds, asked.tasks.split(","), counts))
    rows = Rows(asked.out)
    done = {key(row) for row in rows.all()}
    missing = [w for w in wanted if (w[1], w[2], w[0], asked.steps) not in done]
    if missing:
        data = fashion_mnist()
        run = asked.run or asked.out.with_suffix(".run")
        if not (run / "encoder.json").exists():
            steps = ["--steps", IMAGES // BATCH, "--evaluate", "off"]
            again = ["--resume"] if (run / "run.json").exists() else []
            call("pretrain", "simclr", data, "--out", run, *steps, *again)
        with tempfile.TemporaryDirectory() as folder:
            parts = canvases.fashion(data, TRAIN, VAL)
            place = canvases.write(Path(folder) / "canvases", parts, canvases.CLASSES)
            for seed, task, count in missing:
                rows.add(measure(task, count, seed, asked.steps, run, place))
    print(table(rows.all()))


if __name__ == "__main__":
    main()
