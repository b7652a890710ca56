"""The recipes by name. Listing them imports nothing heavy."""

import difflib
import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

from selftaught.errors import UserError


class Card(NamedTuple):
    """What to know of a recipe before choosing it."""

    function: str  # package.module:function
    family: str
    modality: str
    paper: str
    year: int
    url: str
    measured: str  # what its defaults were measured on


RECIPES = {
    "simclr": Card(
        "selftaught.recipes.images:simclr",
        "instance discrimination",
        "images",
        "Chen et al., A Simple Framework for Contrastive Learning of Visual Representations",
        2020,
        "https://arxiv.org/abs/2002.05709",
        "Fashion-MNIST, 28 px, 10 minutes of two CPU cores",
    ),
    "byol": Card(
        "selftaught.recipes.images:byol",
        "self-distillation",
        "images",
        "Grill et al., Bootstrap Your Own Latent",
        2020,
        "https://arxiv.org/abs/2006.07733",
        "Fashion-MNIST, 28 px, 10 minutes of two CPU cores",
    ),
    "mae": Card(
        "selftaught.recipes.images:mae",
        "masked modelling",
        "images",
        "He et al., Masked Autoencoders Are Scalable Vision Learners",
        2021,
        "https://arxiv.org/abs/2111.06377",
        "Fashion-MNIST, 28 px, 10 minutes of two CPU cores",
    ),
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
