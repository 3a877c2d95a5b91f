"""Webhooks over HTTP into a real log: what is taken, what is refused and how, and what the log holds afterwards."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import perf_counter

import asyncpg
import pytest
from aiohttp import ClientResponse, ClientSession, web

from relay.demo.postgres import Cluster
from relay.events import Keys, Operation
from relay.metrics import Metrics
from relay.problem import problems
from relay.receive import Appender, Limits, Receiver, routes
from relay.receive.auth import sign, signing_key
from relay.receive.refusals import REFUSALS
from relay.settings import Column, Settings
from relay.store import Store
from tests.logins import LOGINS
from tests.waiting import until

SECRET = "whsec_" + base64.b64encode(b"the secret that crm signs with").decode()
OLD_SECRET = "the secret that crm signed with before"
BEARER = {"Authorization": "Bearer shop-token"}
BODY_BYTES_MAX = 20_000
NESTING_MAX = Limits().nesting_max
WEBHOOKS_MAX = Limits().webhooks_max
MANY_BYTES_MAX = 200_000

DATA = {"email": "taro@example.jp", "name": "髙橋 太郎"}


@pytest.fixture
def settings() -> Settings:
    """Source `crm` signs and sends to both accounts; `shop` and `lenient` have a token and send to one."""
    return Settings.model_validate(
        {
            "sources": {
                "crm": {"signing_secrets": [SECRET, OLD_SECRET], "accounts": ["news", "letter"]},
                "shop": {"bearer_tokens": ["shop-token"], "accounts": ["letter"]},
                "lenient": {"bearer_tokens": ["lenient-token"], "accounts": ["news"]},
            },
            "logins": LOGINS,
            "accounts": {
                "news": {
                    "login": "blast",
                    "columns": {"E-Mail": "email", "氏名": "name"},
                    "operations": {"customer.banned": "ignore"},
                },
                "letter": {
                    "login": "haihai",
                    "columns": {"メール": "email", "名前": "name"},
                    "unencodable": "reject",
                    "operations": {"customer.banned": "ignore"},
                },
            },
        }
    )


@dataclass
class Service:
    """A receiver over HTTP with its log."""

    client: ClientSession
    port: int
    connection: asyncpg.Connection
    metrics: Metrics

    async def post(
        self, body: object, path: str = "shop", headers: Mapping[str, str] = BEARER, kind: str = "application/json"
    ) -> ClientResponse:
        """Post a body (bytes as they are, anything else as JSON) to /v1/webhooks/<path>."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.client.post(f"/v1/webhooks/{path}", data=raw, headers={"Content-Type": kind, **headers})

    async def signed(
        self,
        body: object,
        message_id: str = "w1",
        path: str = "crm",
        secret: str = SECRET,
        off_s: float = 0,
        headers: Mapping[str, str] | None = None,
    ) -> ClientResponse:
        """Post a body, signed as crm does, with a clock that is `off_s` ahead; `headers` are added afterwards."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        at = str(int(datetime.now(UTC).timestamp() + off_s))
        signature = sign(signing_key(secret), message_id, at, raw)
        signed = {"webhook-id": message_id, "webhook-timestamp": at, "webhook-signature": signature}
        return await self.post(raw, path, {**signed, **(headers or {})})

    async def events(self) -> list[asyncpg.Record]:
        """All events of the log, by id."""
        return await self.connection.fetch("select * from event order by id")

    def counted(self, source: str = "shop") -> dict[str, float]:
        """How many webhooks of a source came to which result, those that are not zero."""
        samples = [sample for metric in self.metrics.webhooks.collect() for sample in metric.samples]
        return {
            sample.labels["result"]: sample.value
            for sample in samples
            if sample.name == "relay_webhooks_total" and sample.labels["source"] == source and sample.value
        }


def webhook(kind: str = "customer.created", message_id: str | None = None, **members: object) -> dict[str, object]:
    """A webhook's body."""
    body: dict[str, object] = {"type": kind, "timestamp": "2026-04-01T09:00:00+09:00", "data": DATA, **members}
    return body if message_id is None else {"id": message_id, **body}


@pytest.fixture
async def service(settings: Settings, database: str) -> AsyncIterator[Service]:
    """A receiver on a fresh database."""
    async with serving(settings, database) as service:
        yield service


@asynccontextmanager
async def serving(settings: Settings, database: str) -> AsyncIterator[Service]:
    """Serve a receiver with small limits."""
    metrics = Metrics()
    metrics.create_at_zero(settings)
    async with Store.open(database) as store, Appender(store, metrics) as appender:
        layouts = {
            (account, operation): await store.ensure_layout(account, operation, [{"path": "email"}])
            for account in settings.accounts
            for operation in Operation
        }
        receiver = Receiver(
            settings,
            Keys(b"a deployment's secret"),
            layouts,
            appender,
            metrics,
            Limits(webhook_bytes_max=BODY_BYTES_MAX, body_bytes_max=MANY_BYTES_MAX),
        )
        app = web.Application(middlewares=[problems])
        app.add_routes(routes(receiver))
        connection = await asyncpg.connect(database)
        runner = web.AppRunner(app, access_log=None, auto_decompress=False)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        async with ClientSession(f"http://127.0.0.1:{port}") as client:
            yield Service(client, port, connection, metrics)
        await runner.cleanup()
        await connection.close()


async def problem_of(response: ClientResponse, status: int) -> list[str]:
    """Check that an answer is a problem with this status; return the fields that it names."""
    assert response.status == status, await response.text()
    assert response.content_type == "application/problem+json"
    body = await response.json()
    assert body["status"] == status
    assert body.keys() >= {"type", "title", "status", "detail", "errors"}
    assert "taro@example.jp" not in await response.text()
    return [error["field"] for error in body["errors"]]


# -- one webhook -----------------------------------------------------------------------------------------------------


async def test_a_signed_webhook_is_in_the_log(service: Service) -> None:
    """A 202 means: each account has its event in the log, under the id that the answer tells."""
    response = await service.signed(webhook(data={**DATA, "name": "𠮷田"}), "w1")
    assert response.status == 422  # letter refuses what it cannot encode, so news does not get it either
    assert await service.events() == []
    response = await service.signed(webhook(), "w1")
    assert response.status == 202
    assert response.content_type == "application/json"
    events = sorted(await service.events(), key=lambda event: event["account"] == "letter")
    assert await response.json() == {
        "webhook_id": "w1",
        "duplicate": False,
        "events": [{"account": event["account"], "event_id": event["id"]} for event in events],
        "warnings": [],
    }
    assert [event["account"] for event in events] == ["news", "letter"]
    for event in events:
        assert event["line"].decode("cp932") == '"taro@example.jp","髙橋 太郎"\r\n'
        assert event["occurred_at"] == datetime(2026, 4, 1, 0, 0, tzinfo=UTC)
        assert abs(event["received_at"] - datetime.now(UTC)) < timedelta(minutes=1)


async def test_a_bearer_token_and_the_id_in_the_body(service: Service) -> None:
    """With a token the id may stand in the body; a header comes before it; without either the webhook is refused."""
    assert (await (await service.post(webhook(message_id="b1"))).json())["webhook_id"] == "b1"
    response = await service.post(webhook(message_id="b2"), headers={**BEARER, "webhook-id": "h2"})
    assert (await response.json())["webhook_id"] == "h2"
    assert await problem_of(await service.post(webhook()), 422) == ["id"]


async def test_every_live_secret_is_taken(service: Service) -> None:
    """While secrets change, the old and the new one are good."""
    assert (await service.signed(webhook(), "w1", secret=OLD_SECRET)).status == 202
    assert (await service.signed(webhook(), "w2", secret=SECRET)).status == 202


async def test_a_repeat_is_a_duplicate(service: Service) -> None:
    """The same webhook again is answered with the same events; a repeat in other words is the same still."""
    first = await (await service.signed(webhook(), "w1")).json()
    again = await (await service.signed(dict(reversed(webhook().items())), "w1")).json()
    assert again == {**first, "duplicate": True}
    assert len(await service.events()) == 2
    assert service.counted("crm") == {"accepted": 1, "duplicate": 1}


async def test_another_content_is_a_conflict(service: Service) -> None:
    """A known id that says something else is refused, and the log keeps what was there."""
    await service.post(webhook(message_id="w1"))
    other = await service.post(webhook("customer.deleted", "w1"))
    assert await problem_of(other, 409) == ["id"]
    assert [event["operation"] for event in await service.events()] == ["upsert"]
    assert service.counted() == {"accepted": 1, "conflict": 1}


async def test_every_refused_opt_out_is_counted(service: Service) -> None:
    """Somebody has to mend it, or a customer is mailed who must not be: alone or among many, a 409 as well as a 422."""

    def counted() -> float:
        return service.metrics.registry.get_sample_value("relay_opt_outs_refused_total", {"source": "shop"}) or 0

    lost = {"email": "no address"}
    await service.post(webhook(message_id="w1"))
    assert (await service.post(webhook(message_id="w2", data=lost))).status == 422
    assert counted() == 0, "only opt-outs count"
    assert (await service.post(webhook("customer.stopped", "w3", data=lost))).status == 422
    assert counted() == 1
    assert (await service.post(webhook("customer.deleted", "w1"))).status == 409
    assert counted() == 2
    many = [
        webhook("customer.deleted", "w4", data=lost),
        webhook("customer.deleted", "w1"),
        webhook("customer.deleted", "w5"),
        webhook(message_id="w6", data=lost),
    ]
    assert (await service.post(many, "shop/batch")).status == 202
    assert counted() == 4


async def test_a_repeat_is_a_duplicate_whatever_the_settings_are_by_then(settings: Settings, database: str) -> None:
    """A webhook that was taken once is not refused when it comes again, nor another one of its id mistaken for it."""
    async with serving(settings, database) as service:
        first = await (await service.post(webhook(message_id="w1"))).json()
    shop = settings.accounts["letter"]
    stricter = shop.model_copy(update={"columns": {**shop.columns, "住所": Column(path="street", required=True)}})
    changed = settings.model_copy(update={"accounts": {**settings.accounts, "letter": stricter}})
    async with serving(changed, database) as service:
        again = await service.post(webhook(message_id="w1"))
        assert (again.status, await again.json()) == (202, {**first, "duplicate": True})
        assert (await service.post(webhook(message_id="w1", data={**DATA, "name": "別人"}))).status == 409
        assert (await service.post(webhook(message_id="w2"))).status == 422
        many = [webhook(message_id="w1"), webhook(message_id="w1", data={"name": "?"}), webhook(message_id="w2")]
        answer = await (await service.post(many, "shop/batch")).json()
        assert (answer["duplicates"], answer["refused"]) == (1, 2)
        assert [error["errors"][0]["field"] for error in answer["errors"]] == ["id", "data.street"]
        assert len(await service.events()) == 1
        assert service.counted() == {"duplicate": 2, "conflict": 2, "invalid": 2}


async def test_ids_belong_to_their_source(service: Service) -> None:
    """Two sources may use the same id for different things."""
    assert (await service.post(webhook(message_id="w1"))).status == 202
    response = await service.signed(webhook("customer.deleted"), "w1")
    assert (await response.json())["duplicate"] is False


async def test_a_type_that_all_ignore(service: Service) -> None:
    """A type that no account wants is taken and becomes no event."""
    response = await service.post(webhook("customer.banned", "w1"))
    assert response.status == 202
    assert await response.json() == {"webhook_id": "w1", "duplicate": False, "events": [], "warnings": []}
    assert await service.events() == []


async def test_remarks_are_in_the_answer(service: Service) -> None:
    """What relay did to a value, or made of a timestamp, is told in the answer."""
    future = webhook("customer.deleted", "w1", timestamp="2999-01-01T00:00:00Z")
    body = await (await service.post(future)).json()
    assert [warning["field"] for warning in body["warnings"]] == ["timestamp"]


async def test_replaced_characters_are_counted(service: Service) -> None:
    """Characters that became 〓 are counted when their webhook is in the log, once, and told each time."""
    hard = webhook("customer.created", "w1", data={**DATA, "name": "𠮷田🍣"})
    for path, body in (("lenient", hard), ("lenient", hard), ("lenient/batch", [hard, {**hard, "id": "w2"}])):
        told = await (await service.post(body, path, {"Authorization": "Bearer lenient-token"})).json()
        assert [warning["account"] for warning in told["warnings"]] == ["news"] * len(told["warnings"])
        assert told["warnings"]
    value = service.metrics.registry.get_sample_value("relay_replaced_characters_total", {"vendor": "blastmail"})
    assert value == 4


async def test_concurrent_repeats_are_one_event(service: Service) -> None:
    """A webhook sent many times at once is appended once; all are told its event, and one that it is new."""
    responses = await asyncio.gather(*[service.post(webhook(message_id="w1")) for _ in range(20)])
    bodies = [await response.json() for response in responses]
    assert len({json.dumps(body["events"]) for body in bodies}) == 1
    assert sorted(body["duplicate"] for body in bodies) == [False] + [True] * 19
    assert len(await service.events()) == 1


async def test_received_at_follows_the_order_of_reading(service: Service) -> None:
    """Of webhooks received one after the other the later one has the later stamp, always."""
    for number in range(20):
        await service.post(webhook(message_id=f"w{number}"))
    stamps = [event["received_at"] for event in await service.events()]
    assert stamps == sorted(set(stamps))


# -- who is let in ---------------------------------------------------------------------------------------------------


NOT_LET_IN: list[tuple[str, dict[str, str]]] = [
    ("shop", {}),
    ("shop", {"Authorization": "Bearer other"}),
    ("shop", {"Authorization": "Basic c2hvcC10b2tlbg=="}),
    ("crm", BEARER),
    ("nowhere", BEARER),
    ("nowhere", {}),
    ("relay", BEARER),
    ("shop/batch", {}),
    ("nowhere/batch", BEARER),
]


async def test_who_is_not_let_in(service: Service, subtests: pytest.Subtests) -> None:
    """Unknown sources and wrong proofs get one and the same answer, whatever the body, and leave nothing."""
    answers = set()
    for path, headers in NOT_LET_IN:
        for body in (webhook(message_id="w1"), b"{"):
            with subtests.test(path=path, headers=headers, body=body):
                response = await service.post(body, path, headers)
                assert await problem_of(response, 401) == []
                assert response.headers["WWW-Authenticate"] == 'Bearer realm="relay"'
                answers.add(await response.read())
    assert len(answers) == 1
    assert await service.events() == []
    assert service.counted("nowhere") == service.counted("relay") == {}
    assert service.counted("shop") == {"unauthorized": 8}


async def test_signatures_are_checked(service: Service) -> None:
    """A wrong secret, an old timestamp, a body or id other than signed: none is let in."""
    refused = [
        await service.signed(webhook(), secret="another"),
        await service.signed(webhook(), off_s=-360),
        await service.signed(webhook(), off_s=360),
        await service.signed(webhook(), headers={"webhook-id": "w2"}),
        await service.signed(webhook(), path="shop"),
        await service.signed(webhook(), path="nowhere"),
    ]
    for response in refused:
        await problem_of(response, 401)
    assert service.counted("crm") == {"unauthorized": 4}
    assert service.counted("shop") == {"unauthorized": 1}


# -- hostile bodies --------------------------------------------------------------------------------------------------

DEEP = b'{"id":"w","type":"customer.created","data":' + b'{"a":' * NESTING_MAX + b"1" + b"}" * NESTING_MAX + b"}"


HOSTILE: list[tuple[object, int, list[str]]] = [
    (b"", 400, ["body"]),
    (b"{", 400, ["body"]),
    (b"\xff\xfe{}", 400, ["body"]),
    (b"\x00", 400, ["body"]),
    (DEEP, 400, ["body"]),
    (b"[" * BODY_BYTES_MAX, 400, ["body"]),
    (b'{"id":"w","id":"w"}', 400, ["body"]),
    (b'{"data":{"n":NaN}}', 400, ["body"]),
    (b'{"data":{"n":1e400}}', 400, ["body"]),
    (b"x" * (BODY_BYTES_MAX + 1), 413, []),
    (b"[]", 422, ["body"]),
    (b"null", 422, ["body"]),
    (b"{}", 422, ["id", "type", "data"]),
    (webhook(message_id="w\x00"), 422, ["id"]),
    (webhook(message_id="w" * 201), 422, ["id"]),
    (webhook("customer.created\x00", "w"), 422, ["type"]),
    (webhook(message_id="w", timestamp="2026-04-01T09:00:00"), 422, ["timestamp"]),
    (webhook(message_id="w", timestamp=1775000000), 422, ["timestamp"]),
    (webhook(message_id="w", data={**DATA, "name": "a\x00b"}), 422, ["data.name"]),
    (webhook(message_id="w", data={**DATA, "name": "\ud800"}), 422, ["data.name"]),
    (webhook(message_id="w", data={**DATA, "name": {"first": "taro@example.jp"}}), 422, ["data.name"]),
    (webhook(message_id="w", data={**DATA, "email": "taro@example.jp\x00"}), 422, ["data.email"]),
    (webhook(message_id="w", data={**DATA, "email": "taro@example.jp,x"}), 422, ["data.email"]),
    (webhook(message_id="w", data={"email": "", "name": "🍣"}), 422, ["data.email", "data.name"]),
]


async def test_hostile_bodies(service: Service, subtests: pytest.Subtests) -> None:
    """Each body that is no webhook gets its status, with the fields at fault and none of its values."""
    for body, status, fields in HOSTILE:
        with subtests.test(body=repr(body)[:80]):
            assert await problem_of(await service.post(body), status) == fields
    assert await service.events() == []
    too_large = sum(status == 413 for _, status, _ in HOSTILE)
    assert service.counted() == {"too_large": too_large, "invalid": len(HOSTILE) - too_large}


KINDS: list[tuple[dict[str, str], int]] = [
    ({"Content-Type": "text/plain"}, 415),
    ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
    ({"Content-Type": "application/x-ndjson"}, 415),
    ({"Content-Encoding": "br"}, 415),
    ({"Content-Encoding": "gzip"}, 400),  # which it is not
    ({"Content-Type": "application/json; charset=utf-8"}, 202),
    ({"Content-Type": "application/problem+json"}, 202),
]


async def test_kinds_of_body(service: Service, subtests: pytest.Subtests) -> None:
    """JSON is read; anything else is refused by its headers."""
    for headers, status in KINDS:
        with subtests.test(headers=headers):
            response = await service.post(webhook(message_id="w1"), headers={**BEARER, **headers})
            assert response.status == status


async def test_a_chunked_body_has_the_same_limit(service: Service) -> None:
    """A body that does not tell its size beforehand is refused where it passes the limit."""

    async def chunks(size: int) -> AsyncIterator[bytes]:
        yield json.dumps(webhook(message_id="w1")).encode()
        yield b" " * size

    for size, status in ((10, 202), (BODY_BYTES_MAX, 413)):
        response = await service.client.post(
            "/v1/webhooks/shop", data=chunks(size), headers={"Content-Type": "application/json", **BEARER}
        )
        assert response.status == status


async def test_what_is_too_large_is_not_even_read(service: Service) -> None:
    """A body that says beforehand how large it is gets its answer before it is sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    head = "POST /v1/webhooks/shop HTTP/1.1\r\nHost: relay\r\nAuthorization: Bearer shop-token\r\n"
    writer.write(f"{head}Content-Type: application/json\r\nContent-Length: 999999999\r\n\r\n".encode())
    async with asyncio.timeout(5):
        assert await reader.readline() == b"HTTP/1.1 413 Request Entity Too Large\r\n"
    writer.close()


RAW = json.dumps(webhook(message_id="w1")).encode()


@pytest.mark.parametrize(
    ("framing", "body"),
    [
        (f"Content-Length: {len(RAW) + 1}", RAW),
        ("Transfer-Encoding: chunked", f"{len(RAW):x}\r\n".encode() + RAW),
    ],
    ids=["length", "chunk"],
)
async def test_a_body_that_does_not_end(service: Service, framing: str, body: bytes) -> None:
    """A connection that breaks within a body makes a bad request and appends nothing."""
    head = "POST /v1/webhooks/shop HTTP/1.1\r\nHost: relay\r\nAuthorization: Bearer shop-token\r\n"
    _, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(f"{head}Content-Type: application/json\r\n{framing}\r\n\r\n".encode())
    await writer.drain()
    writer.write(body)
    await writer.drain()
    writer.close()
    await until(lambda: bool(service.counted()))
    assert service.counted() == {"invalid": 1}
    assert await service.events() == []


async def test_other_methods_and_paths_are_problems(service: Service) -> None:
    """Also what is not served at all is answered as a problem."""
    response = await service.client.get("/v1/webhooks/shop")
    await problem_of(response, 405)
    assert response.headers["Allow"] == "POST"
    await problem_of(await service.client.get("/nothing"), 404)


def test_every_refusal_is_a_client_error() -> None:
    """The table of refusals blames the sender only for what the sender can mend, under a result that is a label."""
    assert {refusal.status for refusal in REFUSALS.values()} == {400, 401, 403, 408, 409, 413, 415, 422, 429}


# -- many at once ----------------------------------------------------------------------------------------------------


async def test_an_array_of_webhooks(service: Service) -> None:
    """Good entries are appended, the others listed by index with what is wrong, and repeats are told from new ones."""
    await service.post(webhook(message_id="known"))
    entries = [
        webhook(message_id="w0"),
        webhook("customer.exploded", "w1"),
        webhook(message_id="known"),
        webhook("customer.deleted", "known", timestamp="2999-01-01T00:00:00Z"),
        webhook(message_id="w0"),
        webhook("customer.deleted", "w0"),
        {"type": "customer.created"},
        webhook(message_id="w7", data={**DATA, "name": "🍣"}),
        webhook("customer.stopped", "w8", timestamp="2999-01-01T00:00:00Z"),
        webhook("customer.banned", "ignored"),
    ]
    response = await service.post(entries, "shop/batch")
    assert response.status == 202
    body = await response.json()
    errors = {error["index"]: (error["webhook_id"], [e["field"] for e in error["errors"]]) for error in body["errors"]}
    assert errors == {
        1: ("w1", ["type"]),
        3: ("known", ["id"]),
        5: ("w0", ["id"]),
        6: (None, ["id", "data"]),
        7: ("w7", ["data.name"]),
    }
    assert {key: body[key] for key in ("accepted", "duplicates", "refused", "events")} == {
        "accepted": 3,
        "duplicates": 2,
        "refused": 5,
        "events": 2,
    }
    assert [(warning["index"], warning["webhook_id"], warning["field"]) for warning in body["warnings"]] == [
        (8, "w8", "timestamp")
    ]
    assert [event["message_id"] for event in await service.events()] == ["known", "w0", "w8"]
    assert service.counted() == {"accepted": 4, "duplicate": 2, "conflict": 2, "invalid": 3}


async def test_lines_of_webhooks(service: Service) -> None:
    """NDJSON does the same, and a line that is no JSON is refused alone; the signature covers all of the body."""
    lines = b"\n".join([json.dumps(webhook(message_id="w0")).encode(), b"", b"{", b'{"id": NaN}'])
    response = await service.signed(lines, "many-1", "crm/batch", headers={"Content-Type": "application/x-ndjson"})
    assert response.status == 202
    body = await response.json()
    assert [error["index"] for error in body["errors"]] == [1, 2]
    assert (body["accepted"], body["events"]) == (1, 2)


async def test_all_in_one_append(service: Service) -> None:
    """However many webhooks a request brings, they are committed together, in its order."""
    entries = [webhook(message_id=f"w{number:04}") for number in range(300)]
    response = await service.post(entries, "shop/batch")
    assert (await response.json())["events"] == 300
    assert service.metrics.registry.get_sample_value("relay_append_batch_size_count") == 1
    events = sorted(await service.events(), key=lambda event: str(event["message_id"]))
    stamps = [event["received_at"] for event in events]
    assert stamps == sorted(set(stamps))


async def test_when_all_are_refused(service: Service) -> None:
    """A request of which nothing is taken is no success: 422, with the same list."""
    response = await service.post([{}, webhook("x", "w1")], "shop/batch")
    assert response.status == 422
    body = await response.json()
    assert (body["accepted"], body["refused"], [error["index"] for error in body["errors"]]) == (0, 2, [0, 1])


HOSTILE_BATCHES = [
    (b"[]", "application/json", 422),
    (b"{}", "application/json", 422),
    (b"[{}", "application/json", 400),
    (b"", "application/x-ndjson", 422),
    (b"[" + b"{}," * WEBHOOKS_MAX + b"{}]", "application/json", 413),
    (b"{}\n" * (WEBHOOKS_MAX + 1), "application/x-ndjson", 413),
    (b" " * (MANY_BYTES_MAX + 1), "application/x-ndjson", 413),
    (b"[]", "text/csv", 415),
]


async def test_hostile_batches(service: Service, subtests: pytest.Subtests) -> None:
    """A request for many that is wrong as a whole is refused as a whole."""
    for body, kind, status in HOSTILE_BATCHES:
        with subtests.test(body=repr(body)[:80], kind=kind):
            await problem_of(await service.post(body, "shop/batch", kind=kind), status)
    assert await service.events() == []


# -- Postgres gone ---------------------------------------------------------------------------------------------------


async def test_postgres_gone_and_back(service: Service, cluster: Cluster) -> None:
    """Without Postgres a webhook gets 503 with Retry-After within five seconds; when it is back, so is relay."""
    assert (await service.post(webhook(message_id="before"))).status == 202
    async with cluster.interrupted():
        for path, body in (("shop", webhook(message_id="w1")), ("shop/batch", [webhook(message_id="w1")])):
            started = perf_counter()
            response = await service.post(body, path)
            assert await problem_of(response, 503) == []
            assert int(response.headers["Retry-After"]) > 0
            assert perf_counter() - started < 5
    response = await service.post(webhook(message_id="w1"))
    assert response.status == 202
    assert (await response.json())["duplicate"] is False
    assert service.counted() == {"accepted": 2, "unavailable": 2}


async def test_postgres_does_not_answer(service: Service) -> None:
    """While Postgres hangs all who wait get 503 within five seconds; afterwards each webhook is in the log once."""
    async with service.connection.transaction():
        await service.connection.execute("lock table event in access exclusive mode")
        started = perf_counter()
        responses = await asyncio.gather(*[service.post(webhook(message_id=f"w{n}")) for n in range(10)])
        assert perf_counter() - started < 5
        for response in responses:
            await problem_of(response, 503)
    responses = await asyncio.gather(*[service.post(webhook(message_id=f"w{n}")) for n in range(10)])
    assert {response.status for response in responses} == {202}
    assert sorted(event["message_id"] for event in await service.events()) == [f"w{n}" for n in range(10)]
