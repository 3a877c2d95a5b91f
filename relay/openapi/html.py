"""Making HTML as a tree, so that nothing has to be escaped by hand."""

import json
from collections.abc import Iterable
from xml.etree.ElementTree import Element, tostring

Node = Element | str
Nodes = Node | Iterable["Nodes"] | None


def el(tag: str, *children: Nodes, **attributes: str) -> Element:
    """Make an element. An attribute's `_` stands for `-`, and one at its end for nothing (`class_`)."""
    made = Element(tag, {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()})
    for child in children:
        _add(made, child)
    return made


def prose(text: str) -> list[Element]:
    """Make paragraphs of text in which blank lines part them and backquotes mark code, as CommonMark has it."""
    return [el("p", inline(" ".join(part.split()))) for part in text.split("\n\n") if part.strip()]


def inline(text: str) -> list[Node]:
    """Make code of what stands in backquotes."""
    parts = text.replace("``", "`").split("`")
    return [el("code", part) if place % 2 else part for place, part in enumerate(parts) if part]


def code(value: object) -> Element:
    """Show a value as JSON in a line."""
    return el("code", json.dumps(value, ensure_ascii=False))


def block(value: object, label: str) -> Element:
    """Show a text, or a value as JSON, in a block that the keyboard can scroll."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)
    return el("pre", el("code", text), tabindex="0", role="region", aria_label=label)


def table(label: str, heads: Iterable[str], rows: Iterable[Iterable[Nodes]]) -> Element:
    """Make a table whose rows begin with what they are about."""
    return el(
        "div",
        el(
            "table",
            el("thead", el("tr", [el("th", head, scope="col") for head in heads])),
            el("tbody", [_row(list(row)) for row in rows]),
        ),
        class_="table",
        tabindex="0",
        role="region",
        aria_label=label,
    )


def written(page: Element) -> str:
    """Write a page."""
    return "<!doctype html>\n" + tostring(page, encoding="unicode", method="html") + "\n"


def _row(cells: list[Nodes]) -> Element:
    return el("tr", el("th", cells[0], scope="row"), [el("td", cell) for cell in cells[1:]])


def _add(parent: Element, child: Nodes) -> None:
    if child is None:
        return
    if isinstance(child, Element):
        parent.append(child)
    elif not isinstance(child, str):
        for one in child:
            _add(parent, one)
    elif len(parent):
        parent[-1].tail = (parent[-1].tail or "") + child
    else:
        parent.text = (parent.text or "") + child
