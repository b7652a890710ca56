"""What to know of a recipe before choosing it."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Card(NamedTuple):
    """One recipe, described; nothing heavy is imported to read it."""

    function: str  # package.module:function
    family: str
    modality: str
    paper: str
    year: int
    url: str
    measured: str  # what its defaults were measured on
    idea: str  # two sentences
    diagram: str  # its parts, in text
    needs: str  # batch, tokens, memory
    choose: str  # when to take it
    published: Mapping[str, Any]  # the paper's own settings, over the recipe's defaults
    before: str = ""  # the command of a run that it needs first
    given: str = ""  # the options that name that run
