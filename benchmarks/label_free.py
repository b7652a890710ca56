"""Can label-free signals choose a run? A grid of one method on Fashion-MNIST, and what they say.

    SELFTAUGHT_DATA=... python benchmarks/label_free.py --method simclr --out NAME.jsonl
    ... --rows 2                           so many rows more, and then the table
    ... --at-once N                        so many rows at once, each in a process of its own
    ... --table                            prints the table of the rows that are there

Each row is a run of `selftaught pretrain` that sees the stated number of images, at one learning
rate, temperature (or the method's own dial) and strength of augmentation; `evaluate --label-free`
of it; and `logreg` on the whole training part, scored on the test part. Signals are taken on the
training part, without labels. Rows are appended as they are measured: the script can be stopped at
any time. Rows of another budget do not count.

For each signal the table has the rank correlation (Spearman) with `logreg` over the grid and its
95 % bootstrap interval over runs; and the regret, the accuracy lost by taking the run that the
signal likes best, against the grid's best run and gained against its mean. Which end of a signal is
the better one was fixed before anything was measured (`BETTER`); only alpha's distance from 1,
which its authors call best, was added later.
"""

import argparse
import itertools
import json
import random
import sys
import tempfile
import time
from concurrent.futures import as_completed
from pathlib import Path
from typing import Any

import numpy as np
from rows import Rows, commit, fashion_mnist, workers
from scipy.stats import spearmanr

from selftaught import evaluate, label_free, pretrain
from selftaught.errors import UserError

IMAGES, BATCH = 30_000, 256
LOOKS = {  # strengths of augmentation
    "weak": {"smallest_crop": 0.5, "jitter": 0.2},
    "usual": {"smallest_crop": 0.15, "jitter": 0.8},
    "strong": {"smallest_crop": 0.03, "jitter": 1.0},
}
DIALS: dict[str, dict[str, tuple[float, ...]]] = {
    "simclr": {"lr": (1e-4, 5e-4, 2e-3, 8e-3), "temperature": (0.05, 0.2, 1.0)},
    "vicreg": {"lr": (1e-4, 5e-4, 2e-3, 8e-3), "covariance_weight": (0.0, 1.0, 10.0)},
    "byol": {"lr": (1e-4, 5e-4, 2e-3, 8e-3), "momentum": (0.9, 0.98, 0.996)},
}
FROM_ONE = "alpha from 1"
BETTER = {  # 1: the more, the better; as the signals' papers have it
    "rankme": 1,
    "effective_rank": 1,
    "centred_rank": 1,
    "stable_rank": 1,
    "nesum": 1,
    "alpha": -1,
    FROM_ONE: -1,
    "feature_std": 1,
    "mean_cosine": -1,
    "uniformity": -1,
    "alignment": -1,
    "lidar": 1,
    "loss": -1,
    "loss held out": -1,
}
DRAWS = 2000  # of the bootstrap


def grid(method: str) -> list[dict[str, Any]]:
    """The settings of each run, in an order that has some of everything early."""
    names, values = zip(*DIALS[method].items(), strict=True)
    dials = [dict(zip(names, v, strict=True)) for v in itertools.product(*values)]
    cells = [{**dial, **look} for dial in dials for look in LOOKS.values()]
    random.Random(0).shuffle(cells)
    return cells


def measure(
    method: str, cell: dict[str, Any], data: Path, seed: int, *, first: bool
) -> dict[str, Any]:
    """One run, its signals and its accuracy; a run that stops early has none of either.

    The ``first`` one also has those of its random encoder, which all runs of a seed begin with.
    """
    given = cell | {"steps": IMAGES // BATCH, "batch_size": BATCH, "seed": seed, "evaluate": "off"}
    options = [w for k, v in given.items() for w in (f"--{k.replace('_', '-')}", str(v))]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = ["selftaught", "pretrain", method, str(data), "--out", str(out), *options]
        began, finished = time.perf_counter(), True
        try:
            pretrain(method, data, out=out, quiet=True, **given)
        except UserError as error:
            print(error, file=sys.stderr)
            finished = False
        trained = time.perf_counter() - began
        description = json.loads((out / "run.json").read_text())
        shown = {str(data): "$SELFTAUGHT_DATA/fashion-mnist", str(out): "RUN"}
        row = {
            "method": method,
            "cell": cell,
            "seed": seed,
            "images": IMAGES,
            "command": " ".join(shown.get(word, word) for word in command),
            "verdict": description["verdict"],
            "environment": description["environment"],
            "commit": commit(),
        }
        if finished:
            row |= judged(out, data, description, first)
    seconds = {"train": round(trained, 1), "all": round(time.perf_counter() - began, 1)}
    return row | {"seconds": seconds}


def judged(out: Path, data: Path, description: dict[str, Any], first: bool) -> dict[str, Any]:
    """Signals and accuracy of a finished run; of its random encoder too if it is the ``first``."""
    found = label_free(out, data)["rows"]
    pretext = description["signals"]["pretext"]
    losses = {"loss": "trained", "loss held out": "held_out"}
    found["encoder"] |= {n: sum(pretext[of].values()) for n, of in losses.items() if of in pretext}
    which = ("encoder", "random") if first else ("encoder",)
    scores = evaluate(out, data, protocols=("logreg",), rows=which)["rows"]
    row = {"signals": found["encoder"], "logreg": scores["encoder"]["logreg"]}
    if first:
        row |= {"random signals": found["random"], "random logreg": scores["random"]["logreg"]}
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """The finished runs of one method, signal by signal."""
    done = [row for row in rows if "logreg" in row]
    if len(done) < 3:
        return f"{len(done)} finished runs; a correlation needs 3"
    accuracy = np.array([row["logreg"] for row in done])
    by_chance = next(row["random logreg"] for row in done if "random logreg" in row)
    verdicts = [row["verdict"]["word"] for row in rows]
    counts = ", ".join(f"{w} {verdicts.count(w)}" for w in dict.fromkeys(verdicts))
    name = done[0]["method"]
    lines = [
        f"{name}: {len(done)} of {len(rows)} runs finished; logreg {accuracy.max():.2f} best, "
        f"{accuracy.mean():.2f} mean, {accuracy.min():.2f} worst, {by_chance:.2f} random encoder. "
        f"Verdicts: {counts}.",
        "",
        "| signal | better | Spearman with logreg | 95 % | chosen run | lost to the best | "
        "won over the mean |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, sign in BETTER.items():
        values = np.array([value(row["signals"], name) for row in done], dtype=float) * sign
        known = np.isfinite(values)
        if known.sum() < 3:
            continue
        rho, (low, high) = correlation(values[known], accuracy[known])
        chosen = accuracy[known][values[known].argmax()]
        lines.append(
            f"| {name} | {'more' if sign > 0 else 'less'} | {rho:+.2f} | {low:+.2f} to {high:+.2f} "
            f"| {chosen:.2f} | {accuracy.max() - chosen:.2f} | {chosen - accuracy.mean():+.2f} |"
        )
    return "\n".join(lines)


def value(signals: dict[str, float | None], name: str) -> float | None:
    alpha = signals.get("alpha")
    if name == FROM_ONE:
        return None if alpha is None else abs(alpha - 1)
    return signals.get(name)


def correlation(x: np.ndarray, y: np.ndarray) -> tuple[float, tuple[float, float]]:
    """Spearman's, and its interval over runs drawn again; draws of one value are left out."""
    draw, found = np.random.default_rng(0), []
    for _ in range(DRAWS):
        index = draw.integers(0, len(x), len(x))
        if len(set(x[index])) > 1 and len(set(y[index])) > 1:
            found.append(spearmanr(x[index], y[index]).statistic)
    low, high = np.percentile(found, [2.5, 97.5])
    return float(spearmanr(x, y).statistic), (float(low), float(high))


def read(rows: Rows, method: str, seed: int) -> list[dict[str, Any]]:
    """The rows of this method, seed and budget; of a cell that was measured twice, the last."""
    known = rows.all(method=method, seed=seed, images=IMAGES)
    found = {json.dumps(row["cell"]): row for row in known}
    cells = [json.dumps(cell) for cell in grid(method)]
    return [found[cell] for cell in cells if cell in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--method", choices=DIALS, default="simclr")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=int, default=10**6, help="measure at most so many more")
    parser.add_argument("--at-once", type=int, default=1, help="rows at once")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    asked = parser.parse_args()
    rows = Rows(asked.out)
    known = [row["cell"] for row in read(rows, asked.method, asked.seed)]
    missing = [cell for cell in grid(asked.method) if cell not in known]
    begun = any("random logreg" in row for row in read(rows, asked.method, asked.seed))
    with workers(asked.at_once) as pool:
        found = [
            pool.submit(
                measure,
                asked.method,
                cell,
                fashion_mnist(),
                asked.seed,
                first=not begun and place == 0,
            )
            for place, cell in enumerate([] if asked.table else missing[: asked.rows])
        ]
        for row in as_completed(found):
            rows.add(row.result())
    print(table(read(rows, asked.method, asked.seed)))


if __name__ == "__main__":
    main()
