"""The one exception for what a person can mend, and what ends a run otherwise."""

from collections.abc import Iterator
from contextlib import contextmanager


class UserError(ValueError):
    """Something the user can put right: one line, what is wrong and what to do.

    The command line prints it without a traceback and exits with code 2.
    """


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
