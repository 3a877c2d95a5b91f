"""What commands print: a table for people, JSON for scripts."""

import json
import sys
from collections.abc import Mapping, Sequence

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

LINE_CHARACTERS_MAX = 1_000
"""Where nobody looks, a row stays one line up to here; a terminal's are as wide as it is."""


def print_json(told: object) -> None:
    """Print a value as JSON, Japanese as it is."""
    json.dump(told, sys.stdout, ensure_ascii=False, indent=2)
    print()


def print_table(columns: Sequence[str], rows: Sequence[Mapping[str, object]]) -> None:
    """Print rows under their columns. A value that is missing or None prints as `-`, a list as its entries."""
    table = Table(*columns, box=SIMPLE, show_edge=False, pad_edge=False)
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    width = None if sys.stdout.isatty() else LINE_CHARACTERS_MAX
    Console(markup=False, highlight=False, width=width).print(table)


def _cell(value: object) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case list() | tuple():
            return ", ".join(map(str, value)) or "-"
    return str(value)
