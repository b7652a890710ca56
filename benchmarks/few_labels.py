"""What pre-training is worth with few labels on Fashion-MNIST: one row a number of labels and seed.

    SELFTAUGHT_DATA=... python benchmarks/few_labels.py --out NAME.jsonl --runs DIR
    ... --steps        SimCLR v2's three steps instead: pre-train, fine-tune on 1 %, distil
    ... --images N     so many images seen without labels; into another file and folder
    ... --at-once N    so many seeds at once, each in a process of its own
    ... --table        prints the tables of the rows that are there

Encoders are simclr's or simclr_v2's, one a seed, without --images those of the image methods'
table; they stay in DIR, where another call finds them, and runs that image_methods.py --runs kept
count as well. The script can be stopped at any time and goes on where it was.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from rows import Rows, call, commit, fashion_mnist, shown, spread, workers

from selftaught.commands.settings import device_of, environment

IMAGES, BATCH = 240_000, 256  # of pre-training
SEEDS = (0, 1, 2)
LABELS = (100, 600, 6000)
STUDENT = "resnet-pico"
CLASSIFIERS = ("fine-tuned", "from scratch", "logreg", "logreg on pixels")


def finished(run: Path) -> bool:
    return (run / "encoder.safetensors").exists()


def pretrained(method: str, seed: int, images: int, runs: Path) -> tuple[Path, str]:
    """A run without labels, and its command."""
    run = runs / f"{method}-{seed}"
    options = ("--steps", images // BATCH, "--seed", seed, "--evaluate", "off")
    words = ("pretrain", method, fashion_mnist(), "--out", run, *options)
    if finished(run):
        return run, shown(words, run=run)
    return run, call(*words, *(["--resume"] if run.exists() else []), run=run)


def measure(rows: Rows, seed: int, images: int, runs: Path, *, three: bool) -> None:
    """All rows of a seed that are not there yet; ``three`` steps, or few labels."""
    if three:
        if not rows.all(kind="steps", seed=seed):
            steps(rows, seed, images, runs)
        return
    for count in LABELS:
        if not rows.all(kind="labels", seed=seed, labels=count):
            with_labels(rows, count, seed, images, runs)


def with_labels(rows: Rows, count: int, seed: int, images: int, runs: Path) -> None:
    run, first = pretrained("simclr", seed, images, runs)
    out = runs / f"few-{count}-{seed}"
    command = tune(run, out, f"{count // 10}-per-class", seed)
    add(rows, "labels", seed, [first, command], labels=count, **result(out, "finetune"))


def steps(rows: Rows, seed: int, images: int, runs: Path) -> None:
    """SimCLR v2: pre-train, fine-tune on 1 %, distil."""
    run, first = pretrained("simclr_v2", seed, images, runs)
    few, small = runs / f"one-percent-{seed}", runs / f"student-{seed}"
    second = tune(run, few, "1%", seed)
    words = ("distill", few, fashion_mnist(), "--student", STUDENT, "--out", small, "--seed", seed)
    third = call(*words, *(["--resume"] if small.exists() else []), few=few, small=small)
    student = result(small, "distill")
    found = result(few, "finetune")
    found["scores"]["student"] = student["scores"]["student"]
    add(rows, "steps", seed, [first, second, third], **found, parameters=student["parameters"])


def tune(run: Path, out: Path, labels: str, seed: int, *more: object) -> str:
    words = ("finetune", run, fashion_mnist(), "--labels", labels, "--out", out, "--seed", seed)
    return call(*words, *more, *(["--resume"] if out.exists() else []), run=run, few=out)


def result(out: Path, name: str) -> dict[str, Any]:
    found = json.loads((out / f"{name}.json").read_text())
    kept = {key: found[key] for key in ("parameters",) if key in found}
    settings = {k: v for k, v in found["call"]["arguments"].items() if k != "run"}
    return {"scores": found["rows"], "intervals": found["intervals"], "arguments": settings} | kept


def add(rows: Rows, kind: str, seed: int, commands: list[str], **more: Any) -> None:
    machine = environment(device_of("auto"))
    row = {"kind": kind, "seed": seed, "commands": commands}
    rows.add(row | more | {"environment": machine, "commit": commit()})


def tables(rows: Rows) -> str:
    lines = ["| labels | seeds | " + " | ".join(CLASSIFIERS) + " |", "|---" * 6 + "|"]
    for count in LABELS:
        mine = rows.all(kind="labels", labels=count)
        if mine:
            cells = [spread([r["scores"][name] for r in mine]) for name in CLASSIFIERS]
            seeds = ", ".join(str(r["seed"]) for r in mine)
            lines.append(f"| {count:,} | {seeds} | {' | '.join(cells)} |")
    mine = rows.all(kind="steps")
    if mine:
        lines += ["", "| 600 labels | parameters | accuracy |", "|---|---|---|"]
        for name in (*CLASSIFIERS, "student"):
            size = mine[0]["parameters"].get({"fine-tuned": "teacher"}.get(name, name))
            shown = f"{size / 1e6:.2f} M" if size else ""
            lines.append(f"| {name} | {shown} | {spread([r['scores'][name] for r in mine])} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--runs", type=Path, help="folder of the runs, kept")
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)))
    parser.add_argument("--steps", action="store_true", help="SimCLR v2's three steps")
    parser.add_argument("--images", type=int, default=IMAGES, help="seen without labels")
    parser.add_argument("--at-once", type=int, default=1, help="seeds at once")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    asked = parser.parse_args()
    rows = Rows(asked.out)
    if not asked.table:
        asked.runs.mkdir(parents=True, exist_ok=True)
        with workers(asked.at_once) as pool:
            seeds = map(int, asked.seeds.split(","))
            given = (asked.images, asked.runs)
            found = [pool.submit(measure, rows, s, *given, three=asked.steps) for s in seeds]
            for of_seed in found:
                of_seed.result()
    print(tables(rows))


if __name__ == "__main__":
    main()
