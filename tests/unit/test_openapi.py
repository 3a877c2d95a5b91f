"""The document: valid, whole, and made of what relay really reads, answers and refuses; and its page for people."""

import base64
import hashlib
import itertools
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from html.parser import HTMLParser
from http import HTTPStatus
from typing import Any, cast

import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from relay import __version__, ops
from relay.app import Service
from relay.events import Operation
from relay.flush import Flusher
from relay.openapi import document
from relay.openapi.page import page, policy
from relay.openapi.webhooks import SAMPLES
from relay.receive.formats import Format
from relay.receive.limits import Limits
from relay.receive.parse import TooMany, Webhook
from relay.receive.refusals import REFUSALS, Reused
from relay.settings import Settings, Source, process
from relay.status.asked import Nothing
from relay.status.service import ENDPOINTS

Json = dict[str, Any]
Found = tuple[str, str, Json]

WEBHOOKS = {"/v1/webhooks/{source}": TooMany, "/v1/webhooks/{source}/batch": Reused}
"""Where webhooks are received, and the one refusal that never happens there."""


@pytest.fixture(scope="module")
def made() -> Json:
    """The document."""
    return document()


@pytest.fixture(scope="module")
def operations(made: Json) -> list[Found]:
    """All operations as path, method and what the document says."""
    return [
        (path, method, operation) for path, methods in made["paths"].items() for method, operation in methods.items()
    ]


def look_up(made: Json, part: Json) -> Json:
    """Follow a reference, if it is one."""
    while "$ref" in part:
        found: Any = made
        for step in part["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        part = found
    return part


def answers(made: Json, operation: Json) -> dict[str, Json]:
    """The answers of an operation by status."""
    return {status: look_up(made, answer) for status, answer in operation["responses"].items()}


def contents(made: Json, operation: Json) -> Iterator[tuple[str, str, Json]]:
    """Yield every body of an operation: what it is (`body` or a status), its media type and its description."""
    for what, body in {**answers(made, operation), "body": operation.get("requestBody", {})}.items():
        for kind, content in body.get("content", {}).items():
            yield what, kind, content


# -- is it valid -----------------------------------------------------------------------------------------------------


def test_the_document_is_valid(made: Json) -> None:
    """It is OpenAPI 3.1, and its schemas are JSON Schema 2020-12."""
    assert list(OpenAPIV31SpecValidator(made).iter_errors()) == []
    for schema in made["components"]["schemas"].values():
        OAS31Validator.check_schema(schema)
    # Python's settings of a model are no JSON Schema; pydantic passes on what it cannot translate.
    assert not re.search(r'"(ge|gt|le|lt|multiple_of|strip_whitespace)":', json.dumps(made))


def test_the_examples_keep_to_their_schemas(made: Json, operations: list[Found]) -> None:
    """Every body has an example, each example is what its schema says, and so is each parameter's."""
    shown = 0
    for path, method, operation in operations:
        for what, kind, content in contents(made, operation):
            if (path, what) in {("/openapi.json", "200"), ("/docs", "200")}:
                continue  # the document and the page are their own examples
            assert content["examples"], (path, method, what, kind)
            for example in content["examples"].values():
                assert wrong(made, content["schema"], example["value"]) == [], (path, method, what, kind)
                shown += 1
        for parameter in operation.get("parameters", []):
            assert wrong(made, parameter["schema"], parameter["example"]) == [], (path, parameter["name"])
            assert parameter["description"]
    assert shown > len(operations)


def wrong(made: Json, schema: Json, value: object) -> list[str]:
    """Say what of a value is not as its schema says."""
    whole = {**schema, "components": made["components"]}
    return [error.message for error in OAS31Validator(whole).iter_errors(value)]


def test_the_examples_of_webhooks_can_be_read(made: Json) -> None:
    """Who copies an example of a webhook sends something that relay reads."""
    source = Source.model_validate({"bearer_tokens": ["token"], "accounts": ["news"]})
    form = Format(source, Limits())
    read: list[object] = []
    for path in WEBHOOKS:
        for kind, content in made["paths"][path]["post"]["requestBody"]["content"].items():
            for example in content["examples"].values():
                value = example["value"]
                body = (value if isinstance(value, str) else json.dumps(value)).encode()
                read += form.many({}, kind, body) if path.endswith("/batch") else [form.one({}, kind, body)]
    assert len(read) == 8
    assert all(isinstance(webhook, Webhook) for webhook in read)


# -- is it whole -----------------------------------------------------------------------------------------------------


async def test_every_route_is_in_the_document_and_the_other_way_round(operations: list[Found]) -> None:
    """What the service serves, and with which method, is what the document has: no more, no less."""
    parts = {
        "sources": {"crm": {"bearer_tokens": ["token"], "accounts": ["news"]}},
        "logins": {
            "hai": {"vendor": "haihai", "aid": 1, "login_id": "l", "transport_password": "p", "base_url": "http://h"}
        },
        "accounts": {"news": {"login": "hai", "columns": {"E-Mail": "email"}}},
    }
    env = {"RELAY_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none", "RELAY_SECRET_KEY": "k" * 32}
    service = Service(process(env), Settings.model_validate(parts))
    nothing = cast("Any", None)
    flusher = Flusher(nothing, {}, round_s=1, uploads_max=1, grace_s=1)
    layouts: dict[tuple[str, Operation], int] = defaultdict(int)
    app = service._app(nothing, cast("Any", object()), layouts, flusher, nothing)  # noqa: SLF001 - the very routes that are served
    routes = {(route.resource.canonical, route.method) for route in app.router.routes() if route.resource}
    told = {(path, method.upper()) for path, method, _ in operations} | {(one.path, one.method) for one in ops.routes()}
    assert {(re.sub(r":[^}]*", "", path), method) for path, method in routes} == told


def test_what_is_asked_and_answered_are_the_models_of_the_endpoints(made: Json) -> None:
    """Each endpoint's query or body, answer and scope stand in the document as its handler has them."""
    for endpoint in ENDPOINTS:
        operation = made["paths"][endpoint.path][endpoint.method.lower()]
        query = {one["name"] for one in operation["parameters"] if one["in"] == "query"}
        assert query == (set(endpoint.asks.model_fields) if endpoint.method == "GET" else set())
        asks_body = endpoint.method != "GET" and endpoint.asks is not Nothing
        assert ("requestBody" in operation) == asks_body
        if asks_body:
            assert schema_name(operation["requestBody"]["content"]["application/json"]) == endpoint.asks.__name__
        answered = answers(made, operation)["200"]["content"]
        if endpoint.answer is not None:
            assert schema_name(answered["application/json"]) == endpoint.answer.__name__
        if endpoint.scope is None:
            assert "403" not in operation["responses"]
        else:
            assert f"`{endpoint.scope}`" in operation["description"]
            assert answers(made, operation)["403"]["description"].endswith(f"`{endpoint.scope}`.")
        assert operation["security"] == [{"apiToken": []}]
        assert ("409" in operation["responses"]) == endpoint.conflicts


def schema_name(content: Json) -> str:
    """The name of the schema that a body refers to."""
    name: str = content["schema"]["$ref"].rpartition("/")[2]
    return name


def test_every_refusal_of_webhooks_is_told(made: Json) -> None:
    """Each kind of refusal has its status, its text and an example, which is what is really answered."""
    assert {type(sample) for sample in SAMPLES} == set(REFUSALS)
    for path, never in WEBHOOKS.items():
        told = answers(made, made["paths"][path]["post"])
        for kind, refusal in REFUSALS.items():
            answer = told.get(str(refusal.status), {})
            examples = answer.get("content", {}).get("application/problem+json", {}).get("examples", {})
            said = {example["value"]["detail"] for example in examples.values()}
            assert (refusal.detail in said) == (kind is not never), (path, kind)
        assert {"500", "503"} < set(told)


def test_what_any_request_can_be_answered_is_told_everywhere(operations: list[Found]) -> None:
    """Before anybody looks at what is asked for; also that too many are connected, where the database is well."""
    for _, _, operation in operations:
        assert {"400", "408", "417", "431", "503"} <= operation["responses"].keys()


def test_every_error_is_a_problem(made: Json, operations: list[Found]) -> None:
    """Errors are `application/problem+json` and nothing else, with the headers that their statuses want."""
    wanted = {"401": "WWW-Authenticate", "429": "Retry-After", "503": "Retry-After"}
    for path, _, operation in operations:
        for status, answer in answers(made, operation).items():
            if int(status) >= HTTPStatus.BAD_REQUEST:
                assert list(answer["content"]) == ["application/problem+json"], (path, status)
                assert wanted.get(status, "") in {*answer.get("headers", {}), ""}, (path, status)
                for example in answer["content"]["application/problem+json"]["examples"].values():
                    assert example["value"]["status"] == int(status)


def test_links_lead_somewhere(made: Json, operations: list[Found]) -> None:
    """Operations have names of their own, and links name operations and parameters that there are."""
    by_name = {operation["operationId"]: operation for _, _, operation in operations}
    assert len(by_name) == len(operations)
    followed = 0
    for operation in by_name.values():
        for answer in answers(made, operation).values():
            for link in answer.get("links", {}).values():
                parameters = {one["name"] for one in by_name[link["operationId"]]["parameters"]}
                assert set(link["parameters"]) <= parameters
                followed += 1
    assert followed > 10


def test_the_document_says_whose_it_is(made: Json) -> None:
    """It names relay's version, the place it is served at as a relative one, and every tag that is used."""
    assert made["info"]["version"] == __version__
    assert [server["url"] for server in made["servers"]] == ["/"]
    assert {tag["name"] for tag in made["tags"]} == {
        operation["tags"][0] for methods in made["paths"].values() for operation in methods.values()
    }
    assert all(tag["description"] for tag in made["tags"])


# -- the page --------------------------------------------------------------------------------------------------------

VOID = {"meta", "wbr", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """Reads a page, and fails where its elements are not well nested."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.seen.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Leave an element: the one that was opened last."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Note text."""
        self.text += data

    def values(self, name: str) -> list[str]:
        """All values of an attribute."""
        return [attributes[name] or "" for _, attributes in self.seen if name in attributes]


@pytest.fixture(scope="module")
def read(made: Json) -> Page:
    """The page, read."""
    return Page(page(made))


def test_the_page_has_every_operation_and_schema(made: Json, operations: list[Found], read: Page) -> None:
    """Each operation and schema has a place of its own, and every link on the page leads to one."""
    ids = read.values("id")
    assert len(set(ids)) == len(ids)
    for path, method, operation in operations:
        assert operation["operationId"] in ids
        assert path in read.text
        assert method.upper() in read.text
    assert {f"schema-{name}" for name in made["components"]["schemas"]} <= set(ids)
    inside = {place.removeprefix("#") for place in read.values("href") if place.startswith("#")}
    assert inside <= set(ids)


def test_the_page_loads_nothing_and_runs_nothing(read: Page) -> None:
    """There are no scripts, no styles on elements, and no address but relative ones; the policy allows no more."""
    tags = {tag for tag, _ in read.seen}
    assert not tags & {"script", "link", "img", "iframe", "object", "embed", "form", "base"}
    names = {name for _, attributes in read.seen for name in attributes}
    assert not [name for name in names if name == "style" or name.startswith("on")]
    assert not read.values("src")
    assert {place for place in read.values("href") if not place.startswith("#")} == {"openapi.json"}
    allowed = policy()
    assert "unsafe" not in allowed
    assert allowed.startswith("default-src 'none'; style-src 'sha256-")
    assert "http" not in allowed


def test_the_policy_allows_the_very_style_of_the_page(made: Json) -> None:
    """The hash in the policy is that of the style as it stands in the page: else it would be shown without."""
    style = page(made).partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in policy()
    assert "url(" not in style
    assert "@import" not in style


def test_the_page_can_be_read_without_eyes_or_a_mouse(read: Page) -> None:
    """It has a language, one heading of the first rank, landmarks, a way past the contents, and heads of tables."""
    tags = [tag for tag, _ in read.seen]
    assert ("html", {"lang": "en"}) in read.seen
    assert tags.count("h1") == tags.count("main") == tags.count("nav") == 1
    assert next(one for one in read.seen if one[0] == "a") == ("a", {"href": "#main", "class": "skip"})
    ranks = [int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)]
    assert all(later - earlier <= 1 for earlier, later in itertools.pairwise(ranks))
    assert all("scope" in attributes for tag, attributes in read.seen if tag == "th")
    for tag, attributes in read.seen:
        if tag == "pre" or attributes.get("class") == "table":
            assert attributes["tabindex"] == "0", "what scrolls must be reached by the keyboard"
            assert attributes["aria-label"]


def test_the_page_shows_text_as_text(made: Json) -> None:
    """What looks like HTML in the document is not HTML in the page."""
    hostile = "</style></script><script>alert(1)</script><b>"
    changed = json.loads(json.dumps(made))
    changed["info"]["description"] = hostile
    changed["paths"]["/v1/batches"]["get"]["summary"] = hostile
    changed["components"]["schemas"]["Batch"]["properties"]["id"]["description"] = hostile
    read = Page(page(changed))
    assert not {tag for tag, _ in read.seen} & {"script", "b"}
    assert read.text.count("</style></script><script>alert(1)</script><b>") == 3
