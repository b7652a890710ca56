"""The recipes by name. Listing them imports nothing heavy."""

import difflib
import importlib
from collections.abc import Callable
from typing import Any

from selftaught.errors import UserError
from selftaught.recipes.card import Card
from selftaught.recipes.cards import (
    clusters,
    codes,
    dense,
    distillation,
    information,
    instance,
    latent,
    local,
    masked,
    players,
    pretext,
    sequence,
)

RECIPES: dict[str, Card] = {
    **instance.CARDS,
    **local.CARDS,
    **clusters.CARDS,
    **distillation.CARDS,
    **latent.CARDS,
    **information.CARDS,
    **masked.CARDS,
    **pretext.CARDS,
    **dense.CARDS,
    **codes.CARDS,
    **sequence.CARDS,
    **players.CARDS,
}


def card(name: str) -> Card:
    """What is known of a recipe. Raises UserError naming the nearest one."""
    if name in RECIPES:
        return RECIPES[name]
    near = difflib.get_close_matches(name.lower(), RECIPES, n=1, cutoff=0)
    raise UserError(
        f"no method named {name!r}; did you mean {near[0]!r}? `selftaught methods` lists them all"
    )


def find(name: str) -> Callable[..., Any]:
    """The recipe of that name, or the function at ``package.module:function``.

    Raises UserError where there is none, or where the function is not one that returns a Run.
    """
    place = name if ":" in name else card(name).function
    module, _, function = place.partition(":")
    try:
        recipe = getattr(importlib.import_module(module), function)
    except Exception as error:  # whatever the user's own module raises
        raise UserError(f"cannot use {name!r} as a method: {error!r}") from error
    returns = getattr(recipe, "__annotations__", {}).get("return")
    if getattr(returns, "__name__", returns) != "Run":
        raise UserError(f"{name} is not a recipe: it must be a function annotated `-> Run`")
    return recipe
