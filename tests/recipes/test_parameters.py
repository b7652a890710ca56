"""A recipe's parameters are one flat list: its own, then those of its shared groups."""

import dataclasses
import inspect
from collections import Counter
from dataclasses import dataclass
from typing import Literal

import pytest

from selftaught.errors import UserError
from selftaught.recipes import RECIPES, find
from selftaught.recipes.parameters import call, parameters, read, shared_out


@dataclass(frozen=True)
class Pace:
    """How fast.

    Args:
        steps: how many.
        rate: how far each goes.
    """

    steps: int = 3
    rate: float = 0.5


@dataclass(frozen=True)
class LongPace(Pace):
    """How fast, for long.

    Args:
        steps: how very many.
        rate: how far each goes.
        rest: between two steps.
    """

    steps: int = 30
    rest: bool = False


@dataclass(frozen=True)
class Colour:
    """Of what colour.

    Args:
        hue: the colour's name.
    """

    hue: str = "red"


def walk(
    data: str,
    *,
    legs: int = 2,
    pace: Pace = Pace(rate=0.25),
    name: str = "walk",
    colour: Colour = Colour(),
):
    """Walk.

    Args:
        data: where.
        legs: on how many.
        name: what it is called.
    """
    return data, legs, pace, name, colour


def run(data: str, *, pace: Pace = LongPace()):
    """Run."""
    return data, pace


Kind = Literal["slow", "fast"]


def rest(
    data: str,
    *,
    limit: int | None = None,
    deep: bool = False,
    note: str = "",
    kind: Kind = "slow",
):
    """Rest."""
    return data, limit, deep, note, kind


def test_words_are_read_as_the_parameters_kind():
    words = ("legs=4", "rate=0.5", "name=a=b", "deep=true", "limit=7", "odd=x", "kind=fast")
    expected = {"legs": 4, "rate": 0.5, "name": "a=b", "deep": True, "limit": 7, "odd": "x"}
    expected |= {"kind": "fast"}
    assert read(words, [walk, rest]) == expected
    assert read((), [walk]) == {}


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("legs", "write name=value"),
        ("legs=four", "legs=four; give a number"),
        ("deep=yes", "give true or false"),
        ("kind=odd", "kind=odd; give slow or fast"),
    ],
)
def test_other_words_are_refused(word, hint):
    with pytest.raises(UserError, match=hint):
        read([word], [walk, rest])


def test_each_recipe_gets_the_parameters_that_it_has():
    given = {"legs": 4, "deep": True, "rate": 0.5}
    found = shared_out(given, {"walk": walk, "rest": rest, "run": run})
    expected = {"walk": {"legs": 4, "rate": 0.5}, "rest": {"deep": True}, "run": {"rate": 0.5}}
    assert found == expected
    with pytest.raises(UserError, match="did you mean 'legs'"):
        shared_out({"leg": 4}, {"walk": walk, "rest": rest})


def test_own_come_first_then_the_shared_ones_in_order():
    assert list(parameters(walk)) == ["legs", "name", "steps", "rate", "hue"]


def test_each_has_its_type_its_default_and_its_meaning():
    found = parameters(walk)
    assert found["legs"] == ("legs", int, 2, "on how many.")
    assert found["steps"] == ("steps", int, 3, "how many.")
    assert found["hue"] == ("hue", str, "red", "the colour's name.")
    assert found["rate"].default == 0.25  # the recipe's default, not the group's


def test_a_group_of_another_kind_brings_its_own_fields_and_meanings():
    found = parameters(run)
    assert list(found) == ["steps", "rate", "rest"]
    assert found["steps"] == ("steps", int, 30, "how very many.")
    assert found["rest"].default is False


def test_call_without_anything_takes_the_defaults():
    assert call(walk, "park", {}) == walk("park")
    assert call(run, "park", {}) == ("park", LongPace())


def test_call_puts_each_parameter_where_it_belongs():
    data, legs, pace, name, colour = call(walk, "park", {"legs": 4, "steps": 9, "hue": "blue"})
    assert (data, legs, name) == ("park", 4, "walk")
    assert pace == Pace(steps=9, rate=0.25)
    assert colour == Colour("blue")
    _, pace = call(run, "park", {"rest": True})
    assert pace == LongPace(rest=True)


def test_call_with_all_parameters_changes_nothing_and_takes_nothing_away():
    given = {name: p.default for name, p in parameters(walk).items()}
    before = dict(given)
    assert call(walk, "park", given) == walk("park")
    assert given == before


def test_an_unknown_parameter_is_refused_by_name():
    with pytest.raises(TypeError, match="wings"):
        call(walk, "park", {"wings": 2})
    with pytest.raises(TypeError, match="rest"):  # a field of another group
        call(walk, "park", {"rest": True})


@pytest.mark.parametrize("name", RECIPES)
def test_no_recipe_has_a_parameter_twice_or_without_a_meaning(name):
    recipe = find(name)
    _, *arguments = inspect.signature(recipe).parameters.values()
    names = []
    for p in arguments:
        shared = dataclasses.is_dataclass(p.default)
        names += [f.name for f in dataclasses.fields(p.default)] if shared else [p.name]
        assert p.default is not inspect.Parameter.empty, p.name
    assert not [n for n, count in Counter(names).items() if count > 1]
    found = parameters(recipe)
    assert set(found) == set(names)
    assert not [n for n, p in found.items() if not p.meaning]
