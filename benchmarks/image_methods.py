"""Every image recipe at one budget on Fashion-MNIST: one row a method and seed, then one table.

    SELFTAUGHT_DATA=... python benchmarks/image_methods.py --out benchmarks/results/NAME.jsonl
    ... --methods swav,dino --seeds 0          some rows only
    ... --colour DIR --methods colorization    on a folder of coloured images, classes in folders
    ... --runs DIR                             keeps the runs there
    ... --at-once N                            so many rows at once, each in a process of its own
    ... --speed                                samples/s and memory, where nothing else runs
    ... --baselines                            random encoders that rows of methods lack
    ... --table                                prints the table of the rows that are there
    ... --into README.md ...                   puts it into documents, below the line MARK

Each row is a command, `selftaught pretrain METHOD ... --steps N`, where N batches of the recipe's
size are the stated number of images, and what it led to. Random encoders and raw pixels are rows of
their own, one for each encoder and seed; so are speed and memory, of a few steps on all cores. Rows
are appended as they are measured and measured again only where the recipe's defaults have changed:
the script can be stopped at any time, and run several times at once on different methods. A row
that fails does not stop the others.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from itertools import product
from pathlib import Path
from typing import Any

import torch
from rows import Rows, commit, fashion_mnist, spread, workers

from selftaught import evaluate, pretrain, pretrained
from selftaught.recipes import RECIPES, find
from selftaught.recipes.parameters import parameters

IMAGES = 240_000
SEEDS = (0, 1, 2)
SPEED_STEPS = 20
SPEED = """
from selftaught.cli import main
from selftaught.commands.job import Job
Job.probes = 2  # label-free signals are not timed; at each of so few steps they would take longest
raise SystemExit(main())
"""
NEED_COLOUR = ("colorization",)  # which Fashion-MNIST does not have
SIDE = 32  # pixels of coloured images, near Fashion-MNIST's 28
# Encoders of a common name that are built, begun or used in a way of their own.
OTHERWISE = ("cpc", "vqvae", "mae", "simmim", "beit", "data2vec", "ijepa")
FIRST = {"beit": ("tokenizer", "vqvae")}  # the option that names a run of another method
SHOWN = ("knn/20", "logreg")
MARK = "<!-- the table of benchmarks/image_methods.py -->"


def newest(rows: Rows, kind: str, name: str, seed: int) -> dict[str, Any] | None:
    """The newest row of that kind, name and seed; of methods, with the defaults of now.

    A setting that the row does not have is younger than it, and its default what there was before.
    """
    found = rows.all(kind=kind, name=name, seed=seed)
    if kind in ("method", "speed"):
        now = own(name, defaults(name))
        found = [r for r in found if own(name, r["arguments"]).items() <= now.items()]
    return found[-1] if found else None


def defaults(method: str) -> dict[str, Any]:
    return {p.name: p.default for p in parameters(find(method)).values()}


def network(method: str, encoder: str) -> str:
    """What the random encoder of a method is called: the same where it is the same."""
    if method in NEED_COLOUR:
        return f"{encoder} in colour"
    return f"{encoder} of {method}" if method in OTHERWISE else encoder


def raw(method: str) -> str:
    """What the raw pixels of a method's images are called."""
    return "in colour" if method in NEED_COLOUR else ""


def own(method: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments without the place of another run."""
    return {k: v for k, v in arguments.items() if k != FIRST.get(method, ("", ""))[0]}


def command(
    method: str, seed: int, steps: int, data: Path, out: Path
) -> tuple[list[str], dict[str, Any]]:
    """The words of the command of a row, paths by names, and the same as arguments of `pretrain`.

    A run of another method that it needs is trained first.
    """
    given: dict[str, Any] = {"steps": steps, "seed": seed, "evaluate": "off"}
    names = {str(data): "$SELFTAUGHT_DATA/fashion-mnist", str(out): "RUN"}
    if method in NEED_COLOUR:
        names[str(data)] = "COLOURED"
        given["size"] = SIDE
    if method in FIRST:
        option, other = FIRST[method]
        first = out.parent / other
        size = defaults(other)["batch_size"]
        train(other, seed, max(1, steps * defaults(method)["batch_size"] // size), data, first)
        given[option] = str(first)
        names[str(first)] = f"RUN-OF-{other.upper()}"
    words = ["selftaught", "pretrain", method, str(data), "--out", str(out), *options(given)]
    return [names.get(word, word) for word in words], given


def options(given: dict[str, Any]) -> list[str]:
    return [word for name, value in given.items() for word in (f"--{name}", str(value))]


def train(method: str, seed: int, steps: int, data: Path, out: Path) -> dict[str, Any]:
    """What a row says of a run, which is trained here."""
    words, given = command(method, seed, steps, data, out)
    done = pretrain(method, data, out=out, quiet=True, **given)
    return said(method, seed, words, done)


def said(method: str, seed: int, words: list[str], done: dict[str, Any]) -> dict[str, Any]:
    """What a row says of a run by its run.json."""
    return {
        "name": method,
        "seed": seed,
        "command": " ".join(words),
        "encoder": done["call"]["arguments"]["encoder"],
        "arguments": own(method, done["call"]["arguments"]),
        "steps": done["steps"],
        "signals": done["signals"],
        "verdict": done["verdict"],
        "environment": done["environment"],
        "commit": commit(),
    }


class Claims:
    """What one of several processes has begun to measure, so that no other does it too."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def mine(self, *name: str | int) -> bool:
        """Whether nobody had claimed it."""
        try:
            (self.folder / "-".join(map(str, name)).replace("/", "-")).mkdir()
        except FileExistsError:
            return False
        return True


def measure(
    rows: Rows, claims: Claims, method: str, seed: int, data: Path, runs: Path | None
) -> bool:
    """A run at the stated budget, and its scores; it is kept in ``runs``, if anywhere.

    Whether it succeeded.
    """
    began = time.perf_counter()
    place = None if runs is None else runs / f"{method}-{seed}"
    try:
        if place is not None and place.exists():
            raise FileExistsError(f"{place} holds a run already; move it away")
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "run"
            steps = IMAGES // defaults(method)["batch_size"]
            row = train(method, seed, steps, data, out)
            seconds = time.perf_counter() - began
            scores = baselines(rows, claims, out, seed, data)
            if place is not None:
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.move(out, place)
    except Exception:
        print(f"{method}, seed {seed} failed:\n{traceback.format_exc()}", file=sys.stderr)
        return False
    rows.add({"kind": "method"} | row | {"scores": scores, "seconds": round(seconds, 1)})
    return True


def time_steps(rows: Rows, method: str, data: Path) -> None:
    """A short run in a process of its own: its images a second, once under way, its most memory."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        words, given = command(method, 0, SPEED_STEPS, data, out)
        called = [sys.executable, "-c", SPEED, "pretrain", method, str(data), "--out", str(out)]
        process = subprocess.Popen([*called, *options(given)], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"{' '.join(words)} ended with {os.waitstatus_to_exitcode(status)}")
        row = said(method, 0, words, json.loads((out / "run.json").read_text()))
        lines = (out / "metrics.jsonl").read_text().splitlines()
    speeds = [json.loads(line)["samples_per_second"] for line in lines]
    found = {
        "samples_per_second": statistics.median(speeds),
        "peak_megabytes": round(usage.ru_maxrss / 1024),
        "threads": torch.get_num_threads(),
    }
    dropped = ("signals", "verdict")  # of a run that short, they say nothing
    rows.add({"kind": "speed"} | {k: v for k, v in row.items() if k not in dropped} | found)


def untrained(rows: Rows, claims: Claims, method: str, seed: int, data: Path) -> bool:
    """The baselines of a method's row that lack, by a run of one step. Whether it succeeded."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "run"
            train(method, seed, 1, data, out)
            baselines(rows, claims, out, seed, data, also=())
    except Exception:
        print(f"{method}, seed {seed} failed:\n{traceback.format_exc()}", file=sys.stderr)
        return False
    return True


def baselines(
    rows: Rows,
    claims: Claims,
    out: Path,
    seed: int,
    data: Path,
    also: tuple[str, ...] = ("encoder",),
) -> dict[str, float]:
    """Evaluate the run, and its baselines where no row has them; the run's own scores, if any."""
    card = pretrained.read_card(out)
    encoder, pixels = network(card["recipe"], card["arguments"]["encoder"]), raw(card["recipe"])
    kinds = {"random": (encoder, seed), "pixels": (pixels, 0)}
    missing = [k for k, of in kinds.items() if newest(rows, k, *of) is None]
    missing = [k for k in missing if claims.mine(k, *kinds[k])]
    wanted = [*also, *missing]
    found = evaluate(out, data, rows=wanted)["rows"] if wanted else {}
    for kind in missing:
        name, number = kinds[kind]
        row = {"kind": kind, "name": name, "seed": number, "scores": found[kind]}
        rows.add(row | {"commit": commit()})
    return found.get("encoder", {})


def table(rows: Rows) -> str:
    """Mean and sd over seeds of each method, its random encoder below, raw pixels last."""
    head = "| method | encoder | seeds | knn/20 | logreg | random: knn/20 | random: logreg | "
    lines = [head + "samples/s | MB | verdict |", "|---|---|---|---|---|---|---|---|---|---|"]
    for name in RECIPES:
        mine = [r for seed in SEEDS if (r := newest(rows, "method", name, seed))]
        if not mine:
            continue
        random = [newest(rows, "random", network(name, r["encoder"]), r["seed"]) for r in mine]
        cells = [spread([r["scores"][p] for r in mine]) for p in SHOWN]
        cells += [spread([r["scores"][p] for r in random if r]) for p in SHOWN]
        speed = newest(rows, "speed", name, 0)
        cells.append(f"{speed['samples_per_second']:.0f}" if speed else "")
        cells.append(f"{speed['peak_megabytes']}" if speed else "")
        cells.append(", ".join(dict.fromkeys(r["verdict"]["word"] for r in mine)))
        seeds = ", ".join(str(r["seed"]) for r in mine)
        encoder = network(name, mine[0]["encoder"])
        lines.append(f"| {name} | {encoder} | {seeds} | {' | '.join(cells)} |")
    for kind in ("", "in colour"):
        pixels = newest(rows, "pixels", kind, 0)
        if pixels:
            scores = " | ".join(f"{pixels['scores'][p]:.2f}" for p in SHOWN)
            lines.append(f"| {f'raw pixels {kind}'.strip()} | | | {scores} | | | | | |")
    return "\n".join(lines)


def put_into(document: Path, rows: Rows) -> None:
    """Replace the table below MARK in a Markdown document."""
    new = f"{MARK}\n\n{table(rows)}\n"
    text, count = re.subn(f"{MARK}\n\n(\\|.*\n)*", lambda _: new, document.read_text())
    if count != 1:
        raise SystemExit(f"{document} has the line {MARK} {count} times; it needs one")
    document.write_text(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    usual = [name for name in RECIPES if name not in NEED_COLOUR]
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--methods", default=",".join(usual))
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)))
    parser.add_argument("--colour", type=Path, help="folder of images for methods that need it")
    parser.add_argument("--runs", type=Path, help="folder in which the runs are kept")
    parser.add_argument("--at-once", type=int, default=1, help="rows at once")
    parser.add_argument("--speed", action="store_true", help="samples/s and memory only")
    parser.add_argument("--baselines", action="store_true", help="random encoders only")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    parser.add_argument("--into", type=Path, nargs="+", help="documents; measures nothing")
    asked = parser.parse_args()
    rows = Rows(asked.out)
    methods, seeds = asked.methods.split(","), [int(seed) for seed in asked.seeds.split(",")]
    data = {m: asked.colour if m in NEED_COLOUR else fashion_mnist() for m in methods}
    if None in data.values():
        raise SystemExit("colorization needs coloured images; give a folder of them to --colour")
    if asked.speed:
        for method in methods:
            if newest(rows, "speed", method, 0) is None:
                time_steps(rows, method, data[method])
    elif not (asked.table or asked.into):
        there = {(m, s): newest(rows, "method", m, s) for s, m in product(seeds, methods)}
        if asked.baselines:
            wanted = [
                (m, s)
                for (m, s), row in there.items()
                if row and newest(rows, "random", network(m, row["encoder"]), s) is None
            ]
        else:
            wanted = [of for of, row in there.items() if row is None]
        with tempfile.TemporaryDirectory() as folder, workers(asked.at_once) as pool:
            claims = Claims(Path(folder))
            found = [
                pool.submit(untrained, rows, claims, m, s, data[m])
                if asked.baselines
                else pool.submit(measure, rows, claims, m, s, data[m], asked.runs)
                for m, s in wanted
            ]
            failed = sum(not row.result() for row in found)
        if failed:
            raise SystemExit(f"{failed} of {len(wanted)} rows failed")
    for document in asked.into or ():
        put_into(document, rows)
    print(table(rows))


if __name__ == "__main__":
    main()
