"""What commands have in common."""

import json as writer
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

Run = Annotated[Positional[Path], arg(metavar="RUN")]
Data = Annotated[Positional[str], arg(metavar="DATA")]
Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True)
class How:
    """Where and how long networks with labels are trained, and what is printed.

    Args:
        minutes: of training each network, instead of steps.
        seed: of everything random, the choice of labels too; without it 0.
        device: where to train.
        precision: of the forward passes.
        resume: go on with what is in --out.
        json: print JSON.
    """

    minutes: float | None = None
    seed: int | None = None
    device: Device = "auto"
    precision: Precision = "auto"
    resume: bool = False
    json: bool = False


def print_json(found: Any) -> None:
    """For the option --json."""
    print(writer.dumps(found))
