"""Where what a person reads is printed."""

from typing import Any

from rich.console import Console


class Terminal(Console):
    """Prints text as it is: brackets of a file's name are no markup, a file's lines are not cut."""

    def __init__(self, *, quiet: bool) -> None:
        super().__init__(quiet=quiet, markup=False, highlight=False)

    def print(self, *objects: Any, **options: Any) -> None:
        """Lines of text are wrapped in a terminal only; tables are as wide as one, in files too."""
        if not self.is_terminal and all(isinstance(x, str) for x in objects):
            options.setdefault("soft_wrap", True)
        super().print(*objects, **options)


def terminal(*, quiet: bool = False) -> Console:
    """A console for what a command says."""
    return Terminal(quiet=quiet)
