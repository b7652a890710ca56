"""Paths as people write them."""

from pathlib import Path

from selftaught.errors import UserError


def expanded(path: str | Path) -> Path:
    """The path with ``~`` as a home folder. Raises UserError where there is none of that name."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(f"{path}: there is no such home folder; give the whole path") from error
