"""Schemas as people read them: a type in a few words, and an object as a table of its members."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from xml.etree.ElementTree import Element

from relay.openapi.html import Node, Nodes, code, el, inline, prose, table

Schema = Mapping[str, Any]

_LIMITS = {
    "minimum": "at least",
    "maximum": "at most",
    "exclusiveMaximum": "less than",
    "minLength": "characters at least",
    "maxLength": "characters at most",
    "minItems": "entries at least",
    "format": "format",
    "pattern": "pattern",
    "contentEncoding": "encoding",
    "default": "default",
}


def words(schema: Schema) -> list[Node]:
    """Say what a value is: its type, and what it has to keep to."""
    limits = [(text, schema[name]) for name, text in _LIMITS.items() if schema.get(name) is not None]
    return [*_type(schema), *(node for limit in limits for node in _limit(*limit))]


def shape(schema: Schema, label: str) -> list[Element]:
    """Show a schema whole: what it is for, then its members or, where it has none, its type."""
    members = schema.get("properties")
    if not members:
        return [*prose(schema.get("description", "")), el("p", words(schema))]
    required = set(schema.get("required", ()))
    rows: list[list[Nodes]] = [
        [_name(name, name in required), words(of), inline(_line(of))] for name, of in members.items()
    ]
    return [*prose(schema.get("description", "")), table(label, ["Member", "Type", "Meaning"], rows)]


def _name(name: str, required: bool) -> list[Nodes]:  # noqa: FBT001 - one of two ways to write it
    return [el("code", name), None if required else [" ", el("small", "optional")]]


def _line(schema: Schema) -> str:
    return " ".join(schema.get("description", "").split())


def _type(schema: Schema) -> list[Node]:
    match schema:
        case {"$ref": str(place)}:
            name = place.rpartition("/")[2]
            found: list[Node] = [el("a", name, href=f"#schema-{name}")]
        case {"anyOf": list(kinds)}:
            found = list(_either(words(kind) for kind in kinds))
        case {"const": value}:
            found = ["always ", code(value)]
        case {"enum": list(values)}:
            found = list(_either([code(value)] for value in values))
        case {"type": "array", "items": items}:
            found = ["array of ", *words(items)]
        case {"type": list(kinds)}:
            found = [" or ".join(kinds)]
        case _:
            found = [schema.get("type", "anything")]
    return found


def _either(kinds: Iterable[list[Node]]) -> Iterator[Node]:
    for place, kind in enumerate(kinds):
        if place:
            yield " or "
        yield from kind


def _limit(text: str, value: object) -> list[Node]:
    shown = el("code", value) if isinstance(value, str) else code(value)
    return [", ", el("span", text, " ", shown, class_="limit")]
