"""Properties of what reads webhooks: strict JSON, all forms, timestamps, signatures, compressed bodies, networks."""

import contextlib
import gzip
import ipaddress
import json
import random
import zlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from multidict import CIMultiDict

from relay.errors import Invalid
from relay.events import TYPES, Operation
from relay.receive.auth import Door, carries_proof, sign, signing_key
from relay.receive.formats import Format
from relay.receive.inflating import STEP_BYTES, inflated
from relay.receive.limits import Limits
from relay.receive.mapping import OCCURRED_AT_MIN, OPT_OUT_AHEAD_MAX, Said
from relay.receive.networks import Networks, sender
from relay.receive.parse import Malformed, Refused, TooMany, Webhook, sound_id, strict_json
from relay.receive.reading import JSON_LINES
from relay.settings import Source

NOW = datetime(2026, 4, 1, 9, 0, tzinfo=UTC)
LIMITS = Limits(webhooks_max=20, nesting_max=12, string_characters_max=2_000)
TEXT_CHARACTERS_MAX = 400
"""No error has so long a text: it would repeat what it was given."""

_SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "own": {},
    "types": {"types": {"customers/create": "customer.created", "1": "customer.stopped"}},
    "plain": {
        "plain": {"id": "id", "type": {"header": "X-Topic"}, "time": "meta.at", "time_format": "unix"},
        "types": {"customers/create": "customer.created", "customers/redact": "customer.deleted"},
    },
    "jmespath": {
        "plain": {
            "id": "join('-', [to_string(meta.id), type])",
            "type": "type || (opted_out && 'customer.stopped')",
            "time": "max(changes[].at)",
            "time_format": "unix_ms",
            "data": "not_null(customer, data[0], @)",
        },
    },
}
FORMATS: Mapping[str, Format] = {
    name: Format(Source.model_validate({"bearer_tokens": ["t"], "accounts": ["a"], **more}), LIMITS)
    for name, more in _SETTINGS.items()
}
KINDS = ("application/json", *sorted(JSON_LINES), "application/cloudevents+json", "application/cloudevents-batch+json")

HEADERS: Mapping[str, CIMultiDict[str]] = {
    "none": CIMultiDict(),
    "id": CIMultiDict({"webhook-id": "w-1", "X-Topic": "customers/redact"}),
    "bad": CIMultiDict({"webhook-id": "\udcff" * 300, "X-Topic": "\udce9"}),
    "binary": CIMultiDict(
        {"ce-specversion": "1.0", "ce-id": "%E9%AB%99", "ce-type": '"com.x.customer.created"', "ce-time": "%zz"}
    ),
}


# -- JSON ------------------------------------------------------------------------------------------------------------


def same(first: object, second: object) -> bool:
    """Tell whether two JSON values are the same: 1 is not 1.0 nor true, and no order of keys matters."""
    if type(first) is not type(second):
        return False
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(same(value, second[key]) for key, value in first.items())
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(same, first, second))
    return repr(first) == repr(second)


def json_is_read_strictly(body: bytes) -> None:
    """What is read, Python's reader reads to the same; what is not, is Malformed with a text that repeats little."""
    try:
        value = strict_json(body)
    except Malformed as error:
        _is_short(str(error))
        return
    assert same(value, json.loads(body)), "read otherwise than by Python"
    assert same(value, strict_json(json.dumps(value).encode())), "not the same when written and read again"


def digests_tell_meanings_apart(first: object, second: object, seed: int = 0) -> None:
    """The digest is the same for any order of keys and white space, and for no other value."""
    first, second = (json.loads(json.dumps(value)) for value in (first, second))  # which joins surrogate pairs
    data = {"first": first}
    webhook = Webhook("w", "customer.created", None, data)
    shuffled = Webhook("w", "customer.created", None, {"first": _shuffled(first, random.Random(seed))})
    spaced = strict_json(json.dumps(data, indent=2).encode())
    assert isinstance(spaced, dict)
    for again in (shuffled, Webhook("w", "customer.created", None, spaced)):
        assert again.canonical() == webhook.canonical(), "the same, and another digest"
    other = Webhook("w", "customer.created", None, {"first": second})
    assert (other.canonical() == webhook.canonical()) == same(first, second), "something else, and the same digest"
    timed = Webhook("w", "customer.created", first, {})
    assert (timed.canonical() == Webhook("w", "customer.created", second, {}).canonical()) == same(first, second)


def _shuffled(value: object, order: random.Random) -> object:
    if isinstance(value, dict):
        keys = list(value)
        order.shuffle(keys)
        return {key: _shuffled(value[key], order) for key in keys}
    return [_shuffled(one, order) for one in value] if isinstance(value, list) else value


# -- forms -----------------------------------------------------------------------------------------------------------


def webhooks_are_read_or_refused(form: Format, headers: Mapping[str, str], kind: str, body: bytes) -> None:
    """A body is a webhook or several, or is refused in one of the documented ways, entry by entry."""
    try:
        _is_sound(form.one(headers, kind, body))
    except (Malformed, Invalid) as error:
        _is_told(error)
    entries: list[Webhook | Refused] = []
    try:
        entries = list(form.many(headers, kind, body))
    except (Malformed, TooMany, Invalid) as error:
        _is_told(error)
    assert len(entries) <= LIMITS.webhooks_max
    for entry in entries:
        if isinstance(entry, Refused):
            assert entry.problems
            assert entry.message_id is None or sound_id(entry.message_id) == entry.message_id
            for problem in entry.problems:
                _is_short(f"{problem}")
        else:
            _is_sound(entry)


def _is_sound(webhook: Webhook) -> None:
    assert sound_id(webhook.message_id) == webhook.message_id
    assert webhook.type in TYPES
    assert isinstance(webhook.data, dict)
    assert isinstance(webhook.canonical(), bytes)
    assert Said.of(webhook.timestamp, webhook.time_at.expected).occurred_at(Operation.UPSERT, NOW)[0] <= NOW


def _is_told(error: Exception) -> None:
    if isinstance(error, Invalid):
        assert error.problems
    for text in [str(problem) for problem in error.problems] if isinstance(error, Invalid) else [str(error)]:
        _is_short(text)


def _is_short(text: str) -> None:
    assert len(text) <= TEXT_CHARACTERS_MAX, "an error that repeats what it was given"


def timestamps_never_win_by_running_ahead(value: object) -> None:
    """Whatever stands there is read as a moment in UTC, as nothing or as a fault; no moment is later than allowed."""
    said = Said.of(value)
    assert said.moment is None or said.fault is None
    if said.moment is not None:
        assert said.moment.tzinfo is UTC
        assert said.moment >= OCCURRED_AT_MIN
        assert isinstance(value, str)
        assert said.moment == datetime.fromisoformat(value)
    for operation in Operation:
        occurred_at, _ = said.occurred_at(operation, NOW)
        assert occurred_at <= NOW + (OPT_OUT_AHEAD_MAX if operation.opt_out else timedelta())


# -- proof -----------------------------------------------------------------------------------------------------------

KEY = b"a key that nobody guesses"
TOKEN = "a token that nobody guesses"
DOOR = Door.of(
    Source.model_validate(
        {
            "signing_secrets": [KEY.decode()],
            "bearer_tokens": [TOKEN],
            "accounts": ["a"],
            "body_signature": {"header": "X-Hmac", "secrets": [KEY.decode()], "prefix": "sha256="},
        }
    )
)
PROOF_HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature", "authorization", "x-hmac")


def doors_stay_shut(values: Sequence[str], body: bytes, inflated_body: bytes | None) -> None:
    """No headers that were made up open a door, and none break it; a right signature among them does."""
    headers = CIMultiDict(zip(PROOF_HEADERS, values, strict=False))
    assert carries_proof(headers, PROOF_HEADERS) == bool(headers)
    assert not DOOR.proof(headers, body, NOW, inflated=inflated_body)
    message_id, at = headers.get("webhook-id", ""), str(int(NOW.timestamp()))
    good = sign(KEY, message_id, at, body)
    given = f"{headers.get('webhook-signature', '')} {good}"
    headers.update({"webhook-id": message_id, "webhook-timestamp": at, "webhook-signature": given})
    assert DOOR.proof(headers, body, NOW, inflated=inflated_body)
    assert not DOOR.proof(headers, body, NOW, inflated=inflated_body, signatures_cover=False)
    assert not DOOR.proof(headers, body + b" ", NOW)


def keys_are_read_or_refused(secret: str) -> None:
    """A secret is a key or a ValueError that does not repeat it."""
    if any(0xD800 <= ord(character) < 0xE000 for character in secret):
        return  # which the settings refuse
    key, told = None, ""
    try:
        key = signing_key(secret)
    except ValueError as error:
        told = str(error)
    assert key is not None or secret.startswith("whsec_")
    assert key or told or not secret
    _is_short(told)


# -- compressed bodies -----------------------------------------------------------------------------------------------


def inflating_ends(sent: bytes, encoding: str) -> None:
    """Bytes that were made up inflate in steps of limited size, or are Malformed; what Python inflates is the same."""
    given: list[bytes] = []
    try:
        for step in inflated(sent, encoding):
            assert len(step) <= STEP_BYTES
            given.append(step)
            if sum(map(len, given)) > 4 * STEP_BYTES:
                return
    except Malformed as error:
        _is_short(str(error))
        return
    assert b"".join(given) in set(_inflated_by_python(sent, encoding))


def _inflated_by_python(sent: bytes, encoding: str) -> Iterator[bytes]:
    for inflate in (
        [gzip.decompress] if encoding != "deflate" else [zlib.decompress, lambda data: zlib.decompress(data, -15)]
    ):
        try:
            yield inflate(sent)
        except (zlib.error, OSError, EOFError):
            continue


def compressed_bodies_come_back(body: bytes, cut: int) -> None:
    """What is compressed in whole comes back, in one piece and in two members; what is cut off is Malformed."""
    half = len(body) // 2
    ways = {
        "gzip": [gzip.compress(body), gzip.compress(body[:half]) + gzip.compress(body[half:])],
        "deflate": [zlib.compress(body), zlib.compress(body)[2:-4]],
    }
    for encoding, sent in ((encoding, sent) for encoding, all_sent in ways.items() for sent in all_sent):
        assert b"".join(inflated(sent, encoding)) == body
    whole = ways["gzip"][0]
    try:
        list(inflated(whole[: cut % len(whole)], "gzip"))
    except Malformed:
        return
    raise AssertionError("a body that was cut off was taken for whole")


# -- networks --------------------------------------------------------------------------------------------------------

PROXIES = Networks([ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("2001:db8::/32")])


def senders_cannot_choose_who_they_are(peer: str, forwarded: Sequence[str]) -> None:
    """Who is no trusted proxy is who it is; behind one, only what stands right of the first untrusted counts."""
    found = sender(peer, forwarded, PROXIES)
    alone = sender(peer, (), PROXIES)
    assert set(str(found)) <= set("0123456789abcdefABCDEF.:None"), "more than an address came through"
    assert (found is None) <= (alone is None or bool(forwarded))
    if alone is None or alone not in PROXIES:
        assert found == alone, "a header was believed that no proxy wrote"
    with contextlib.suppress(ValueError):
        own = ipaddress.ip_address(peer.strip())
        assert alone == (getattr(own, "ipv4_mapped", None) or type(own)(int(own)))
    assert sender("10.0.0.1", [*forwarded, "192.0.2.7"], PROXIES) == ipaddress.ip_address("192.0.2.7")
    assert sender("10.0.0.1", [*forwarded, "192.0.2.7, 10.9.9.9"], PROXIES) == ipaddress.ip_address("192.0.2.7")
    assert sender("10.0.0.1", [*forwarded, "nonsense"], PROXIES) is None
