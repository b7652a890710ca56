"""The one exception for what a person can mend."""


class UserError(ValueError):
    """Something the user can put right: one line, what is wrong and what to do.

    The command line prints it without a traceback and exits with code 2.
    """


class Stopped(Exception):
    """A signal ended a run at a step boundary, after its state was saved."""

    def __init__(self, signal: int, message: str) -> None:
        super().__init__(message)
        self.signal = signal


class Lost(Exception):
    """Another of the processes that train together has ended; that one says why."""
