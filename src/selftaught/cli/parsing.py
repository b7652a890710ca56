"""Arguments, and one line for those that are not understood."""

import contextlib
import functools
import io
import re
from collections.abc import Callable
from typing import Any

import tyro

from selftaught.errors import UserError

KINDS = {"INT": "a whole number", "FLOAT": "a number"}  # tyro's names
DESCRIPTION = "Self-supervised learning: from data without labels to an encoder you can trust."


def later(command: Callable[..., Any]) -> Callable[..., Callable[[], Any]]:
    """The command with its arguments, to be run when they all have been understood."""

    @functools.wraps(command)
    def bound(*args: Any, **kwargs: Any) -> Callable[[], Any]:
        return functools.partial(command, *args, **kwargs)

    return bound


def parse(what: Any, argv: list[str], prog: str = "selftaught") -> Any:
    """What tyro makes of the arguments; its box of an error becomes one line.

    Raises UserError.
    """
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            if isinstance(what, dict):
                return tyro.extras.subcommand_cli_from_dict(
                    what, args=argv or ["--help"], prog=prog, description=DESCRIPTION
                )
            return tyro.cli(what, args=argv, prog=prog)
    except SystemExit as ended:
        if ended.code:
            raise UserError(_one_line(complaint.getvalue())) from None
        raise


def _one_line(box: str) -> str:
    """The words of tyro's boxed message, without its title and its pointer to the help."""
    lines = [line.strip(" │╭╮╰╯─") for line in box.splitlines()]
    _title, *words = [line for line in lines if line.strip("-")] or [
        "",
        "the arguments are not understood",
    ]
    said = " ".join(words).partition(" For full helptext")[0]
    if value := re.match(r"Error parsing (--\S+): .*?'(.*?)'.* Argument helptext: \1 (\S+)", said):
        option, given, kinds = value.groups()
        kind = KINDS.get(kinds.split("|")[-1], kinds)
        return f"{option} {given} is not understood; give {kind}"
    if re.match(r"Unrecognized options: (?!-)", said):
        return f"{said}; a list is written with commas and no spaces, as one,two"
    return re.sub(r"^Error parsing \S*tyro-dummy\S* ", "", said)  # of settings as a whole
