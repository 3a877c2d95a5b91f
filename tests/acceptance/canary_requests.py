"""Requests that hold canaries: good ones, one or more for every way of being refused, and such as are hardly HTTP."""

import base64
import hmac
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from relay.errors import Invalid, RelayError
from relay.receive import refusals
from relay.receive.parse import Malformed, TooMany
from tests.acceptance.watched import (
    CUSTOMER,
    CUSTOMER_ID,
    DOMAIN,
    EMAIL,
    KEY,
    LOCAL,
    SECRETS,
    UNMISTAKABLE,
    signed,
    webhook,
)
from tests.acceptance.wire import request

BODY_BYTES_MAX = 20_000
WEBHOOKS_MAX = 20
BODY_TIMEOUT_S = 0.5
"""The limits of the relay that these are sent to."""

CRM = "/v1/webhooks/crm"
STRICT = "/v1/webhooks/strict"
"""A source whose account refuses what Shift_JIS cannot write."""

TOKEN = SECRETS["CRM_TOKEN"]
BORNE = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
NDJSON = {**BORNE, "Content-Type": "application/x-ndjson"}
UTF8 = UNMISTAKABLE.encode()
IN_HEAD = UTF8.replace(b"\n", b" ")


_NUMBERS = itertools.count(1)


def borne(body: bytes, path: str = CRM, message_id: str | None = None, **headers: str) -> bytes:
    """Make a request with the source's token, and an id of its own unless one is given."""
    given = f"borne-{next(_NUMBERS)}" if message_id is None else message_id
    return request("POST", path, {**BORNE, "webhook-id": given, **headers}, body)


def sealed(body: bytes, path: str = CRM, message_id: str = "w-1") -> bytes:
    """Make a request that is signed."""
    return request("POST", path, signed(message_id, body), body)


@dataclass(frozen=True, slots=True)
class Refused:
    """A request and the status that it gets. `sent_before` are requests that are needed first."""

    status: int
    sent: bytes
    sent_before: tuple[bytes, ...] = ()


def _malformed() -> Iterator[Refused]:
    good = webhook()
    bodies = [
        UTF8,
        good[:-1],
        good.decode().encode("cp932"),
        good.replace(b'"plan"', b'"plan": "x", "plan"'),
        good.replace(b'"free"', b"NaN"),
        good.replace(b'"free"', b"[" * 200 + b'"%s"' % CUSTOMER_ID.encode() + b"]" * 200),
        good.replace(b'"free"', b"9" * 5000),
        good.replace(b'"free"', b"1e999"),
        good + UTF8,
        b"\xef\xbb\xbf" + good,
        json.dumps(EMAIL).encode()[:-1],
    ]
    for body in bodies:
        yield Refused(400, borne(body))
    for body in bodies:
        if b"[[[" not in body:  # which is refused as an entry, not as a body
            yield Refused(400, borne(b"[" + body + b"]", f"{CRM}/batch"))


def _unauthorized() -> Iterator[Refused]:
    good = webhook()
    wrong = signed("w-1", good, b"another key")
    heads: list[Mapping[str, str]] = [
        wrong,
        signed("w-1", good + b" "),
        {**wrong, "webhook-signature": f"v1,{KEY} {SECRETS['CRM_WEBHOOK_SECRET']} v1a,{TOKEN}"},
        {**wrong, "webhook-timestamp": KEY},
        {"Authorization": f"Basic {base64.b64encode(f'{EMAIL}:{TOKEN}'.encode()).decode()}"},
        {"Authorization": f"Bearer {TOKEN}{KEY}"},
        {"Authorization": f"Bearer {EMAIL} {KEY}"},
        {"Authorization": TOKEN},
        {"X-Secret": KEY, "Cookie": f"token={TOKEN}; {EMAIL}=1", "Referer": f"https://{TOKEN}@{EMAIL}/"},
        {},
    ]
    for head in heads:
        headers = {"Content-Type": "application/json", "webhook-id": "w-1", **head}
        yield Refused(401, request("POST", CRM, headers, good))
    for path in (f"/v1/webhooks/{EMAIL}", f"/v1/webhooks/{TOKEN}/batch", "/v1/webhooks/%E9%87%91%E7%B3%B8%E9%9B%80"):
        yield Refused(401, request("POST", path, BORNE, good))
    asked = f"{CRM}?token={TOKEN}&email={EMAIL}"
    yield Refused(401, request("POST", asked, {"Content-Type": "application/json"}, good))
    elsewhere = "/v1/webhooks/elsewhere"
    yield Refused(401, borne(good, elsewhere))
    yield Refused(401, borne(good, elsewhere, **{"X-Forwarded-For": f"10.9.8.7, {EMAIL}"}))
    yield Refused(401, borne(good, elsewhere, **{"X-Forwarded-For": f"{EMAIL}, fe80::1%{EMAIL}"}))


def _unsupported() -> Iterator[Refused]:
    for kind in (EMAIL, f"text/{TOKEN}", f"text/plain; charset={TOKEN}", "application/x-www-form-urlencoded"):
        yield Refused(415, request("POST", CRM, {**BORNE, "Content-Type": kind}, webhook()))
    yield Refused(415, borne(webhook(), **{"Content-Encoding": TOKEN}))


def _invalid() -> Iterator[Refused]:
    told = json.loads(webhook())
    changes: list[dict[str, object]] = [
        {"type": EMAIL},
        {"type": {EMAIL: TOKEN}},
        {"type": None},
        {"data": EMAIL},
        {"data": [CUSTOMER]},
        {"timestamp": EMAIL},
        {"timestamp": [UNMISTAKABLE]},
        {"data": {**CUSTOMER, "email": UNMISTAKABLE}},
        {"data": {**CUSTOMER, "email": [EMAIL]}},
        {"data": {**CUSTOMER, "email": f"{EMAIL}@"}},
        {"data": {**CUSTOMER, "birthday": EMAIL}},
        {"data": {**CUSTOMER, "plan": UNMISTAKABLE}},
        {"data": {**CUSTOMER, "plan": {EMAIL: EMAIL}}},
        {"data": {**CUSTOMER, "name": "金糸雀子\x00"}},
        {"data": {**CUSTOMER, "name": "金糸雀子\ud800"}},
        {"data": {**CUSTOMER, "name": "金糸雀子" + "x" * 4200}},
        {"data": {**CUSTOMER, "kana": "ｶﾅﾘｱｺ 𠮷"}},
        {"data": {"id": CUSTOMER_ID}},
        {"type": "customer.deleted", "data": {"email": f"{EMAIL} {TOKEN}"}},
        {"type": "customer.stopped", "data": {EMAIL: EMAIL}},
    ]
    for change in changes:
        body = json.dumps({**told, **change}).encode()
        yield Refused(422, borne(body, STRICT))
        entry = json.dumps({"id": f"entry-{next(_NUMBERS)}", **told, **change}).encode()
        yield Refused(422, borne(b"[" + entry + b"]", f"{STRICT}/batch"))
    for message_id in (f"{EMAIL} {KEY}" * 20, "金糸雀子"):
        yield Refused(422, borne(webhook(), STRICT, message_id=message_id))
    yield Refused(422, borne(json.dumps({"id": [EMAIL], **told}).encode(), STRICT, message_id=""))
    yield Refused(422, borne(json.dumps(UNMISTAKABLE).encode(), STRICT))
    yield Refused(422, borne(webhook(), f"{STRICT}/batch"))


def _slow() -> Iterator[Refused]:
    whole = borne(webhook())
    yield Refused(408, whole[:-20])


CASES: Mapping[type[RelayError], tuple[Refused, ...]] = {
    Malformed: tuple(_malformed()),
    refusals.Unauthorized: tuple(_unauthorized()),
    refusals.Forbidden: (Refused(403, borne(webhook("customer.deleted"), "/v1/webhooks/upserts")),),
    refusals.TooSlow: tuple(_slow()),
    refusals.Reused: (
        Refused(409, borne(webhook(name="駒鳥"), message_id="reused"), (borne(webhook(), message_id="reused"),)),
        Refused(409, borne(webhook(plan=EMAIL), message_id="again"), (borne(webhook(), message_id="again"),)),
    ),
    refusals.TooLarge: (
        Refused(413, borne(webhook(name="金糸雀子" * BODY_BYTES_MAX))),
        Refused(413, borne(webhook(name="金糸雀子" * BODY_BYTES_MAX), f"{CRM}/batch")),
    ),
    TooMany: (Refused(413, request("POST", f"{CRM}/batch", NDJSON, (webhook() + b"\n") * (WEBHOOKS_MAX + 1))),),
    refusals.Unsupported: tuple(_unsupported()),
    Invalid: tuple(_invalid()),
    refusals.TooOften: (
        Refused(429, borne(webhook(), "/v1/webhooks/hasty"), (borne(webhook(), "/v1/webhooks/hasty"),) * 2),
    ),
}
"""What is refused, by what it is refused as."""


def taken() -> Iterator[tuple[int, bytes]]:
    """Make requests that are taken: signed, with a token, once more, many at once with some refused among them."""
    for kind in ("created", "updated", "stopped", "banned", "allowed", "deleted"):
        yield 202, sealed(webhook(f"customer.{kind}"), message_id=kind)
    yield 202, sealed(webhook("customer.created"), message_id="created")
    yield 202, borne(webhook(name="鸚鵡谷\u200d 𠮷 金糸雀子"), message_id="replaced")
    told = json.loads(webhook())
    lines = [
        {**told, "id": "many-1"},
        {**told, "id": "many-1", "type": "customer.updated"},
        {**told, "id": "many-2", "data": {**CUSTOMER, "email": f"@{EMAIL}"}},
        {**told, "id": "many-3", "timestamp": "2999-01-01T00:00:00Z"},
        {**told, "id": "created", "data": {**CUSTOMER, "name": "駒鳥"}},
        [EMAIL, TOKEN],
    ]
    body = b"\n".join([*(json.dumps(line, ensure_ascii=False).encode() for line in lines), UTF8, webhook()[:-9]])
    yield 202, request("POST", f"{CRM}/batch", NDJSON, body)


def other_forms() -> Iterator[tuple[int, bytes]]:
    """Make webhooks of the sources `shop` (plain bodies), `crm` (CloudEvents) and `moving` (ids), good and bad ones."""
    customer = json.dumps(dict(CUSTOMER)).encode()
    shop = "/v1/webhooks/shop"
    for topic, status in (("customers/update", 202), (EMAIL, 422), ("金糸雀子", 422)):
        head = {**_sealed(customer), "X-Topic": topic, "X-Id": f"shop-{next(_NUMBERS)}"}
        yield status, request("POST", shop, head, customer)
        yield 401, request("POST", shop, {**head, "X-Hmac": SECRETS["SHOP_SECRET"]}, customer)
        yield 422, request("POST", shop, {**head, "X-Id": f"{EMAIL}{UNMISTAKABLE}"}, customer)
        many = b"[" + customer + b"]"
        yield 422, request("POST", f"{shop}/batch", {**head, **_sealed(many)}, many)
    binary = {**BORNE, "ce-specversion": "1.0", "ce-source": EMAIL, "ce-subject": CUSTOMER_ID, "ce-id": "event-1"}
    for kind, status in (("com.example.customer.updated", 202), (f"com.{EMAIL}", 422)):
        yield status, request("POST", CRM, {**binary, "ce-type": kind}, customer)
        event = {"specversion": "1.0", "id": "event-2", "source": EMAIL, "type": kind, "data": dict(CUSTOMER)}
        sent = json.dumps(event).encode()
        yield status, request("POST", CRM, {**BORNE, "Content-Type": "application/cloudevents+json"}, sent)
    yield 422, request("POST", CRM, {**binary, "ce-specversion": EMAIL, "ce-type": EMAIL, "ce-time": EMAIL}, customer)
    moving = "/v1/webhooks/moving"
    moved = f"{LOCAL}+moved@{DOMAIN}.example.jp"
    for kind, data in (
        ("created", {**CUSTOMER}),
        ("updated", {**CUSTOMER, "email": moved}),
        ("updated", {**CUSTOMER, "email": moved, "previous": EMAIL}),
        ("stopped", {"id": CUSTOMER_ID}),
        ("stopped", {"id": f"{CUSTOMER_ID}-of-nobody"}),
    ):
        sent = json.dumps({"type": f"customer.{kind}", "data": data}).encode()
        yield 202, borne(sent, moving)
    wrong = json.dumps({"type": "customer.deleted", "data": {"id": {EMAIL: EMAIL}, "previous": UNMISTAKABLE}}).encode()
    yield 422, borne(wrong, moving)


def _sealed(body: bytes) -> dict[str, str]:
    mac = hmac.digest(SECRETS["SHOP_SECRET"].encode(), body, "sha256")
    return {"Content-Type": "application/json", "X-Hmac": base64.b64encode(mac).decode()}


def hardly_http() -> Iterator[bytes]:
    """Make requests for what is not there, with methods that are none, with heads that are broken or endless."""
    for target in (f"/{EMAIL}", f"/v1/{TOKEN}?{EMAIL}={KEY}", f"/v1/batches/{EMAIL}", "/%E9%87%91%E7%B3%B8%E9%9B%80"):
        yield request("GET", target, {"Authorization": f"Bearer {TOKEN}"})
    for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE", TOKEN, TOKEN.upper()):
        yield request(method, CRM, BORNE, webhook())
    yield request("GET", f"http://{EMAIL}:{TOKEN}@relay.example.com/{EMAIL}")
    yield request("CONNECT", f"{EMAIL}:443")
    yield request("GET", b"/" + IN_HEAD)
    yield request("POST", f"{CRM}/" + b"\x00".decode() + EMAIL)
    yield b"GET /" + EMAIL.encode() + b" HTTP/" + TOKEN.encode() + b"\r\n\r\n"
    yield IN_HEAD + b"\r\n\r\n"
    yield b"\x16\x03\x01\x02\x00\x01" + UTF8
    for name, value in (
        (f"X-{EMAIL} {TOKEN}", "x"),
        ("金糸雀子", "x"),
        ("X-Name", IN_HEAD),
        ("X-Name", b"\x00" + IN_HEAD),
        ("X-Name", EMAIL.encode() + b"\r" + TOKEN.encode()),
        ("Content-Length", EMAIL),
        ("Transfer-Encoding", TOKEN),
        ("Expect", f"{TOKEN} {EMAIL}"),
        ("Upgrade", f"{TOKEN}/{EMAIL}"),
        ("Connection", f"close, {TOKEN}"),
        ("Host", f"{EMAIL}:{TOKEN}"),
        ("Cookie", f"{EMAIL}={TOKEN}; {TOKEN}"),
        ("X-Long", UNMISTAKABLE * 200),
        ("Accept", f"text/html, {EMAIL}"),
        ("traceparent", f"00-{TOKEN}-{EMAIL}-01"),
    ):
        yield request("POST", CRM, {**BORNE, name: value}, webhook())
        yield request("GET", "/metrics", {name: value})
    chunked = {**BORNE, "Transfer-Encoding": "chunked", "Content-Length": ""}
    yield request("POST", CRM, chunked, TOKEN.encode() + b"\r\n" + webhook())
    yield request("POST", CRM, chunked, b"5;" + EMAIL.encode() + b"\r\n" + webhook()[:5] + b"\r\n0\r\n\r\n")
    gzipped = {**BORNE, "Content-Encoding": "gzip"}
    yield request("POST", CRM, gzipped, webhook())
