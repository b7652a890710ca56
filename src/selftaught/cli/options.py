"""What commands have in common."""

import json
from typing import Any, Literal

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "float32", "bfloat16"]


def print_json(found: Any) -> None:
    """For the option --json."""
    print(json.dumps(found))
