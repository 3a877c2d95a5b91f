"""relay's own form, one webhook or many: what is read, what is wrong with everything else, and who is counted."""

import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from relay.errors import Invalid
from relay.events import TYPES
from relay.receive.asked import AskedWebhook
from relay.receive.auth import Proof
from relay.receive.formats import Format
from relay.receive.limits import Limits
from relay.receive.parse import InvalidWebhook, Malformed, Refused, TooMany, Webhook
from relay.settings import Source

JSON = "application/json"
LINES = "application/x-ndjson"
GOOD = {
    "id": "w1",
    "type": "customer.created",
    "timestamp": "2026-04-01T09:00:00+09:00",
    "data": {"email": "a@example.jp"},
}
LIMITS = Limits(webhooks_max=10, nesting_max=8, string_characters_max=1_000)
TYPE_NAMES = {"reader.gone": "customer.deleted", "reader.new": "customer.created"}


def format_of(**source: object) -> Format:
    """The format of a source with these settings."""
    return Format(Source.model_validate({"bearer_tokens": ["t"], "accounts": ["news"], **source}), LIMITS)


FORMAT = format_of()


def one(body: object, headers: Mapping[str, str] | None = None, form: Format = FORMAT) -> Webhook:
    """Read one webhook from a body: bytes as they are, anything else as JSON."""
    return form.one(headers or {}, JSON, body if isinstance(body, bytes) else json.dumps(body).encode())


def many(body: object, kind: str = JSON, form: Format = FORMAT) -> list[Webhook | Refused]:
    """Read many webhooks from a body."""
    return list(form.many({}, kind, body if isinstance(body, bytes) else json.dumps(body).encode()))


def nested(levels: int) -> bytes:
    """A webhook whose containers are nested so deep, the outermost and `data` included."""
    lists = b"[" * (levels - 2) + b"]" * (levels - 2)
    return b'{"id":"w1","type":"customer.deleted","data":{"x":' + lists + b"}}"


def fields(error: pytest.ExceptionInfo[Invalid]) -> list[str]:
    """The fields that a refusal names."""
    return [problem.field for problem in error.value.problems]


def test_a_webhook_is_read() -> None:
    """A body is read into id, type, timestamp and data; other members do not matter."""
    webhook = one({**GOOD, "extra": [1]})
    assert webhook == Webhook("w1", "customer.created", "2026-04-01T09:00:00+09:00", {"email": "a@example.jp"})


def test_the_header_names_the_webhook() -> None:
    """The id in the header is the webhook's, whatever the body says; without it the body's is."""
    for body in (GOOD, {**GOOD, "id": 7}, {key: value for key, value in GOOD.items() if key != "id"}):
        assert one(body, {"webhook-id": "from-header"}).message_id == "from-header"
    assert one(GOOD).message_id == "w1"


def test_a_sources_own_names_of_types() -> None:
    """A source's own names stand for relay's in relay's own form as well, and the digest is of its own name."""
    webhook = one({**GOOD, "type": "reader.gone"}, form=format_of(types=TYPE_NAMES))
    assert (webhook.type, webhook.sent_type) == ("customer.deleted", "reader.gone")
    assert b"reader.gone" in webhook.canonical()
    with pytest.raises(Invalid) as error:
        one({**GOOD, "type": "reader.gone"})
    assert fields(error) == ["type"]


@pytest.mark.parametrize("body", [[], "text", 1, None, True])
def test_not_an_object(body: object) -> None:
    """A body that is no object is told so."""
    with pytest.raises(Invalid) as error:
        one(body, {"webhook-id": "w1"})
    assert fields(error) == ["body"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"id": ""}, "id"),
        ({"id": None}, "id"),
        ({"id": 7}, "id"),
        ({"id": "a" * 201}, "id"),
        ({"id": "a\u0000"}, "id"),
        ({"id": "a\n"}, "id"),
        ({"id": "鈴木"}, "id"),
        ({"id": "\ud800"}, "id"),
        ({"type": None}, "type"),
        ({"type": "customer.exploded"}, "type"),
        ({"type": "customer.created\u0000"}, "type"),
        ({"type": "\ud800"}, "type"),
        ({"type": ["customer.created"]}, "type"),
        ({"type": {}}, "type"),
        ({"data": None}, "data"),
        ({"data": []}, "data"),
        ({"data": "a@example.jp"}, "data"),
    ],
)
def test_a_wrong_member_is_named(change: dict[str, object], field: str) -> None:
    """Each outer member that is wrong is named, and only it."""
    with pytest.raises(InvalidWebhook) as error:
        one({**GOOD, **change})
    assert fields(error) == [field]
    assert "example.jp" not in str(error.value)


def test_a_wrong_header_is_named() -> None:
    """An unusable id in the header is told as the header's; the body's does not stand in for it."""
    with pytest.raises(Invalid) as error:
        one(GOOD, {"webhook-id": "a" * 201})
    assert fields(error) == ["webhook-id"]


def test_all_mistakes_are_told_at_once() -> None:
    """A sender sees everything that is wrong in one answer."""
    with pytest.raises(Invalid) as error:
        one({})
    assert fields(error) == ["id", "type", "data"]
    with pytest.raises(Invalid) as error:
        one({"type": "customer.exploded", "data": 1}, {"webhook-id": "w1"})
    assert fields(error) == ["type", "data"]


def test_nothing_of_the_body_is_chained_to_a_refusal() -> None:
    """A refusal that ends up in a log brings no pydantic error with it, which quotes what was sent."""
    with pytest.raises(InvalidWebhook) as error:
        one({**GOOD, "id": 7})
    chained = error.value.__context__
    assert isinstance(chained, Invalid)
    assert chained.__context__ is None


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "id": st.text(max_size=5) | JSON_VALUES,
            "type": st.sampled_from([*TYPES, *TYPE_NAMES]) | JSON_VALUES,
            "timestamp": JSON_VALUES,
            "data": st.dictionaries(st.text(max_size=5), JSON_VALUES, max_size=3) | JSON_VALUES,
        },
    ),
    st.none() | st.text(max_size=5),
)
def test_whatever_is_asked_is_read_or_each_mistake_is_named(body: dict[str, object], header_id: str | None) -> None:
    """For any members there is a webhook of just these, or the fields that are wrong, as a plain reading finds them."""
    message_id = body.get("id") if header_id is None else header_id
    kind, data = body.get("type"), body.get("data")
    sound = isinstance(message_id, str) and 0 < len(message_id) <= 200 and all(" " <= one <= "~" for one in message_id)
    wrong = [] if sound else ["id" if header_id is None else "webhook-id"]
    wrong += [] if isinstance(kind, str) and kind in {**TYPES, **TYPE_NAMES} else ["type"]
    wrong += [] if isinstance(data, dict) else ["data"]
    headers = {} if header_id is None else {"webhook-id": header_id}
    form = format_of(types=TYPE_NAMES)
    if wrong:
        with pytest.raises(InvalidWebhook) as error:
            one(body, headers, form)
        assert fields(error) == wrong
    else:
        webhook = one(body, headers, form)
        assert (webhook.message_id, webhook.timestamp, webhook.data) == (message_id, body.get("timestamp"), data)
        assert webhook.type == TYPE_NAMES.get(str(kind), kind)


def test_the_model_is_documentation() -> None:
    """The model says what each member is, with an example that is read as it stands."""
    schema = AskedWebhook.model_json_schema()
    assert schema["required"] == ["id", "type", "data"]
    assert all(member.get("description") for member in schema["properties"].values())
    (example,) = schema["examples"]
    assert one(example).message_id == "msg_1"


# -- what an opt-out may hold ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("odd", ["\u0000", "\ud83d", "\udfff\ud800", "\uffff"])
def test_odd_characters_where_nobody_looks(odd: str) -> None:
    """NUL and half of a pair in data, in keys or in other members are no reason to keep an opt-out out."""
    webhook = one({**GOOD, "type": "customer.deleted", "data": {"name": odd, odd: 1}, odd: odd})
    assert webhook.data == {"name": odd, odd: 1}
    assert webhook.canonical().isascii()


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({**GOOD, "type": "customer.deleted", "id": ""}, "customer.deleted"),
        ({**GOOD, "type": "customer.stopped", "data": "a@example.jp"}, "customer.stopped"),
        ({**GOOD, "type": "customer.banned", "data": None, "id": 1}, "customer.banned"),
        ({**GOOD, "type": "customer.created", "data": None}, "customer.created"),
        ({**GOOD, "type": "customer.exploded"}, None),
        ({**GOOD, "type": 7}, None),
        ([], None),
    ],
)
def test_a_refused_opt_out_can_be_told(body: dict[str, object], kind: str | None) -> None:
    """What a refused webhook asked for is told with the refusal, alone and among many: opt-outs are counted."""
    with pytest.raises(InvalidWebhook) as error:
        one(body)
    assert error.value.type == kind
    (refused,) = many([body])
    assert isinstance(refused, Refused)
    assert refused.opt_out is (kind not in (None, "customer.created"))


@pytest.mark.parametrize(
    ("body", "limit"),
    [
        (nested(LIMITS.nesting_max + 1), "nesting"),
        (b'{"id":"w1","type":"customer.deleted","data":{"x":"' + b"a" * 1_001 + b'"}}', "string_characters"),
    ],
)
def test_an_opt_out_beyond_a_limit_can_be_told(body: bytes, limit: str) -> None:
    """Too deep and too long are refused with the limit's name, the id and what was asked for."""
    with pytest.raises(Malformed) as error:
        one(body)
    assert (error.value.limit, error.value.type) == (limit, "customer.deleted")
    for read in (many(b"[" + body + b"]"), many(body, LINES)):
        (refused,) = read
        assert isinstance(refused, Refused)
        assert (refused.message_id, refused.opt_out, refused.limit) == ("w1", True, limit)


@pytest.mark.parametrize(
    ("body", "kind"),
    [(b"[" + b"{}," * 1_000 + b"{}]", JSON), ((b"[" + b"0," * 200 + b"0]\n") * 5, LINES), (b"\n" * 1_000, LINES)],
)
def test_many_small_values_are_not_even_decoded(body: bytes, kind: str) -> None:
    """A body that would take many times its size in memory is refused before it is read."""
    limited = Format(Source.model_validate({"bearer_tokens": ["t"], "accounts": ["news"]}), Limits(values_max=1_000))
    with pytest.raises(Malformed, match="more than 1000 values") as error:
        limited.many({}, kind, body)
    assert error.value.limit == "values"


def test_the_limits_are_the_settings() -> None:
    """What is within the limits is read, up to the last level and character."""
    assert one(nested(LIMITS.nesting_max)).type == "customer.deleted"
    assert one({**GOOD, "data": {"x": "a" * 1_000}}).data == {"x": "a" * 1_000}


def test_an_id_that_nothing_proves_is_not_taken() -> None:
    """A body that was recorded with its signature is the same webhook whatever header it is sent with."""
    headers = CIMultiDict({"Webhook-ID": "other", "X-Kept": "1"})
    trusted = FORMAT.trusted(headers, Proof.BODY)
    assert one(GOOD, trusted).message_id == "w1"
    assert trusted["x-kept"] == "1"
    for proof in (Proof.TOKEN, Proof.SIGNATURE):
        assert one(GOOD, FORMAT.trusted(headers, proof)).message_id == "other"
    plain = format_of(plain={"id": {"header": "webhook-id"}, "type": "type"})
    assert plain.trusted(headers, Proof.BODY) is headers


# -- many at once ----------------------------------------------------------------------------------------------------


def test_an_array_keeps_its_order() -> None:
    """Entries come in the order of the array, the wrong ones in their places with their id where that is sound."""
    read = many([GOOD, {**GOOD, "id": "w2", "type": "x"}, {**GOOD, "id": ""}, 7, {**GOOD, "id": "w5"}])
    assert [type(entry) for entry in read] == [Webhook, Refused, Refused, Refused, Webhook]
    assert [entry.message_id for entry in read] == ["w1", "w2", None, None, "w5"]


def test_a_header_names_no_entry() -> None:
    """Among many each entry has its own id; the header's is the request's."""
    assert [entry.message_id for entry in FORMAT.many({"webhook-id": "h"}, JSON, json.dumps([GOOD]).encode())] == ["w1"]


def test_each_entry_has_its_own_depth() -> None:
    """An entry that is nested too deep is refused alone."""
    deep, good = many(b"[" + nested(LIMITS.nesting_max + 1) + b"," + nested(LIMITS.nesting_max) + b"]")
    assert isinstance(deep, Refused)
    assert isinstance(good, Webhook)


def test_lines_are_read_one_by_one() -> None:
    """A line that is no JSON does not touch its neighbours; blank lines and CRLF do not matter."""
    good = json.dumps(GOOD).encode()
    read = many(b"\r\n".join([good, b"", b"{oops", b'{"a": "\xff"}', b"[" * 50_000, good, b""]), LINES)
    assert [type(entry) for entry in read] == [Webhook, Refused, Refused, Refused, Webhook]
    assert [entry.limit for entry in read if isinstance(entry, Refused)] == [None, None, "nesting"]


@pytest.mark.parametrize("body", [{}, 7, GOOD])
def test_an_array_is_expected(body: object) -> None:
    """A body that is JSON but no array is refused whole."""
    with pytest.raises(Invalid):
        many(body)


def test_broken_json_is_malformed() -> None:
    """A body that should be an array and is no JSON is refused whole, before anything is read of it."""
    with pytest.raises(Malformed):
        FORMAT.many({}, JSON, json.dumps([GOOD]).encode()[:-1])


def test_nothing_is_too_few() -> None:
    """No webhook at all is a mistake of the sender."""
    with pytest.raises(Invalid):
        FORMAT.many({}, JSON, b"[]")
    with pytest.raises(Invalid):
        FORMAT.many({}, LINES, b"\n \n")


def test_limit_of_webhooks() -> None:
    """One more than the limit is too many, the limit itself is not."""
    most = LIMITS.webhooks_max
    assert len(many(b"{}\n" * most, LINES)) == len(many([{}] * most)) == most
    for body, kind in ((b"{}\n" * (most + 1), LINES), (json.dumps([{}] * (most + 1)).encode(), JSON)):
        with pytest.raises(TooMany) as error:
            FORMAT.many({}, kind, body)
        assert error.value.limit == "webhooks"


# -- the digest ------------------------------------------------------------------------------------------------------


def test_the_digest_is_of_the_meaning() -> None:
    """Order of keys and white space make no other webhook; any other value of type, timestamp or data does."""
    first = one(b'{"id":"w","type":"customer.created","timestamp":null,"data":{"a":1,"b":{"c":"\\u9ad9","d":2}}}')
    again = one('{ "data": {"b":{"d":2,"c":"髙"},"a":1},\n"type":"customer.created","id":"w"}'.encode())
    assert first.canonical() == again.canonical()
    for other in (
        b'{"id":"w","type":"customer.updated","data":{"a":1,"b":{"c":"\\u9ad9","d":2}}}',
        b'{"id":"w","type":"customer.created","timestamp":"x","data":{"a":1,"b":{"c":"\\u9ad9","d":2}}}',
        b'{"id":"w","type":"customer.created","data":{"a":"1","b":{"c":"\\u9ad9","d":2}}}',
        b'{"id":"w","type":"customer.created","data":{"a":true,"b":{"c":"\\u9ad9","d":2}}}',
    ):
        assert one(other).canonical() != first.canonical()
