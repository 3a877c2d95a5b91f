"""The document as a page for people: plain HTML with a style of its own, no scripts, nothing loaded from anywhere.

The usual viewers are megabytes of JavaScript, most of which write styles into the page as they go, so that its policy
would have to allow inline styles. What is to be shown needs no more than HTML has.
"""

import base64
import hashlib
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any
from xml.etree.ElementTree import Element

from relay.openapi.html import Nodes, block, el, inline, prose, table, written
from relay.openapi.schemas import Json
from relay.openapi.shapes import shape, words

_STYLE = files("relay.openapi").joinpath("page.css").read_text(encoding="utf-8")


def policy() -> str:
    """Give the page's Content-Security-Policy: its one style, by its hash, and nothing else whatever."""
    digest = base64.b64encode(hashlib.sha256(_STYLE.encode("utf-8")).digest()).decode("ascii")
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def page(document: Json) -> str:
    """Render the document."""
    info, by_tag = document["info"], _by_tag(document)
    title = f"{info['title']} {info['version']}: HTTP interface"
    return written(
        el(
            "html",
            el(
                "head",
                el("meta", charset="utf-8"),
                el("meta", name="viewport", content="width=device-width, initial-scale=1"),
                el("meta", name="color-scheme", content="light dark"),
                el("title", title),
                el("style", _STYLE),
            ),
            el(
                "body",
                el("a", "Skip to the operations", href="#main", class_="skip"),
                _contents(document, by_tag),
                el(
                    "main",
                    el("header", el("h1", title), el("p", info["summary"], class_="lead"), prose(info["description"])),
                    el(
                        "p",
                        "For programs: ",
                        el("a", "openapi.json", href="openapi.json"),
                        f" (OpenAPI {document['openapi']}).",
                    ),
                    _proofs(document),
                    [_tag(document, tag, by_tag[tag["name"]]) for tag in document["tags"]],
                    _schemas(document),
                    id="main",
                ),
            ),
            lang="en",
        )
    )


def _by_tag(document: Json) -> dict[str, list[tuple[str, str, Json]]]:
    """Sort the operations by tag, each as method, path and operation."""
    found: dict[str, list[tuple[str, str, Json]]] = {tag["name"]: [] for tag in document["tags"]}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            found[operation["tags"][0]].append((method, path, operation))
    return found


def _contents(document: Json, by_tag: Mapping[str, list[tuple[str, str, Json]]]) -> Element:
    def entry(method: str, path: str, operation: Json) -> Element:
        return el("li", el("a", _method(method), " ", _path(path), href=f"#{operation['operationId']}"))

    return el(
        "nav",
        el("p", el("a", "Proof", href="#proof")),
        [
            [
                el("p", el("a", tag["name"], href=f"#{_anchor(tag['name'])}")),
                el("ul", [entry(*of) for of in by_tag[tag["name"]]]),
            ]
            for tag in document["tags"]
        ],
        el("p", el("a", "Schemas", href="#schemas")),
        aria_label="Operations",
    )


def _proofs(document: Json) -> Element:
    rows: list[list[Nodes]] = []
    for name, scheme in document["components"]["securitySchemes"].items():
        header = scheme.get("name") or "Authorization: Bearer …"
        rows.append([el("code", name), el("code", header), inline(scheme["description"])])
    return el("section", el("h2", "Proof"), table("Proof", ["Name", "Header", "Meaning"], rows), id="proof")


def _tag(document: Json, tag: Json, operations: list[tuple[str, str, Json]]) -> Element:
    return el(
        "section",
        el("h2", tag["name"]),
        prose(tag["description"]),
        [_operation(document, *operation) for operation in operations],
        id=_anchor(tag["name"]),
    )


def _operation(document: Json, method: str, path: str, operation: Json) -> Element:
    name = operation["operationId"]
    proofs = " or ".join(" with ".join(one) for one in operation["security"]) or "none"
    return el(
        "article",
        el("h3", _method(method), " ", _path(path)),
        el("p", operation["summary"], ".", class_="summary"),
        prose(operation.get("description", "")),
        el("p", el("a", "Proof", href="#proof"), f": {proofs}."),
        _parameters(operation),
        _body(name, operation),
        el("h4", "Answers"),
        [_answer(document, name, status, answer) for status, answer in operation["responses"].items()],
        id=name,
    )


def _parameters(operation: Json) -> Nodes:
    if not operation.get("parameters"):
        return None
    rows = [
        [
            [el("code", one["name"]), None if one["required"] else [" ", el("small", "optional")]],
            one["in"],
            words(one["schema"]),
            [
                inline(one["description"]),
                [" For example ", el("code", str(one["example"])), "."] if "example" in one else None,
            ],
        ]
        for one in operation["parameters"]
    ]
    return [
        el("h4", "Parameters"),
        table(f"Parameters of {operation['operationId']}", ["Name", "In", "Type", "Meaning"], rows),
    ]


def _body(name: str, operation: Json) -> Nodes:
    body = operation.get("requestBody")
    if body is None:
        return None
    heading = el("h4", "Body", None if body["required"] else [" ", el("small", "optional")])
    return [heading, [_content(f"{name} body", kind, content) for kind, content in body["content"].items()]]


def _answer(document: Json, name: str, status: str, answer: Json) -> Element:
    answer = _looked_up(document, answer)
    headers = [el("code", header) for header in answer.get("headers", {})]
    return el(
        "details",
        el("summary", el("strong", status), " ", inline(answer["description"])),
        el("p", "Headers: ", [[", " if place else None, header] for place, header in enumerate(headers)])
        if headers
        else None,
        [_content(f"{name} {status}", kind, content) for kind, content in answer.get("content", {}).items()],
        _links(answer),
    )


def _content(label: str, kind: str, content: Json) -> Element:
    schema = content["schema"]
    shown = (
        shape(schema, f"{label} as {kind}")
        if "properties" in schema
        else [el("p", words(schema), ". ", inline(schema.get("description", "")))]
    )
    examples = content.get("examples", {})
    return el(
        "div",
        el("p", el("code", kind), class_="kind"),
        shown,
        [
            el(
                "details",
                el("summary", "Example: ", inline(example.get("summary", key))),
                block(example["value"], f"{label}: {key}"),
            )
            for key, example in examples.items()
        ],
        class_="content",
    )


def _links(answer: Json) -> Nodes:
    links = answer.get("links", {})
    if not links:
        return None
    return el(
        "p",
        "Leads to: ",
        [[", " if place else None, el("a", name, href=f"#{name}")] for place, name in enumerate(links)],
    )


def _schemas(document: Json) -> Element:
    return el(
        "section",
        el("h2", "Schemas"),
        [
            el("article", el("h3", el("code", name)), shape(schema, name), id=f"schema-{name}")
            for name, schema in document["components"]["schemas"].items()
        ],
        id="schemas",
    )


def _looked_up(document: Json, answer: Json) -> Json:
    place = answer.get("$ref")
    if place is None:
        return answer
    found: Any = document
    for step in place.removeprefix("#/").split("/"):
        found = found[step]
    return dict(found)


def _method(method: str) -> Element:
    return el("span", method.upper(), class_=f"method {method}")


def _path(path: str) -> Element:
    """Write a path that may break behind each slash."""
    parts = re.split(r"(?<=/)", path)
    return el("code", [[el("wbr") if place else None, part] for place, part in enumerate(parts)], class_="path")


def _anchor(name: str) -> str:
    return "tag-" + re.sub(r"\W+", "-", name.lower())
