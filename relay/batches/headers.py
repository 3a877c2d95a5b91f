"""Which headers a file gets: the account's present ones, looked up by how each column of the lines was rendered."""

from collections.abc import Mapping, Sequence
from typing import Any

from relay.settings import Column


def stored_columns(columns: Mapping[str, Column]) -> list[dict[str, Any]]:
    """What the layout of these columns is stored as: the header of the day beside what makes the rendering."""
    return [{"header": header, **column.identity()} for header, column in columns.items()]


def present_header(stored: Sequence[Mapping[str, Any]], present: Mapping[str, Column]) -> tuple[str, ...]:
    """Name the columns of lines that were rendered with `stored`.

    A corrected header applies to waiting lines too: a column is looked for among the present ones by path and type. One
    that is no longer there keeps the header of its day.
    """
    left = [(header, column.identity()) for header, column in present.items()]
    names = []
    for column in stored:
        identity = {key: value for key, value in column.items() if key != "header"}
        match = next((entry for entry in left if entry[1] == identity), None)
        if match:
            left.remove(match)
        names.append(match[0] if match else str(column["header"]))
    return tuple(names)
