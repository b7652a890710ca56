"""A recipe's parameters, flat: its own, and those it shares with other recipes.

A recipe is a function whose first argument is the data. Each further argument is a parameter, or a
dataclass of shared parameters (`selftaught.recipes.shared`) whose fields are parameters like its
own: the command line, ``run.json`` and Python callers see one flat list.
"""

import dataclasses
import difflib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args, get_origin

from selftaught.errors import UserError


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


def shared_out(
    given: Mapping[str, Any], recipes: Mapping[str, Callable[..., Any]]
) -> dict[str, dict[str, Any]]:
    """Of the parameters ``given`` to several recipes, those that each of them has.

    Raises UserError for one that none has, with the nearest name.
    """
    names = {name: parameters(recipe).keys() for name, recipe in recipes.items()}
    there = set().union(*names.values())
    for name in given:
        if name not in there:
            near = difflib.get_close_matches(name, sorted(there), n=1, cutoff=0)
            raise UserError(f"no method here has a parameter {name!r}; did you mean {near[0]!r}?")
    return {name: {k: v for k, v in given.items() if k in own} for name, own in names.items()}


def read(words: Sequence[str], recipes: Iterable[Callable[..., Any]]) -> dict[str, Any]:
    """The parameters that ``name=value`` words give, as the first recipe that has each reads it.

    Raises UserError for other words and for a value of another kind.
    """
    there: dict[str, Parameter] = {}
    for recipe in recipes:
        there = parameters(recipe) | there
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise UserError(f"{word!r} sets nothing; write name=value, such as encoder=vit-nano")
        name = name.strip().replace("-", "_")
        found[name] = _value(there[name], value) if name in there else value
    return found


def _value(p: Parameter, word: str) -> Any:
    if get_origin(p.annotation) is Literal:
        words = get_args(p.annotation)
        if word in words:
            return word
        raise UserError(f"{p.name}={word}; give {' or '.join(map(str, words))}")
    kinds = get_args(p.annotation) or (p.annotation,)
    if bool in kinds:
        if word in ("true", "false"):
            return word == "true"
        raise UserError(f"{p.name}={word}; give true or false")
    for kind in (int, float):
        if kind in kinds:
            try:
                return kind(word)
            except ValueError:
                continue
    if str in kinds:
        return word
    raise UserError(f"{p.name}={word}; give a number")


def _arguments(recipe: Callable[..., Any]) -> list[inspect.Parameter]:
    _data, *others = inspect.signature(recipe).parameters.values()
    return others


def _is_group(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _meanings(documented: Any) -> dict[str, str]:
    """What a docstring's list of arguments says of each."""
    text = inspect.getdoc(documented) or ""
    return dict(re.findall(r"^ {4}(\w+): (.+)$", text, flags=re.MULTILINE))
