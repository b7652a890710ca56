"""Results as a table."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

ROWS = {
    "encoder": "this encoder",
    "random": "same encoder, random weights",
    "pixels": "raw pixels",
}


def show(result: Mapping[str, Any], console: Console) -> None:
    """Print what `selftaught.evaluate` returned, in percent."""
    protocols = list(result["rows"]["encoder"])
    table = Table(title=f"accuracy, % ({result['train']:,} train, {result['test']:,} test)")
    table.add_column("features")
    for protocol in protocols:
        table.add_column(protocol, justify="right")
    for row, title in ROWS.items():
        table.add_row(title, *(f"{result['rows'][row][p]:.1f}" for p in protocols))
    console.print(table)
    if result["split"]:
        console.print(result["split"], highlight=False)
