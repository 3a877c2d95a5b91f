"""CloudEvents 1.0: structured, binary and batched, as the HTTP binding and the JSON event format have them."""

import base64
import contextlib
import json
from collections.abc import Mapping
from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from relay.errors import Invalid
from relay.receive.cloudevents import is_binary
from relay.receive.formats import Format
from relay.receive.limits import Limits
from relay.receive.parse import InvalidWebhook, Malformed, Refused, Webhook
from relay.settings import Source

STRUCTURED = "application/cloudevents+json"
BATCHED = "application/cloudevents-batch+json"
JSON = "application/json"
DATA = {"email": "taro@example.jp", "name": "髙橋 太郎"}
EVENT: dict[str, object] = {
    "specversion": "1.0",
    "id": "A234-1234-1234",
    "source": "/crm/readers",
    "type": "com.example.crm.customer.created",
    "subject": "7",
    "time": "2026-04-01T09:00:00+09:00",
    "comexampleextension1": "value",
    "comexampleothervalue": 5,
    "datacontenttype": "application/json; charset=utf-8",
    "data": DATA,
}
HEADERS = {
    "Ce-Specversion": "1.0",
    "Ce-Id": "A234-1234-1234",
    "Ce-Source": "/crm/readers",
    "Ce-Type": "com.example.crm.customer.created",
    "Ce-Time": "2026-04-01T09:00:00%2B09:00",
}
LIMITS = Limits(nesting_max=8, string_characters_max=1_000)


def format_of(**source: object) -> Format:
    """The format of a source with these settings."""
    return Format(Source.model_validate({"bearer_tokens": ["t"], "accounts": ["news"], **source}), LIMITS)


FORMAT = format_of()


def structured(event: object, form: Format = FORMAT, headers: Mapping[str, str] | None = None) -> Webhook:
    """Read an event in structured mode."""
    return form.one(CIMultiDict(headers or {}), STRUCTURED, json.dumps(event).encode())


def binary(headers: Mapping[str, str], data: object = DATA, form: Format = FORMAT) -> Webhook:
    """Read an event in binary mode."""
    return form.one(CIMultiDict(headers), JSON, json.dumps(data).encode())


def without(members: Mapping[str, object], *names: str) -> dict[str, object]:
    """The members but for some."""
    return {name: value for name, value in members.items() if name not in names}


def fields(error: pytest.ExceptionInfo[Invalid]) -> list[str]:
    """The fields that a refusal names."""
    return [problem.field for problem in error.value.problems]


EXPECTED = ("A234-1234-1234", "customer.created", "2026-04-01T09:00:00+09:00", DATA)


def told(webhook: Webhook) -> tuple[str, str, object, object]:
    """What a webhook says."""
    return webhook.message_id, webhook.type, webhook.timestamp, webhook.data


# -- structured ------------------------------------------------------------------------------------------------------


def test_a_structured_event() -> None:
    """`id` names the webhook, the end of `type` says what happened, `time` when; the rest does not matter."""
    webhook = structured(EVENT)
    assert told(webhook) == EXPECTED
    assert webhook.sent_type == "com.example.crm.customer.created"
    assert webhook.time_at.field == "time"


def test_an_event_in_plain_json() -> None:
    """A body that says of itself that it is an event is read as one, whatever its media type, which no one signs."""
    assert told(FORMAT.one({"webhook-id": "other"}, JSON, json.dumps(EVENT).encode())) == EXPECTED


def test_the_events_id_is_the_webhooks() -> None:
    """Also where Standard Webhooks sign it under an id of theirs, and where its attributes stand in headers too."""
    assert told(structured(EVENT, headers={"webhook-id": "msg_7", **HEADERS, "Ce-Id": "other"})) == EXPECTED


def test_base64() -> None:
    """Data may come as JSON in base64."""
    encoded = base64.b64encode(json.dumps(DATA).encode()).decode()
    assert told(structured({**without(EVENT, "data"), "data_base64": encoded})) == EXPECTED
    assert told(structured({**EVENT, "data": None, "data_base64": encoded})) == EXPECTED


@pytest.mark.parametrize(
    "kind", [None, "application/json", "text/json", "Application/JSON", "application/vnd.example+json; v=2", "json"]
)
def test_kinds_of_data_that_are_json(kind: str | None) -> None:
    """`datacontenttype` may be absent or any kind of JSON."""
    assert structured({**EVENT, "datacontenttype": kind}).data == DATA


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"specversion": "0.3"}, ["specversion"]),
        ({"specversion": "1.0.2"}, ["specversion"]),
        ({"specversion": 1.0}, ["specversion"]),
        ({"specversion": None}, ["specversion"]),
        ({"id": None}, ["id"]),
        ({"id": 7}, ["id"]),
        ({"id": "髙"}, ["id"]),
        ({"type": "com.example.customer.exploded"}, ["type"]),
        ({"type": None}, ["type"]),
        ({"type": ["customer.created"]}, ["type"]),
        ({"data": None}, ["data"]),
        ({"data": "text"}, ["data"]),
        ({"data": [DATA]}, ["data"]),
        ({"datacontenttype": "application/xml"}, ["datacontenttype"]),
        ({"datacontenttype": "text/plain", "data": "x"}, ["datacontenttype"]),
        ({"datacontenttype": 7}, ["datacontenttype"]),
        ({"data_base64": "e30="}, ["data_base64"]),
        ({"data": None, "data_base64": "!"}, ["data_base64"]),
        ({"data": None, "data_base64": "髙"}, ["data_base64"]),
        ({"data": None, "data_base64": 7}, ["data_base64"]),
        ({"data": None, "data_base64": "W10="}, ["data_base64"]),
        ({"data": None, "data_base64": base64.b64encode(b'{"a":1,"a":2}').decode()}, ["data_base64"]),
        ({"data": None, "data_base64": base64.b64encode(b"\xff\xfe{}").decode()}, ["data_base64"]),
        (
            {"data": None, "data_base64": base64.b64encode(b'{"a":' + b"[" * 9 + b"]" * 9 + b"}").decode()},
            ["data_base64"],
        ),
        ({"specversion": "2", "id": "", "type": "", "data": 1}, ["specversion", "id", "type", "data"]),
    ],
)
def test_what_is_wrong_with_an_event(change: dict[str, object], named: list[str]) -> None:
    """Each attribute that is needed and wrong is named, all at once and without its value."""
    with pytest.raises(InvalidWebhook) as error:
        structured({**EVENT, **change})
    assert fields(error) == named
    assert "taro" not in str(error.value)


def test_the_limits_hold_inside_base64() -> None:
    """Text too long for a string is found in base64 as well; the event itself holds no such string only if short."""
    encoded = base64.b64encode(json.dumps({"x": "a" * 1_001}).encode()).decode()
    with pytest.raises(Malformed):
        structured({**without(EVENT, "data"), "data_base64": encoded})
    short = Format(Source.model_validate({"bearer_tokens": ["t"], "accounts": ["news"]}), Limits(nesting_max=3))
    deep = base64.b64encode(b'{"a":[[[]]]}').decode()
    with pytest.raises(Invalid) as error:
        structured({**without(EVENT, "data"), "data_base64": deep}, short)
    assert fields(error) == ["data_base64"]


def test_many_at_the_door_for_one() -> None:
    """Who posts a batch to the wrong address is told so."""
    with pytest.raises(Invalid) as error:
        FORMAT.one({}, BATCHED, json.dumps([EVENT]).encode())
    assert fields(error) == ["body"]
    assert "/batch" in str(error.value)


@pytest.mark.parametrize("kind", ["com.example.customer.deleted", "customer.stopped", "x.customer.banned"])
@pytest.mark.parametrize(
    "odd",
    [
        {"source": None},
        {"source": 7, "subject": [], "dataschema": "not a uri", "comexample": {"nested": 1}},
        {"time": "yesterday"},
        {"time": 7},
        {"datacontenttype": "application/xml"},
        {"datacontenttype": 7},
        {"UPPER": 1, "with-dash": 2},
    ],
)
def test_nothing_of_no_use_keeps_an_opt_out_out(kind: str, odd: dict[str, object]) -> None:
    """Whatever is wrong with attributes that an opt-out does not need, it is read."""
    webhook = structured({**EVENT, "type": kind, **odd})
    assert webhook.data == DATA
    assert kind.endswith(webhook.type)


@pytest.mark.parametrize("change", [{"specversion": "0.3"}, {"id": ""}, {"data": 7}, {"data_base64": "e30="}])
def test_a_refused_opt_out_can_be_told(change: dict[str, object]) -> None:
    """What cannot be read of an opt-out is told to be one, alone and among many."""
    event = {**EVENT, "type": "com.example.customer.deleted", **change}
    with pytest.raises(InvalidWebhook) as error:
        structured(event)
    assert error.value.type == "customer.deleted"
    (refused,) = FORMAT.many({}, BATCHED, json.dumps([event]).encode())
    assert isinstance(refused, Refused)
    assert refused.opt_out


def test_a_sources_own_types_come_first() -> None:
    """A source may have names that do not end in relay's, and may mean something else by one that does."""
    form = format_of(
        types={"jp.example.taikai": "customer.deleted", "com.example.customer.created": "customer.updated"}
    )
    assert structured({**EVENT, "type": "jp.example.taikai"}, form).type == "customer.deleted"
    assert structured({**EVENT, "type": "com.example.customer.created"}, form).type == "customer.updated"
    assert binary({**HEADERS, "Ce-Type": "jp.example.taikai"}, form=form).type == "customer.deleted"


# -- binary ----------------------------------------------------------------------------------------------------------


def test_a_binary_event() -> None:
    """The attributes are headers of any case, percent-encoded, and the body is the data."""
    webhook = binary(HEADERS)
    assert told(webhook) == EXPECTED
    assert webhook.time_at.field == "ce-time"


def test_without_a_time() -> None:
    """An event that does not say when has no timestamp."""
    assert binary({name: value for name, value in HEADERS.items() if name != "Ce-Time"}).timestamp is None


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("plain", "plain"),
        ("a%20b", "a b"),
        ("a%2fb%2Fc", "a/b/c"),
        ("100%25", "100%"),
        ("%2525", "%25"),
        ('"quoted"', "quoted"),
        (r'"a \"b\" \\ c"', r'a "b" \ c'),
        ('"a%20b"', "a b"),
        ("50%", "50%"),
        ('say "a b"', 'say "a b"'),
        ('"open', '"open'),
        (r'"a\"', r'"a\"'),
        ("%zz", "%zz"),
    ],
)
def test_header_values(written: str, value: str) -> None:
    """Values are taken out of double quotes and percent-decoded, each once, as the HTTP binding has it."""
    assert binary({**HEADERS, "Ce-Id": written}).message_id == value


@pytest.mark.parametrize("written", ["%C0%A0", "%FF", "%ED%A0%80", "Euro%20%E2%82%AC", "\udcff", "%00", "a%0A", ""])
def test_ids_that_cannot_be(written: str) -> None:
    """What is no UTF-8 after decoding, or holds what an id may not, is refused by the header's name."""
    with pytest.raises(Invalid) as error:
        binary({**HEADERS, "Ce-Id": written})
    assert fields(error) == ["ce-id"]


def test_what_is_wrong_with_headers() -> None:
    """Each header that is wrong is named, and the body where it is no object."""
    with pytest.raises(InvalidWebhook) as error:
        binary({"Ce-Specversion": "0.3"}, [])
    assert fields(error) == ["ce-specversion", "ce-id", "ce-type", "body"]
    with pytest.raises(InvalidWebhook) as error:
        binary({**HEADERS, "Ce-Type": "com.example.customer.stopped"}, "text")
    assert (fields(error), error.value.type) == (["body"], "customer.stopped")


def test_hostile_quotes_take_no_time() -> None:
    """A header of nothing but quotes and backslashes is read in one go, however long."""
    started = perf_counter()
    for hostile in ('"' + r"\"" * 100_000, '"' * 200_000, '"' + "\\" * 200_000):
        with pytest.raises(Invalid):
            binary({**HEADERS, "Ce-Id": hostile})
    assert perf_counter() - started < 2


@pytest.mark.parametrize("time", ["%FF", "yesterday", "\udcff", '"', ""])
def test_a_time_of_no_use_is_passed_on(time: str) -> None:
    """What a time that cannot be read means is for the operation to decide: an opt-out is not kept out by it."""
    webhook = binary({**HEADERS, "Ce-Type": "customer.deleted", "Ce-Time": time})
    assert webhook.timestamp == time
    assert webhook.canonical().isascii()


def test_what_is_binary() -> None:
    """Only a request with a version among its headers that is not structured."""
    assert is_binary(CIMultiDict(HEADERS), JSON)
    assert not is_binary(CIMultiDict(HEADERS), STRUCTURED)
    assert not is_binary(CIMultiDict({"Ce-Id": "1"}), JSON)


def test_what_signatures_cover() -> None:
    """A signature covers a body and never an event's headers; a plain source reads no events at all."""
    plain = format_of(plain={"id": "id", "type": "type"})
    assert not FORMAT.signatures_cover(CIMultiDict(HEADERS), JSON)
    assert FORMAT.signatures_cover(CIMultiDict(HEADERS), STRUCTURED)
    assert FORMAT.signatures_cover(CIMultiDict(), JSON)
    assert plain.signatures_cover(CIMultiDict(HEADERS), JSON)


# -- many ------------------------------------------------------------------------------------------------------------


def test_a_batch() -> None:
    """The batch format is an array of events, each read on its own."""
    events = [EVENT, {**EVENT, "id": "2", "specversion": "0.3"}, {**EVENT, "id": "3"}, 7, without(EVENT, "specversion")]
    read = list(FORMAT.many({}, BATCHED, json.dumps(events).encode()))
    assert [type(entry) for entry in read] == [Webhook, Refused, Webhook, Refused, Refused]
    assert [entry.message_id for entry in read] == ["A234-1234-1234", "2", "3", None, "A234-1234-1234"]


@pytest.mark.parametrize("kind", [JSON, "application/x-ndjson"])
def test_events_among_webhooks(kind: str) -> None:
    """Among many, events and webhooks in relay's own form may stand side by side."""
    own = {"id": "w1", "type": "customer.deleted", "data": DATA}
    body = json.dumps([EVENT, own]) if kind == JSON else f"{json.dumps(EVENT)}\n{json.dumps(own)}\n"
    read = list(FORMAT.many(CIMultiDict(HEADERS), kind, body.encode()))
    assert [(entry.message_id, type(entry)) for entry in read] == [("A234-1234-1234", Webhook), ("w1", Webhook)]


# -- whatever comes --------------------------------------------------------------------------------------------------

ANY_TEXT = st.text(st.characters(), max_size=8) | st.sampled_from(["customer.deleted", "1.0", "%E9", '"\\', "w1"])
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=8,
)
ATTRIBUTES = ["specversion", "id", "type", "time", "data", "data_base64", "datacontenttype"]


@given(
    st.dictionaries(st.sampled_from([f"ce-{name}" for name in ATTRIBUTES]), ANY_TEXT),
    ANY_JSON | st.fixed_dictionaries({}, optional=dict.fromkeys(ATTRIBUTES, ANY_JSON)),
    st.sampled_from([JSON, STRUCTURED, BATCHED]),
)
def test_any_request_is_a_webhook_or_refused(headers: dict[str, str], body: object, kind: str) -> None:
    """Whatever stands in headers and body, there is a webhook with a digest, or a refusal that names fields."""
    raw = json.dumps(body).encode()
    with contextlib.suppress(InvalidWebhook):
        assert FORMAT.one(CIMultiDict(headers), kind, raw).canonical().isascii()
    for entry in FORMAT.many(CIMultiDict(headers), kind, b"[" + raw + b"]"):
        assert entry.canonical() if isinstance(entry, Webhook) else entry.problems
