"""The list of methods."""

import json

from rich.console import Console
from rich.table import Table

from selftaught import recipes


def show(name: str | None, *, as_json: bool) -> None:
    """Print every recipe, or one, as a table or as JSON.

    Raises UserError for a name that is none, with the nearest one.
    """
    if name is not None:
        recipes.card(name)
    chosen = {n: c for n, c in recipes.RECIPES.items() if name in (None, n)}
    if as_json:
        print(json.dumps([{"name": n, **c._asdict()} for n, c in chosen.items()], indent=2))
        return
    table = Table()
    for title in ("name", "family", "modality", "paper", "year", "defaults measured on"):
        table.add_column(title)
    for n, c in chosen.items():
        table.add_row(n, c.family, c.modality, c.paper, str(c.year), c.measured)
    Console().print(table)
