"""A recipe's parameters, flat: its own, and those it shares with other recipes.

A recipe is a function whose first argument is the data. Each further argument is a parameter, or a
dataclass of shared parameters (`selftaught.recipes.shared`) whose fields are parameters like its
own: the command line, ``run.json`` and Python callers see one flat list.
"""

import dataclasses
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Parameter(NamedTuple):
    """One setting of a recipe."""

    name: str
    annotation: Any
    default: Any
    meaning: str


def parameters(recipe: Callable[..., Any]) -> dict[str, Parameter]:
    """By name: the recipe's own first, then the shared ones."""
    own, shared = [], []
    said = _meanings(recipe)
    for p in _arguments(recipe):
        if not _is_group(p.default):
            own.append(Parameter(p.name, p.annotation, p.default, said.get(p.name, "")))
            continue
        explained = _meanings(type(p.default))
        for field in dataclasses.fields(p.default):
            value = getattr(p.default, field.name)
            shared.append(Parameter(field.name, field.type, value, explained.get(field.name, "")))
    return {p.name: p for p in (*own, *shared)}


def call(recipe: Callable[..., Any], data: Any, given: Mapping[str, Any]) -> Any:
    """The recipe's run with the parameters ``given`` over its defaults."""
    left = dict(given)
    groups = {}
    for p in _arguments(recipe):
        if _is_group(p.default):
            names = {field.name for field in dataclasses.fields(p.default)} & left.keys()
            changed = {name: left.pop(name) for name in names}
            groups[p.name] = dataclasses.replace(p.default, **changed)
    return recipe(data, **left, **groups)


def _arguments(recipe: Callable[..., Any]) -> list[inspect.Parameter]:
    _data, *others = inspect.signature(recipe).parameters.values()
    return others


def _is_group(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _meanings(documented: Any) -> dict[str, str]:
    """What a docstring's list of arguments says of each."""
    text = inspect.getdoc(documented) or ""
    return dict(re.findall(r"^ {4}(\w+): (.+)$", text, flags=re.MULTILINE))
