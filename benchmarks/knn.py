"""Exact k-NN of many features: seconds and memory of both engines, side by side.

    python benchmarks/knn.py                                     60,000 and a million features
    python benchmarks/knn.py --bank 1000000 --queries 1000 --dim 256

Features are of clusters with noise. Each row is a process of its own; its memory is the most that
it ever held above what it held with the features in it. The predictions have to be the same.
"""

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import time

import torch

from selftaught.protocols.knn import Engine, knn

CLASSES = 100


def measure(bank: int, queries: int, dim: int, k: int, engine: Engine) -> dict[str, float | str]:
    draw = torch.Generator().manual_seed(0)
    centres = torch.randn(CLASSES, dim, generator=draw)
    labels = torch.randint(CLASSES, (bank,), generator=draw)
    x, asked = torch.randn(bank, dim, generator=draw), torch.randn(queries, dim, generator=draw)
    for start in range(0, bank, 4096):
        x[start : start + 4096] += centres[labels[start : start + 4096]]
    asked += centres[torch.randint(CLASSES, (queries,), generator=draw)]
    knn(x[:2000], labels[:2000], asked[:10], k=k, engine=engine)  # what is loaded once
    before, began = most(), time.perf_counter()
    found = knn(x, labels, asked, k=k, engine=engine)
    seconds = time.perf_counter() - began
    told = hashlib.sha256(found.numpy().tobytes()).hexdigest()[:12]
    return {"seconds": seconds, "megabytes": most() - before, "predictions": told}


def most() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bank", default="60000,1000000")
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--k", default="20,200")
    parser.add_argument("--engine", help="one row only, as JSON")
    asked = parser.parse_args()
    sizes = [(int(n), int(k)) for n in asked.bank.split(",") for k in asked.k.split(",")]
    if asked.engine:
        [(bank, k)] = sizes
        print(json.dumps(measure(bank, asked.queries, asked.dim, k, asked.engine)))
        return
    print(f"{torch.get_num_threads()} threads, PyTorch {torch.__version__}\n")
    print("| bank | queries | width | k | torch s | faiss s | torch MB | faiss MB | features MB |")
    print("|---" * 9 + "|")
    for bank, k in sizes:
        rows = {}
        for engine in ("torch", "faiss"):
            given = {"bank": bank, "queries": asked.queries, "dim": asked.dim, "k": k}
            words = [w for name, value in given.items() for w in (f"--{name}", str(value))]
            own = [sys.executable, __file__, *words, "--engine", engine]
            rows[engine] = json.loads(subprocess.check_output(own))
        if len({row["predictions"] for row in rows.values()}) > 1:
            raise SystemExit(f"the engines differ: {rows}")
        seconds = " | ".join(f"{row['seconds']:.1f}" for row in rows.values())
        memory = " | ".join(f"{row['megabytes']:.0f}" for row in rows.values())
        features = bank * asked.dim * 4 / 2**20
        shape = f"{bank:,} | {asked.queries:,} | {asked.dim} | {k}"
        print(f"| {shape} | {seconds} | {memory} | {features:.0f} |", flush=True)


if __name__ == "__main__":
    main()
