"""What commands print: a table for people, JSON for scripts."""

import json
import re
import sys
from collections.abc import AsyncIterator, Mapping, Sequence

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

LINE_CHARACTERS_MAX = 1_000
"""Where nobody looks, a row stays one line up to here; a terminal's are as wide as it is."""

_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""What a terminal obeys rather than shows: C0, C1, separators of lines, and what turns the direction of writing."""


def visible(text: str) -> str:
    """Replace whatever a terminal would obey: texts come from vendors and customers."""
    return _CONTROLS.sub("\ufffd", text)


def print_json(told: object) -> None:
    """Print a value as JSON, Japanese as it is, and nothing in it that a terminal would obey."""
    print(_json(told))


async def print_pages(name: str, pages: AsyncIterator[Sequence[object]]) -> None:
    """Print pages of entries as they come, as the one page of JSON that they would make together."""
    print(f'{{"{name}": [', end="")
    between = "\n"
    async for entries in pages:
        for entry in entries:
            print(f"{between}{_json(entry)}", end="")
            between = ",\n"
    print('\n], "next": null}')


def _json(told: object) -> str:
    text = json.dumps(told, ensure_ascii=False, indent=2)
    return "\n".join(_CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", line) for line in text.split("\n"))


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
            return visible(", ".join(map(str, value))) or "-"
    return visible(str(value))
