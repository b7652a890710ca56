"""Files that commands write, none of which overwrites another."""

import json
import os
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from selftaught.checkpoint import write_atomic
from selftaught.errors import UserError
from selftaught.paths import expanded


def new_file(out: str | Path, *endings: str) -> Path:
    """A file that is to be written. Raises UserError for one that exists or cannot be made."""
    path = expanded(out)
    if path.suffix not in endings:
        wrong = f"no {endings[0]}" if len(endings) == 1 else f"neither {' nor '.join(endings)}"
        raise UserError(f"--out {out} is {wrong}; choose such an ending")
    refuse_existing(path)
    if not path.parent.is_dir():
        raise UserError(f"there is no folder {path.parent}; make it, or give another --out")
    if not os.access(path.parent, os.W_OK):
        raise UserError(f"{path.parent} cannot be written to; give another --out")
    return path


def refuse_existing(path: Path) -> None:
    """Raises UserError for a file that is there already."""
    if path.exists():
        raise UserError(f"{path} exists and is not overwritten; give another name to --out")


def own_folder(out: str | Path, ours: Collection[str]) -> Path:
    """A folder for what a command writes under the names ``ours``, or that holds only such.

    Raises UserError where something else is in it, or it is a file.
    """
    path = expanded(out)
    if path.exists() and not path.is_dir():
        raise UserError(f"{path} is a file; give a new folder to --out")
    if path.is_dir() and any(p.name[0] != "." and p.name not in ours for p in path.iterdir()):
        raise UserError(f"{path} holds other things; give a new folder to --out")
    return path


def keep(path: Path, found: Mapping[str, Any]) -> None:
    """Write numbers that are printed too, as JSON; warns where that cannot be."""
    try:
        write_atomic(path, json.dumps(found, indent=2).encode())
    except UserError as error:
        print(f"selftaught: warning: not kept: {error}", file=sys.stderr)


def warn_of_broken(images: int, sound: int) -> None:
    """Say how many images are missing from what is found."""
    if sound < images:
        print(
            f"selftaught: warning: {images - sound} of {images} images are broken and left out",
            file=sys.stderr,
        )
