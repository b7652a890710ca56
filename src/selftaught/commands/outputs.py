"""Files that commands write, none of which overwrites another."""

from pathlib import Path

from selftaught.errors import UserError


def new_file(out: str | Path, *endings: str) -> Path:
    """A file that is to be written. Raises UserError for one that exists or cannot be made."""
    path = Path(out).expanduser()
    if path.suffix not in endings:
        wrong = f"no {endings[0]}" if len(endings) == 1 else f"neither {' nor '.join(endings)}"
        raise UserError(f"--out {out} is {wrong}; choose such an ending")
    refuse_existing(path)
    if not path.parent.is_dir():
        raise UserError(f"there is no folder {path.parent}; make it, or give another --out")
    return path


def refuse_existing(path: Path) -> None:
    """Raises UserError for a file that is there already."""
    if path.exists():
        raise UserError(f"{path} exists and is not overwritten; give another name to --out")
