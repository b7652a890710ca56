"""The methods: a list in families, and each of them explained."""

import json
import textwrap

from rich.console import Console
from rich.table import Table

from selftaught import recipes
from selftaught.recipes.card import Card
from selftaught.recipes.parameters import parameters

WIDTH = 88  # characters of a line


def show(name: str | None, *, as_json: bool) -> None:
    """Print every recipe in families, or explain one; or either as JSON.

    Raises UserError for a name that is none, with the nearest one.
    """
    chosen = recipes.RECIPES if name is None else {name: recipes.card(name)}
    if as_json:
        print(json.dumps([{"name": n, **c._asdict()} for n, c in chosen.items()], indent=2))
    elif name is not None:
        print(explain(name))
    else:
        Console().print(_families())


def _families() -> Table:
    """A row for each method, whose text is wrapped and never cut."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for family in dict.fromkeys(c.family for c in recipes.RECIPES.values()):
        table.add_row()
        table.add_row(f"[bold]{family}[/bold]")
        for n, c in recipes.RECIPES.items():
            if c.family == family:
                said = f"[dim]{c.modality}; defaults measured on {c.measured}[/dim]"
                table.add_row(n, f"{c.paper}, {c.year}\n{said}")
    return table


def explain(name: str) -> str:
    """One method in Markdown: idea, diagram, needs, when to choose it, parameters.

    Raises UserError for a name that is none, with the nearest one.
    """
    card = recipes.card(name)
    parts = [
        f"# {name}",
        _filled(f"{card.paper} ({card.year}), {card.url}. A method of {card.family}."),
        _filled(card.idea),
        "```\n" + card.diagram + "\n```",
        _filled(f"**Needs** {card.needs}."),
        _filled(f"**Choose it** {card.choose}."),
        _filled(f"Defaults measured on: {card.measured}."),
        _parameters(name, card),
        f"```\n{_commands(name, card)}\n```",
    ]
    return "\n\n".join(parts)


def _commands(name: str, card: Card) -> str:
    last = f"selftaught pretrain {name} DATA --out RUN {card.given}".rstrip()
    return f"{card.before}\n{last}" if card.before else last


def _filled(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def _parameters(name: str, card: Card) -> str:
    """A table of the recipe's parameters; the paper's value stands where it has another."""
    lines = ["| parameter | small | paper | meaning |", "|---|---|---|---|"]
    for p in parameters(recipes.find(name)).values():
        published = card.published.get(p.name, p.default)
        paper = "" if published == p.default else f"`{published}`"
        lines.append(f"| `{p.name}` | `{p.default}` | {paper} | {p.meaning} |")
    return "\n".join(lines)
