"""Where what a person reads is printed."""

from rich.console import Console


def terminal(*, quiet: bool = False) -> Console:
    """A console that prints text as it is: brackets of a file's name are no markup."""
    return Console(quiet=quiet, markup=False, highlight=False)
