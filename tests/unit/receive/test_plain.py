"""Plain bodies: from whatever a sender sends to a webhook, by what its source's settings say."""

import json
import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from relay.errors import Invalid
from relay.receive.formats import Format
from relay.receive.limits import Limits
from relay.receive.mapping import Said
from relay.receive.parse import InvalidWebhook, Malformed, Refused, Webhook
from relay.settings import Source

README = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
JSON = "application/json"
LINES = "application/x-ndjson"
PLAIN: dict[str, object] = {"id": "event.number", "type": "event.name", "time": "event.at", "data": "customer"}
TYPES = {"made": "customer.created", "gone": "customer.deleted"}
BODY: dict[str, object] = {
    "event": {"number": "e1", "name": "made", "at": "2026-04-01T09:00:00+09:00"},
    "customer": {"email": "a@example.jp"},
}


def format_of(types: Mapping[str, str] = TYPES, /, **plain: object) -> Format:
    """The format of a source whose bodies are like `PLAIN`, but for what is given."""
    source = {"bearer_tokens": ["t"], "accounts": ["news"], "types": types, "plain": {**PLAIN, **plain}}
    return Format(Source.model_validate(source), Limits(nesting_max=8, string_characters_max=1_000))


FORMAT = format_of()


def one(body: object, form: Format = FORMAT, headers: Mapping[str, str] | None = None) -> Webhook:
    """Read one body."""
    return form.one(CIMultiDict(headers or {}), JSON, body if isinstance(body, bytes) else json.dumps(body).encode())


def event(**members: object) -> dict[str, object]:
    """A body with these members of its event, those that are None left out."""
    named = {"number": "e1", "name": "made", "at": "2026-04-01T09:00:00+09:00", **members}
    return {**BODY, "event": {name: value for name, value in named.items() if value is not None}}


def problems(error: pytest.ExceptionInfo[Invalid]) -> list[tuple[str, str]]:
    """The fields that a refusal names, each with the beginning of what was expected."""
    return [(problem.field, problem.message[:20]) for problem in error.value.problems]


def test_paths_into_the_body() -> None:
    """Id, type, time and data are where the settings say, and the type is translated."""
    webhook = one(BODY)
    assert (webhook.message_id, webhook.type, webhook.data) == ("e1", "customer.created", {"email": "a@example.jp"})
    assert (webhook.timestamp, webhook.sent_type) == ("2026-04-01T09:00:00+09:00", "made")


def test_headers() -> None:
    """Each of them may be in a header, whose name has no case; data is the whole body unless the settings say else."""
    form = format_of(id={"header": "X-Id"}, type={"header": "X-Topic"}, time={"header": "X-At"}, data="@")
    headers = {"x-id": "h1", "x-topic": "gone", "X-AT": "2026-04-01T00:00:00Z"}
    webhook = one({"email": "a@example.jp"}, form, headers)
    assert (webhook.message_id, webhook.type, webhook.timestamp) == ("h1", "customer.deleted", "2026-04-01T00:00:00Z")
    assert webhook.data == {"email": "a@example.jp"}


def test_expressions() -> None:
    """Anything else is JMESPath: alternatives, conditions, made-up objects."""
    form = format_of(
        {"no": "customer.stopped"},
        id="join('-', [to_string(shop), reference || event.number])",
        type="consent.marketing.state",
        data="{email: contacts[?main].address | [0], name: name}",
    )
    body = {
        "shop": 7,
        "event": {"number": "e1"},
        "consent": {"marketing": {"state": "no"}},
        "contacts": [{"address": "b@example.jp"}, {"address": "a@example.jp", "main": True}],
    }
    webhook = one(body, form)
    assert (webhook.message_id, webhook.type) == ("7-e1", "customer.stopped")
    assert webhook.data == {"email": "a@example.jp", "name": None}


@pytest.mark.parametrize(("given", "message_id"), [(7, "7"), (0, "0"), (-1, "-1"), (2**63, str(2**63)), ("7", "7")])
def test_whole_numbers_are_ids(given: object, message_id: str) -> None:
    """Many systems count: a whole number becomes text."""
    assert one(event(number=given)).message_id == message_id


@pytest.mark.parametrize(
    ("given", "types", "kind"),
    [
        (2, {"2": "customer.stopped"}, "customer.stopped"),
        (False, {"true": "customer.allowed", "false": "customer.stopped"}, "customer.stopped"),
        ("customer.banned", {}, "customer.banned"),
    ],
)
def test_types_that_are_no_text(given: object, types: Mapping[str, str], kind: str) -> None:
    """Numbers and booleans can be translated, too, and relay's own names need no translation."""
    assert one(event(name=given), format_of(types)).type == kind


@pytest.mark.parametrize("given", [None, "", 1.5, True, [], {}, "髙橋", "a" * 201, "a\n", "\ud800", 10**300])
def test_ids_that_cannot_be(given: object) -> None:
    """Anything else is refused by the place where it was looked for."""
    with pytest.raises(Invalid) as error:
        one(event(number=given))
    assert [field for field, _ in problems(error)] == ["body event.number"]
    assert "200 printable ASCII characters, or a whole number" in str(error.value)


def test_all_mistakes_are_told_as_the_operator_wrote_the_places() -> None:
    """Each place that has not what it should is named as the settings name it, with what was expected there."""
    form = format_of(id={"header": "X-Shop-Id"}, data="customers[0]")
    with pytest.raises(InvalidWebhook) as error:
        one({}, form)
    assert problems(error) == [
        ("header X-Shop-Id", "expected 1 to 200 pr"),
        ("body event.name", "expected one of made"),
        ("body customers[0]", "expected a JSON obje"),
    ]
    with pytest.raises(InvalidWebhook) as error:
        one([], format_of(data="@"), {})
    assert problems(error)[-1] == ("body", "expected a JSON obje")


def test_a_refused_opt_out_can_be_told() -> None:
    """An opt-out whose id or data cannot be read is told to be one, and with its id where that can be."""
    bodies = [event(name="gone", number=""), {**event(name="gone"), "customer": None}, {**BODY, "customer": None}]
    kinds = []
    for body in bodies:
        with pytest.raises(InvalidWebhook) as error:
            one(body)
        kinds.append(error.value.type)
    assert kinds == ["customer.deleted", "customer.deleted", "customer.created"]
    refused = [entry for entry in FORMAT.many({}, JSON, json.dumps(bodies).encode()) if isinstance(entry, Refused)]
    assert [(entry.message_id, entry.opt_out) for entry in refused] == [(None, True), ("e1", True), ("e1", False)]


def test_limits() -> None:
    """The limits of depth and length hold for plain bodies as for all, and tell what was asked for."""
    with pytest.raises(Malformed) as error:
        one({**event(name="gone"), "note": "a" * 1_001})
    assert (error.value.limit, error.value.type) == ("string_characters", "customer.deleted")
    with pytest.raises(Malformed) as error:
        one({**BODY, "note": [[[[[[[[]]]]]]]]})
    assert error.value.limit == "nesting"


def test_a_plain_source_reads_its_own_form_only() -> None:
    """Nothing in a body or in headers makes a plain source read relay's own form, or an event."""
    own = {"id": "w1", "type": "customer.deleted", "data": {"email": "a@example.jp"}, "specversion": "1.0"}
    headers = {"ce-specversion": "1.0", "ce-id": "1", "ce-type": "customer.deleted", "webhook-id": "w1"}
    for kind in (JSON, "application/cloudevents+json"):
        with pytest.raises(Invalid) as error:
            FORMAT.one(CIMultiDict(headers), kind, json.dumps(own).encode())
        assert [field for field, _ in problems(error)] == ["body event.number", "body event.name", "body customer"]


# -- when it happened ------------------------------------------------------------------------------------------------

APRIL = datetime(2026, 4, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("time_format", "given"),
    [
        ("iso8601", "2026-04-01T09:00:00+09:00"),
        ("unix", 1775001600),
        ("unix", 1775001600.0),
        ("unix", "1775001600"),
        ("unix", "1775001600.000"),
        ("unix_ms", 1775001600000),
        ("unix_ms", "1775001600000"),
        ("unix_ms", 1775001600000.0),
        ("unix", "2026-04-01T00:00:00Z"),
    ],
)
def test_times(time_format: str, given: object) -> None:
    """A moment may be ISO 8601, or seconds or milliseconds since 1970, as a number or as its digits."""
    webhook = one(event(at=given), format_of(time_format=time_format))
    assert Said.of(webhook.timestamp) == Said(APRIL)


def test_fractions_of_a_second() -> None:
    """Milliseconds are kept exactly: they decide which of two changes is the later."""
    for time_format, at in (("unix_ms", 1775001600001), ("unix", 1775001600.001), ("unix", "1775001600.001")):
        webhook = one(event(at=at), format_of(time_format=time_format))
        assert Said.of(webhook.timestamp) == Said(APRIL.replace(microsecond=1000))


@pytest.mark.parametrize("time_format", ["iso8601", "unix", "unix_ms"])
@pytest.mark.parametrize(
    "given",
    [
        "",
        "yesterday",
        True,
        [],
        {},
        10**30,
        -(10**30),
        1e300,
        "9" * 400,
        "1e9",
        "0x10",
        " 1775001600",
        "１７７５００１６００",
    ],
)
def test_times_of_no_use_are_passed_on(time_format: str, given: object) -> None:
    """What cannot be read is passed on with the place where it was looked for: the operation decides about it."""
    webhook = one(event(at=given), format_of(time_format=time_format))
    assert webhook.time_at.field == "body event.at"
    fault = Said.of(webhook.timestamp, webhook.time_at.expected).fault
    assert fault is not None
    assert {"iso8601": "ISO 8601", "unix": "Unix seconds", "unix_ms": "Unix milliseconds"}[time_format] in fault


def test_seconds_for_milliseconds() -> None:
    """The wrong unit gives a moment that cannot be, and is told."""
    for time_format, at in (("unix_ms", 1775001600), ("unix", 1775001600000)):
        webhook = one(event(at=at), format_of(time_format=time_format))
        assert Said.of(webhook.timestamp, webhook.time_at.expected).fault is not None


@pytest.mark.parametrize("at", ["nan", "inf", "-inf", "1e999", "9" * 400])
def test_what_an_expression_makes_of_a_time(at: str) -> None:
    """An expression can make numbers that JSON does not have; they are times of no use, and nothing breaks."""
    webhook = one(event(at=at), format_of(time="to_number(event.at)", time_format="unix"))
    assert Said.of(webhook.timestamp, webhook.time_at.expected).fault is not None
    assert webhook.canonical()


def test_what_an_expression_makes_of_long_numbers() -> None:
    """Sums of the longest numbers that are read can still be digested, and are no ids."""
    body = {**event(), "numbers": [int("9" * 4000)] * 1000, "customer": {"n": 1}}
    assert one(body, format_of(data="{sum: sum(numbers)}")).canonical()
    with pytest.raises(Invalid):
        one(body, format_of(id="sum(numbers)"))


def test_without_a_time() -> None:
    """A body that does not say when, or a source that does not say where, counts from arrival."""
    assert one(event(at=None)).timestamp is None
    assert one(event(at=None), format_of(time_format="unix")).timestamp is None
    assert one(BODY, format_of(time=None)).timestamp is None


# -- many ------------------------------------------------------------------------------------------------------------


def test_many_bodies() -> None:
    """Each entry of an array, and each line, is one body; what stands in a header is the same for all."""
    form = format_of(type={"header": "X-Topic"})
    bodies = [event(number=1), event(number=None), event(number=3)]
    written = {JSON: json.dumps(bodies), LINES: "\n".join(map(json.dumps, bodies))}
    for kind, text in written.items():
        read = list(form.many(CIMultiDict({"x-topic": "gone"}), kind, text.encode()))
        assert [(type(entry), entry.message_id) for entry in read] == [(Webhook, "1"), (Refused, None), (Webhook, "3")]
        assert [entry.type for entry in read if isinstance(entry, Webhook)] == ["customer.deleted"] * 2


def test_an_id_in_a_header_names_but_one() -> None:
    """Many bodies under one id would be one webhook: they are refused as a whole, with the place."""
    with pytest.raises(Invalid) as error:
        format_of(id={"header": "X-Id"}).many(CIMultiDict({"X-Id": "1"}), JSON, json.dumps([BODY]).encode())
    assert [field for field, _ in problems(error)] == ["header X-Id"]


# -- whatever comes --------------------------------------------------------------------------------------------------

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3),
    max_leaves=10,
)
EXPRESSIONS = [
    "a.b",
    "a[0].b",
    "sum(a)",
    "avg(b)",
    "sort_by(a, &b)",
    "join(a, b)",
    "to_number(a)",
    "a[*].b | [0]",
    "max(a)",
]


@given(ANY_JSON, st.sampled_from(EXPRESSIONS), st.sampled_from(EXPRESSIONS), st.sampled_from(["unix", "unix_ms"]))
def test_any_body_is_a_webhook_or_refused(body: object, path: str, other: str, time_format: str) -> None:
    """Whatever comes, and whatever the expression makes of it: a webhook with a digest, or each place at fault."""
    form = format_of(id=path, type=other, time=path, data=other, time_format=time_format)
    (read,) = form.many({}, JSON, json.dumps([body]).encode())
    if isinstance(read, Webhook):
        assert read.canonical()
    else:
        assert read.problems


# -- README's example ------------------------------------------------------------------------------------------------


def test_a_shops_delete_has_the_id_alone() -> None:
    """README's shop: who is deleted comes as an opt-out with nothing but the customer's id, which settings name."""
    start = README.index("```toml\n[sources.store]") + len("```toml\n")
    example = tomllib.loads(README[start : README.index("```", start)])["sources"]["store"]
    source = Source.model_validate(example, context={"env": {"STORE_SECRET": "s"}})
    headers = CIMultiDict({"x-shopify-topic": "customers/delete", "x-shopify-webhook-id": "w1"})
    webhook = Format(source, Limits()).one(headers, JSON, b'{"id": 706405506930370084}')
    assert (webhook.message_id, webhook.type, webhook.timestamp) == ("w1", "customer.deleted", None)
    assert webhook.data == {"id": 706405506930370084}
    assert source.customer_id == "id"
