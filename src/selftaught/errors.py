"""The one exception for what a person can mend, and what ends a run otherwise."""

import math
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(ValueError):
    """Something the user can put right: one line, what is wrong and what to do.

    The command line prints it without a traceback and exits with code 2.
    """


def above_zero(**settings: float) -> None:
    """Raises UserError for the first of these settings that is not above 0."""
    for name, value in settings.items():
        if not value > 0:
            raise UserError(f"{_found(name, value)} above 0")


def from_zero(**settings: float) -> None:
    """Raises UserError for the first of these settings that is below 0, or no finite number."""
    for name, value in settings.items():
        if not 0 <= value < math.inf:
            raise UserError(f"{_found(name, value)} from 0")


def from_zero_to_one(**settings: float) -> None:
    """Raises UserError for the first of these settings that is not from 0 to 1."""
    for name, value in settings.items():
        if not 0 <= value <= 1:
            raise UserError(f"{_found(name, value)} with a number from 0 to 1")


def _found(name: str, value: float) -> str:
    words = name.replace("_", " ")
    article = "an" if words[0] in "aeiou" else "a"
    return f"{article} {words} of {value}; use --{name.replace('_', '-')}"


class Stopped(Exception):
    """A signal ended a run at a step boundary, after its state was saved."""

    def __init__(self, signal: int, state: str, how: str = "go on with --resume") -> None:
        super().__init__(f"{state}; {how}")
        self.signal = signal
        self.state = state


@contextmanager
def going_on_by_itself() -> Iterator[None]:
    """For commands that have no ``--resume``: what a signal stops, they take up when run again."""
    try:
        yield
    except Stopped as stopped:
        raise Stopped(
            stopped.signal, stopped.state, "the same command goes on from there"
        ) from None


class Lost(Exception):
    """Another of the processes that train together has ended; that one says why."""
