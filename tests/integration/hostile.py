"""What hostile or broken senders send, byte by byte, and what each of it gets.

Every request here would be let in if it were sound: it has the source's token wherever it has headers. None may leave
an event, and none may be answered with a 5xx. `CANARY` stands in for personal data in all that can hold it.
"""

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from tests.acceptance.wire import request
from tests.integration.served import BEARER

CANARY = "canary-f3a9"
EMAIL = f"{CANARY}@example.jp"
WEBHOOKS = "/v1/webhooks/crm"

WEBHOOK_BYTES_MAX = 1_000_000
HEAD_BYTES_MAX = 16_384

CLOSED = None
"""In place of a status: the connection is closed without an answer."""


@dataclass(frozen=True, slots=True)
class Case:
    """Bytes that are sent, in parts with pauses between, and the status that they get."""

    name: str
    sent: tuple[bytes, ...]
    status: int | None
    counted: str = ""
    """Where it is counted: as `malformed`, at a limit, or as a result of the source; else it is for nobody."""

    @property
    def slow(self) -> bool:
        """Whether it waits for a time limit."""
        return not self.sent or self.counted in ("head_time", "body_time")


def cases() -> Iterator[Case]:
    """Give them all."""
    refused = {400: "invalid", 401: "unauthorized", 413: "too_large", 415: "invalid", 422: "invalid"}
    groups: list[tuple[Iterator[Case], Mapping[int, str]]] = [
        (_bad_http(), {400: "malformed", 431: "head_bytes"}),
        (_bad_framing(), {400: "malformed", 413: "too_large"}),
        (_bad_targets(), {400: "malformed"}),
        (_bad_methods(), {400: "malformed"}),
        (_bad_headers(), refused),
        (_bad_bytes(), refused),
        (_bad_json(), refused),
        (_bad_webhooks(), refused),
        (_bad_many(), {400: "invalid", 413: "too_large"}),  # and each webhook by itself
        (_bad_compression(), refused),
        (_slow_heads(), {}),
        (_slow_bodies(), {408: "body_time"}),
    ]
    for group, counted in groups:
        for case in group:
            where = "head_time" if case.status is CLOSED or not counted else counted.get(case.status, "")
            if not case.sent:  # a connection that somebody opened to have it at hand
                where = ""
            yield replace(case, counted=where)


def _head(*lines: bytes, start: bytes = b"POST /v1/webhooks/crm HTTP/1.1") -> bytes:
    known = [f"{name}: {value}".encode() for name, value in BEARER.items()]
    return b"\r\n".join([start, b"Host: x", b"Content-Type: application/json", *known, *lines, b"", b""])


def _post(body: bytes, path: str = WEBHOOKS, headers: Mapping[str, str | bytes] | None = None) -> bytes:
    return request("POST", path, {"Content-Type": "application/json", **BEARER, **(headers or {})}, body)


def _webhook(**members: object) -> dict[str, object]:
    data = {"email": EMAIL, "name": "髙橋 太郎"}
    return {"id": "hostile", "type": "customer.created", "data": data, **members}


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


SOUND = _json(_webhook())


# -- no HTTP ---------------------------------------------------------------------------------------------------------


def _bad_http() -> Iterator[Case]:
    raw = {
        "nonsense": b"hello\r\n\r\n",
        "empty lines, then nonsense": b"\r\n\r\n\r\nhello\r\n\r\n",
        "NUL alone": b"\x00\r\n\r\n",
        "HTTP/0.9": b"GET /v1/webhooks/crm\r\n\r\n",
        "HTTP/0.9 said": b"GET / HTTP/0.9\r\n\r\n",
        "HTTP/1.2": b"GET / HTTP/1.2\r\nHost: x\r\n\r\n",
        "HTTP/2.0 said": b"GET / HTTP/2.0\r\nHost: x\r\n\r\n",
        "HTTP/9.9": b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
        "HTTP/1.1.1": b"GET / HTTP/1.1.1\r\nHost: x\r\n\r\n",
        "http in small letters": b"GET / http/1.1\r\nHost: x\r\n\r\n",
        "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) * 2,
        "SSH": b"SSH-2.0-OpenSSH_9.6\r\n",
        "SMTP": b"EHLO example.jp\r\nMAIL FROM:<a@example.jp>\r\n",
        "Redis": b"*1\r\n$4\r\nINFO\r\n",
        "Postgres": b"\x00\x00\x00\x08\x04\xd2\x16\x2f\r\n\r\n",
        "a response": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "bare LF": b"GET / HTTP/1.1\nHost: x\n\n",
        "bare CR": b"GET / HTTP/1.1\rHost: x\r\r\n\r\n",
        "LF CR": b"GET / HTTP/1.1\n\rHost: x\n\r\n\r",
        "tab": b"GET\t/\tHTTP/1.1\r\nHost: x\r\n\r\n",
        "no target": b"GET HTTP/1.1\r\nHost: x\r\n\r\n",
        "obs-fold": _head(b"X-A: a\r\n b"),
        "header without colon": _head(b"X-A"),
        "header without name": _head(b": a"),
        "space before colon": _head(b"X-A : a"),
        "NUL in header": _head(b"X-A: a\x00b"),
        "CR in header": _head(b"X-A: a\rb"),
        "control in header": _head(b"X-A: a\x01b"),
        "header name in UTF-8": _head("é: a".encode()),
        "no Host": b"POST /v1/webhooks/crm HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
        "two Hosts": _head(b"Host: y"),
        "two Content-Types": _head(b"Content-Type: text/plain"),
    }
    for name, sent in raw.items():
        yield Case(name, (sent,), 400)
    yield Case("large request line", (_head(start=b"GET /" + b"a" * 20_000 + b" HTTP/1.1"),), 431)
    yield Case("large header", (_head(b"X-A: " + b"a" * 20_000),), 431)
    yield Case("large head in many lines", (_head(*(b"X-%d: " % n + b"a" * 500 for n in range(40))),), 431)
    yield Case("many headers", (_head(*(b"X: " for _ in range(1_000))),), 431)
    yield Case("endless head", (b"GET /" + b"a" * 1_000_000,), 431)
    yield Case("endless head in parts", (b"GET / HTTP/1.1\r\nX: " + b"a" * 9_000, b"a" * 9_000), 431)


def _bad_framing() -> Iterator[Case]:
    chunked = b"Transfer-Encoding: chunked"
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(SOUND), SOUND)
    length = b"Content-Length: %d" % len(SOUND)
    raw = {
        "length and chunks": _head(length, chunked) + body,
        "chunks and length": _head(chunked, length) + body,
        "two lengths": _head(length, b"Content-Length: 0") + SOUND,
        "the same length twice": _head(length, length) + SOUND,
        "list of lengths": _head(length + b", " + length.split()[1]) + SOUND,
        "negative length": _head(b"Content-Length: -1") + SOUND,
        "signed length": _head(b"Content-Length: +%d" % len(SOUND)) + SOUND,
        "hexadecimal length": _head(b"Content-Length: 0x50") + SOUND,
        "fractional length": _head(b"Content-Length: 1.5") + SOUND,
        "length in full-width digits": _head("Content-Length: ５０".encode()) + SOUND,
        "empty length": _head(b"Content-Length: ") + SOUND,
        "length beyond 64 bits": _head(b"Content-Length: 99999999999999999999") + SOUND,
        "chunked, identity": _head(b"Transfer-Encoding: chunked, identity") + body,
        "chunked twice": _head(chunked, chunked) + body,
        "gzip as transfer coding": _head(b"Transfer-Encoding: gzip, chunked") + body,
        "xchunked": _head(b"Transfer-Encoding: xchunked") + body,
        "hidden chunked": _head(b"Transfer-Encoding: \x0bchunked") + body,
        "chunk size not hexadecimal": _head(chunked) + b"zz\r\n" + SOUND,
        "chunk size negative": _head(chunked) + b"-1\r\n" + SOUND,
        "chunk size with 0x": _head(chunked) + b"0x10\r\n" + SOUND,
        "chunk size beyond 64 bits": _head(chunked) + b"fffffffffffffffff\r\n" + SOUND,
        "chunk longer than said": _head(chunked) + b"3\r\n" + SOUND + b"\r\n0\r\n\r\n",
        "chunk ends with LF": _head(chunked) + b"%x\n%s\n0\n\n" % (len(SOUND), SOUND),
        "NUL in trailer": _head(chunked) + body[:-2] + b"X: \x00\r\n\r\n",
    }
    for name, sent in raw.items():
        yield Case(name, (sent,), 400)
    for name in ("chunk size not hexadecimal", "chunk size beyond 64 bits", "chunk longer than said"):
        head, _, rest = raw[name].partition(b"\r\n\r\n")
        yield Case(f"{name}, later", (head + b"\r\n\r\n", rest), 400)
    large = b"Content-Length: 10000000000"
    yield Case("length of ten gigabytes", (_head(large) + SOUND,), 413)
    yield Case("length of 2^63", (_head(b"Content-Length: 9223372036854775808") + SOUND,), 413)
    yield Case("ten gigabytes expected", (_head(large, b"Expect: 100-continue"),), 413)
    yield Case("expects a miracle", (_head(length, b"Expect: a miracle") + SOUND,), 417)
    endless = _head(chunked) + b"%x\r\n%s\r\n" % (600_000, b" " * 600_000)
    yield Case("endless chunks", (endless, endless.partition(b"\r\n\r\n")[2]), 413)


# -- well-formed HTTP ------------------------------------------------------------------------------------------------


def _bad_targets() -> Iterator[Case]:
    targets: dict[str, int | None] = {
        "/": 405,
        "//": 404,
        "/v1/webhooks/": 404,
        "/v1/webhooks/crm/": 404,
        "/v1/webhooks//crm": 404,
        "//v1/webhooks/crm": 404,
        "/v1/webhooks/crm/batch/": 404,
        "/v1/webhooks/crm/other": 405,
        "/v1/webhooks/crm%2fbatch": 401,
        "/v1/webhooks/..%2f": 401,
        "/v1/webhooks/%2e%2e": 401,
        "/v1/webhooks/..": 401,
        "/v1/webhooks/../../etc/passwd": 404,
        "/v1/webhooks/..%2f..%2fetc%2fpasswd": 401,
        "/v1/webhooks/%00": 401,
        "/v1/webhooks/crm%00": 401,
        "/v1/webhooks/crm%0d%0aX:%20y": 401,
        "/v1/webhooks/crm%20": 401,
        "/v1/webhooks/CRM": 401,
        "/v1/webhooks/relay": 401,
        "/v1/webhooks/%ff%fe": 401,
        "/v1/webhooks/%e9%a1%a7%e5%ae%a2": 401,
        "/v1/webhooks/顧客": 400,
        "/v1/webhooks/crm%": 401,
        "/v1/webhooks/crm%zz": 401,
        "/v1/webhooks/crm;x=y": 401,
        "/v1/webhooks/crm'--": 401,
        "/v1/webhooks/{source}": 404,
        "/v1/webhooks/" + "a" * 10_000: 401,
        "/v1/webhooks/" + "%41" * 5_000: 401,
        "/v1/webhooks/__proto__": 401,
        "/%2e%2e/%2e%2e/v1/webhooks/crm": 404,
        "/" + "a/" * 5_000: 404,
        "http://evil.example.com/": 405,
        "http://[/v1/webhooks/crm": 400,
        "http:///v1/webhooks/crm": 400,
        "v1/webhooks/crm": 400,
        "*": 400,
        "/v1/webhooks/crm\x7f": 400,
        "/v1/webhooks/c rm": 400,
        "/etc/passwd": 404,
        "/.git/config": 404,
        "/metrics": 404,
    }
    for target, status in targets.items():
        yield Case(f"target {target[:50]}", (_post(SOUND, target, {"webhook-id": "hostile"}),), status)


def _bad_methods() -> Iterator[Case]:
    methods: dict[str, int | None] = {
        "GET": 405,
        "HEAD": 405,
        "PUT": 405,
        "PATCH": 405,
        "DELETE": 405,
        "OPTIONS": 405,
        "TRACE": 405,
        "PROPFIND": 405,
        "CONNECT": 404,
        "PRI": 400,
        "STEAL": 400,
        "post": 400,
        "P OST": 400,
        "POST\x00": 400,
        "A" * 10_000: 400,
        "é": 400,
    }
    for method, status in methods.items():
        sent = request(method, WEBHOOKS, {"Content-Type": "application/json", **BEARER}, SOUND)
        yield Case(f"method {method[:20]}", (sent,), status)


def _bad_headers() -> Iterator[Case]:
    headers: list[tuple[str, Mapping[str, str | bytes], int]] = [
        ("no type", {"Content-Type": ""}, 415),
        ("text", {"Content-Type": "text/plain"}, 415),
        ("form", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ("multipart", {"Content-Type": "multipart/form-data; boundary=x"}, 415),
        ("XML", {"Content-Type": "application/xml"}, 415),
        ("lines for one", {"Content-Type": "application/x-ndjson"}, 415),
        ("Shift_JIS", {"Content-Type": "application/json; charset=Shift_JIS"}, 415),
        ("UTF-16", {"Content-Type": "application/json; charset=utf-16"}, 415),
        ("UTF-7", {"Content-Type": "application/json; charset=utf-7"}, 415),
        ("charset of NUL", {"Content-Type": b'application/json; charset="\xff"'}, 415),
        ("long charset", {"Content-Type": "application/json; charset=" + "a" * 10_000}, 415),
        ("many parameters", {"Content-Type": "text/json" + "; a=b" * 2_000}, 415),
        ("type of slashes", {"Content-Type": "/" * 10_000}, 415),
        ("type of quotes", {"Content-Type": "text/x;" + '"\\' * 5_000}, 415),
        ("no token", {"Authorization": ""}, 401),
        ("empty token", {"Authorization": "Bearer "}, 401),
        ("long token", {"Authorization": "Bearer " + "a" * 10_000}, 401),
        ("token in UTF-8", {"Authorization": "Bearer 顧客"}, 401),
        ("token of bytes", {"Authorization": b"Bearer \xff\xfe"}, 401),
        ("token with a NUL escape", {"Authorization": "Bearer %00"}, 401),
        ("basic", {"Authorization": "Basic Y3JtOmNybQ=="}, 401),
        ("digest of quotes", {"Authorization": 'Digest username="' + '\\"' * 3_000}, 401),
        ("id of bytes", {"webhook-id": b"\xff\xfe"}, 422),
        ("id in UTF-8", {"webhook-id": "顧客"}, 422),
        ("id with a tab", {"webhook-id": "a\tb"}, 422),
        ("long id", {"webhook-id": "a" * 201}, 422),
        ("very long id", {"webhook-id": "a" * 10_000}, 422),
    ]
    for name, given, status in headers:
        yield Case(f"header {name}", (_post(SOUND, headers=given),), status)
    injected = _post(SOUND, headers={"webhook-id": "a\r\nAuthorization: Bearer x"})
    yield Case("header injected by an id", (injected.replace(b"Authorization: Bearer the", b"X: ", 1),), 401)
    signed = {
        "Authorization": "",
        "webhook-id": "hostile",
        "webhook-timestamp": "1",
        "webhook-signature": "v1," + "A" * 44,
    }
    for name, given, _ in (
        ("wrong", {}, 401),
        ("many", {"webhook-signature": " ".join(["v1,QQ=="] * 1_500)}, 401),
        ("no base64", {"webhook-signature": "v1,\xff"}, 401),
        ("time in Arabic digits", {"webhook-timestamp": "١٢٣"}, 401),
        ("long time", {"webhook-timestamp": "9" * 5_000}, 401),
        ("negative time", {"webhook-timestamp": "-1"}, 401),
        ("time of NaN", {"webhook-timestamp": "NaN"}, 401),
    ):
        yield Case(f"signature {name}", (_post(SOUND, headers={**signed, **given}),), 401)


def _bad_bytes() -> Iterator[Case]:
    bodies = {
        "empty": b"",
        "NUL": b"\x00",
        "a megabyte of NULs": bytes(WEBHOOK_BYTES_MAX),
        "white space": b" \r\n\t",
        "invalid UTF-8": SOUND.replace(b"hostile", b"\xff\xfe"),
        "overlong UTF-8": SOUND.replace(b"hostile", b"\xc0\xaf"),
        "cut UTF-8": SOUND[:-4].replace("郎".encode(), "郎".encode()[:2]) + b'"}}',
        "surrogate in UTF-8": SOUND.replace(b"hostile", b"\xed\xa0\x80"),
        "UTF-16": SOUND.decode().encode("utf-16"),
        "UTF-16 without a mark": SOUND.decode().encode("utf-16-le"),
        "UTF-32": SOUND.decode().encode("utf-32"),
        "Shift_JIS": SOUND.decode().encode("cp932"),
        "EUC-JP": SOUND.decode().replace("髙", "高").encode("euc-jp"),
        "byte order mark": b"\xef\xbb\xbf" + SOUND,
        "random": bytes((n * 7919) % 251 for n in range(5_000)),
        "a form": b"id=hostile&type=customer.created",
        "XML": b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><x>&a;</x>',
        "pickle": b"cos\nsystem\n(S'true'\ntR.",
        "zip": b"PK\x03\x04" + bytes(100),
    }
    for name, body in bodies.items():
        yield Case(f"body {name}", (_post(body),), 400)
    yield Case("body one byte too large", (_post(SOUND + b" " * (WEBHOOK_BYTES_MAX + 1 - len(SOUND))),), 413)


def _bad_json() -> Iterator[Case]:
    bodies = {
        "half": SOUND[: len(SOUND) // 2],
        "trailing garbage": SOUND + b"x",
        "twice": SOUND + SOUND,
        "trailing comma": SOUND[:-1] + b",}",
        "comment": b"/* x */" + SOUND,
        "single quotes": SOUND.replace(b'"', b"'"),
        "NaN": SOUND[:-1] + b',"x":NaN}',
        "Infinity": SOUND[:-1] + b',"x":-Infinity}',
        "1e400": SOUND[:-1] + b',"x":1e400}',
        "hexadecimal": SOUND[:-1] + b',"x":0x10}',
        "leading zero": SOUND[:-1] + b',"x":01}',
        "leading plus": SOUND[:-1] + b',"x":+1}',
        "5,000 digits": SOUND[:-1] + b',"x":' + b"9" * 5_000 + b"}",
        "900,000 digits": SOUND[:-1] + b',"x":' + b"9" * 900_000 + b"}",
        "900,000 digits behind the point": SOUND[:-1] + b',"x":1' + b"0" * 900_000 + b".0}",
        "True": SOUND[:-1] + b',"x":True}',
        "raw line feed in a string": SOUND.replace(b"hostile", b"hos\ntile"),
        "raw NUL in a string": SOUND.replace(b"hostile", b"hos\x00tile"),
        "bad escape": SOUND.replace(b"hostile", b"\\x41"),
        "cut escape": SOUND.replace(b"hostile", b"\\u12"),
        "the same key twice": b'{"id":"hostile",' + SOUND[1:],
        "the same key twice within": SOUND.replace(b'"email"', b'"email":"a@example.jp","email"'),
        "escaped key twice": b'{"\\u0069d":"hostile",' + SOUND[1:],
        "nested 65 levels": SOUND[:-1] + b',"x":' + b"[" * 65 + b"]" * 65 + b"}",
        "nested 500,000 levels": b"[" * 500_000 + b"]" * 500_000,
        "nested 100,000 objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        "not closed 900,000 levels": b"[" * 900_000,
        "long string": SOUND[:-1] + b',"x":"' + b"a" * 900_000 + b'"}',
        "long key": SOUND[:-1] + b',"' + b"a" * 900_000 + b'":1}',
        "long string of escapes": SOUND[:-1] + b',"x":"' + b"\\u0041" * 150_000 + b'"}',
    }
    for name, body in bodies.items():
        yield Case(f"JSON {name}", (_post(body),), 400)


def _bad_webhooks() -> Iterator[Case]:
    values: dict[str, object] = {
        "null": None,
        "true": True,
        "a number": 1,
        "a string": "hostile",
        "an array": [_webhook()],
        "an empty object": {},
        "200,000 numbers": [1] * 200_000,
        "no id": {"type": "customer.created", "data": {"email": EMAIL}},
        "id of a number": _webhook(id=1),
        "id null": _webhook(id=None),
        "id empty": _webhook(id=""),
        "id long": _webhook(id="a" * 201),
        "id with CR LF": _webhook(id="a\r\nX-Injected: b"),
        "id with NUL": _webhook(id="a\x00"),
        "id with escape": _webhook(id="\x1b[31m"),
        "id in Japanese": _webhook(id="顧客"),
        "id of a surrogate": _webhook(id="\\ud800"),
        "id that turns": _webhook(id="\u202eabc"),
        "id of an object": _webhook(id={"$ne": None}),
        "type unknown": _webhook(type="customer.exploded"),
        "type of NUL": _webhook(type="customer.created\x00"),
        "type in capitals": _webhook(type="Customer.Created"),
        "type of an array": _webhook(type=["customer.created"]),
        "type of dunder": _webhook(type="__class__"),
        "data null": _webhook(data=None),
        "data of a string": _webhook(data="x"),
        "data of an array": _webhook(data=[{"email": EMAIL}]),
        "data empty": _webhook(data={}),
        "timestamp of a number": _webhook(timestamp=1_700_000_000),
        "timestamp without zone": _webhook(timestamp="2026-04-01T09:00:00"),
        "timestamp with NUL": _webhook(timestamp="2026-04-01T09:00:00Z\x00"),
        "timestamp of year 0": _webhook(timestamp="0000-01-01T00:00:00Z"),
        "timestamp of year 99999": _webhook(timestamp="99999-01-01T00:00:00Z"),
        "timestamp in Arabic digits": _webhook(timestamp="٢٠٢٦-٠٤-٠١T٠٩:٠٠:٠٠Z"),
        "timestamp long": _webhook(timestamp="2" * 90_000),
        "timestamp before 2000": _webhook(timestamp="1970-01-01T00:00:00Z"),
        "5,000 keys without an address": _webhook(data={f"key{n}": n for n in range(5_000)}),
        "50,000 keys that look alike": _webhook(data={"a" * (n % 7) + str(n): n for n in range(50_000)}),
    }
    for name, value in values.items():
        yield Case(f"webhook {name}", (_post(_json(value).replace(b"\\\\u", b"\\u")),), 422)
    for name, email in ADDRESSES.items():
        body = json.dumps(_webhook(data={"email": email, "name": "太郎"})).encode()
        yield Case(f"address {name}", (_post(body),), 422)
    for name, text in {"NUL": "a\x00b", "surrogate": "\ud800", "object": {"a": CANARY}, "array": [CANARY]}.items():
        body = json.dumps(_webhook(data={"email": EMAIL, "name": text})).encode()
        yield Case(f"name of {name}", (_post(body),), 422)


ADDRESSES: Mapping[str, object] = {
    "null": None,
    "empty": "",
    "a number": 1,
    "an object": {"$gt": ""},
    "an array": [EMAIL],
    "without @": CANARY,
    "with two @": f"{CANARY}@@example.jp",
    "with a space": f"{CANARY} x@example.jp",
    "with a line feed": f"{CANARY}@example.jp\nbcc: x@example.jp",
    "with CR LF": f"{CANARY}\r\n@example.jp",
    "with NUL": f"{CANARY}\x00@example.jp",
    "with a comma": f"{CANARY}@example.jp,x@example.jp",
    "with a quote": f'"{CANARY}"@example.jp',
    "as a formula": f"=cmd|' /C calc'!A0@{CANARY}",
    "in Japanese": "顧客@example.jp",
    "with an emoji": "\U0001f363@example.jp",
    "of a surrogate": "\udcff@example.jp",
    "long": "a" * 300 + "@example.jp",
    "very long": "a" * 90_000 + "@example.jp",
}


def _bad_many() -> Iterator[Case]:
    path, lines = f"{WEBHOOKS}/batch", {"Content-Type": "application/x-ndjson"}
    bodies: list[tuple[str, bytes, Mapping[str, str], int]] = [
        ("an object", SOUND, {}, 422),
        ("none", b"[]", {}, 422),
        ("null", b"null", {}, 422),
        ("of no webhooks", b"[1,null,true,[],{}]", {}, 422),
        ("1,001", b"[" + b",".join([b"{}"] * 1_001) + b"]", {}, 413),
        ("300,000", b"[" + b",".join([b"1"] * 300_000) + b"]", {}, 400),
        ("cut", b"[" + SOUND, {}, 400),
        ("nested", b"[" * 70 + b"]" * 70, {}, 422),
        ("nested deeply", b"[" * 500_000, {}, 400),
        ("lines of nonsense", b"x\ny\nz", lines, 422),
        ("1,001 lines", b"x\n" * 1_001, lines, 413),
        ("300,000 lines", b"1\n" * 300_000, lines, 400),
        ("empty lines", b"\n" * 300_000, lines, 400),
        ("fewer empty lines", b"\n" * 100_000, lines, 422),
        ("2,000", b"[" + b",".join([b"1"] * 2_000) + b"]", {}, 413),
        ("2,000 lines", b"1\n" * 2_000, lines, 413),
        ("no lines", b"", lines, 422),
        ("lines of NUL", b"\x00\n\x00\n", lines, 422),
        ("lines in UTF-16", SOUND.decode().encode("utf-16"), lines, 422),
        ("too large", b" " * 10_000_001, {}, 413),
    ]
    for name, body, headers, status in bodies:
        yield Case(f"many: {name}", (_post(body, path, headers),), status)


def _bad_compression() -> Iterator[Case]:
    gzipped = gzip.compress(SOUND)
    bomb = gzip.compress(bytes(50_000_000))
    encodings: list[tuple[str, str, bytes, int]] = [
        ("bomb", "gzip", bomb, 413),
        ("bomb of zlib", "deflate", zlib.compress(bytes(20_000_000)), 413),
        ("bomb in a bomb", "gzip", gzip.compress(bomb), 400),
        ("none", "gzip", SOUND, 400),
        ("cut", "gzip", gzipped[:-5], 400),
        ("garbage behind", "gzip", gzipped + b"x", 400),
        ("empty", "gzip", b"", 400),
        ("40,000 empty members", "gzip", gzip.compress(b"") * 40_000, 400),
        ("zlib of noise", "deflate", b"\x78\x9c" + b"\xaa" * 1_000, 400),
        ("brotli", "br", gzipped, 415),
        ("zstd", "zstd", b"\x28\xb5\x2f\xfd" + bytes(10), 415),
        ("twice", "gzip, gzip", gzip.compress(gzipped), 415),
        ("a hundred times", ", ".join(["gzip"] * 100), gzipped, 415),
        ("unknown", "x-" + "a" * 5_000, gzipped, 415),
    ]
    for name, encoding, body, status in encodings:
        yield Case(f"compressed {name}", (_post(body, headers={"Content-Encoding": encoding}),), status)
    large = {"Content-Encoding": "gzip"}
    yield Case("compressed bomb for many", (_post(bomb, f"{WEBHOOKS}/batch", large),), 413)


def _slow_heads() -> Iterator[Case]:
    yield Case("nothing at all", (), CLOSED)
    yield Case("empty lines alone", (b"\r\n",), CLOSED)
    yield Case("half a request line", (b"POST /v1/web",), 408)
    yield Case("head without an end", (_head()[:-2],), 408)


def _slow_bodies() -> Iterator[Case]:
    yield Case("half a body", (_head(b"Content-Length: 1000") + b"{",), 408)
    yield Case("half a chunk", (_head(b"Transfer-Encoding: chunked") + b"1000\r\n{",), 408)
