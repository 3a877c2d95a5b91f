"""Senders that others have written, over real HTTP into a real log: what they send is taken as they mean it."""

import base64
import gzip
import hmac
import json
import tomllib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiohttp import ClientResponse
from cloudevents.core.bindings.http import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent
from standardwebhooks.webhooks import Webhook

from relay.receive.auth import sign, signing_key
from tests.integration.served import Served, served

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
OLD, NEW, RETIRED = ("whsec_" + base64.b64encode(name * 6).decode() for name in (b"old!", b"new!", b"gone"))
TOKEN = "the token of the events' source"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
STORE_SECRET = "hush"
DATA: dict[str, Any] = {"email": "taro@example.jp", "name": "髙橋 太郎"}
AT = "2026-04-01T09:00:00+09:00"


def filled(given: Any) -> Any:  # noqa: ANN401 - TOML
    """Replace the secrets of an example's settings by this file's, and its accounts by the tests' one."""
    if isinstance(given, dict):
        if given.keys() == {"env"}:
            return STORE_SECRET
        return {key: ["letter"] if key == "accounts" else filled(value) for key, value in given.items()}
    return [filled(one) for one in given] if isinstance(given, list) else given


def readme_sources() -> dict[str, dict[str, object]]:
    """The sources of README's example of a shop."""
    start = README.index("```toml\n[sources.store]") + len("```toml\n")
    sources: dict[str, dict[str, object]] = filled(tomllib.loads(README[start : README.index("```", start)])["sources"])
    return sources


@pytest.fixture
async def service(database: str, tmp_path: Path) -> AsyncIterator[Served]:
    """The service with the sources of these tests: `crm` signs, `bus` sends events, and README's two of a shop."""
    sources: dict[str, Mapping[str, object]] = {
        "crm": {"signing_secrets": [NEW, OLD], "bearer_tokens": []},
        "bus": {"signing_secrets": [NEW], "bearer_tokens": [TOKEN]},
        **{name: {"bearer_tokens": [], **source} for name, source in readme_sources().items()},
    }
    async with served(
        database, tmp_path, sources, RELAY_NESTING_MAX="8", RELAY_STRING_CHARACTERS_MAX="1000"
    ) as service:
        yield service


async def logged(service: Served) -> list[asyncpg.Record]:
    """All events of the log, by id."""
    return await service.rows("select * from event order by id")


@dataclass
class Svix:
    """A sender with the library `standardwebhooks`: signs with each of its secrets."""

    service: Served
    secrets: list[str]
    source: str = "crm"

    def headers(self, message_id: str, body: str, at: datetime | None = None) -> dict[str, str]:
        """The headers of a delivery."""
        now = at or datetime.now(UTC)
        signatures = [Webhook(secret).sign(message_id, now, body) for secret in self.secrets]
        return {
            "webhook-id": message_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(signatures),
        }

    async def send(self, message_id: str, body: str, at: datetime | None = None) -> ClientResponse:
        """Deliver a body."""
        return await self.service.post(body.encode(), self.source, self.headers(message_id, body, at))


def webhook(kind: str = "customer.created", **members: object) -> str:
    """A body in relay's own form."""
    return json.dumps({"type": kind, "timestamp": AT, "data": DATA, **members})


# -- Standard Webhooks -----------------------------------------------------------------------------------------------


async def test_a_secret_is_changed_without_a_gap(service: Served) -> None:
    """While a secret changes, a sender with the old, the new or both is let in; one with a retired secret is not."""
    rotation = [[OLD], [OLD, NEW], [NEW], [RETIRED, NEW]]
    for number, secrets in enumerate(rotation):
        response = await Svix(service, secrets).send(f"msg_{number}", webhook())
        assert response.status == 202, secrets
    assert (await Svix(service, [RETIRED]).send("msg_9", webhook())).status == 401
    assert await service.in_log() == ["msg_0", "msg_1", "msg_2", "msg_3"]


async def test_a_delivery_tried_again(service: Served) -> None:
    """A later attempt is signed anew under the same id: it is a duplicate, and its time is the first word's."""
    first = await (await Svix(service, [OLD]).send("msg_1", webhook())).json()
    later = datetime.now(UTC) + timedelta(seconds=200)
    again = await (await Svix(service, [NEW]).send("msg_1", webhook(), later)).json()
    assert again == {**first, "duplicate": True}
    (event,) = await logged(service)
    assert event["occurred_at"] == datetime.fromisoformat(AT)


@pytest.mark.parametrize("off_s", [-302, 302])
async def test_a_delivery_recorded_earlier(service: Served, off_s: float) -> None:
    """A delivery that is more than five minutes off is nobody's, and nothing of it is kept."""
    at = datetime.now(UTC) + timedelta(seconds=off_s)
    assert (await Svix(service, [NEW]).send("msg_1", webhook(), at)).status == 401
    assert await logged(service) == []


async def test_anything_changed_on_the_way(service: Served) -> None:
    """Another body, id or time under a good signature is refused, and so are headers that hold no text."""
    headers = Svix(service, [NEW]).headers("msg_1", webhook())
    changed = [
        (webhook("customer.deleted"), headers),
        (webhook(), {**headers, "webhook-id": "msg_2"}),
        (webhook(), {**headers, "webhook-timestamp": str(int(headers["webhook-timestamp"]) + 1)}),
        (webhook(), {**headers, "webhook-signature": headers["webhook-signature"].replace("v1,", "v1a,")}),
        (webhook(), {**headers, "webhook-signature": "v1,署名"}),
        (webhook(), {**headers, "webhook-signature": "v1,\udcff\udc80"}),
    ]
    for body, given in changed:
        assert (await service.post(body.encode(), "crm", given)).status == 401
    assert (await service.post(webhook().encode(), "crm", headers)).status == 202


async def test_a_client_that_compresses_behind_the_library(service: Served) -> None:
    """The library signs what it is given, and the client compresses it; one that signs what it sends is as good."""
    body, compressed = webhook(), {"Content-Encoding": "gzip"}
    headers = Svix(service, [NEW]).headers("msg_1", body)
    assert (await service.post(gzip.compress(body.encode()), "crm", {**headers, **compressed})).status == 202
    sent = gzip.compress(body.encode())
    at = headers["webhook-timestamp"]
    over_sent = sign(signing_key(NEW), "msg_2", at, sent)
    as_sent = {"webhook-id": "msg_2", "webhook-timestamp": at, "webhook-signature": over_sent}
    assert (await service.post(sent, "crm", {**as_sent, **compressed})).status == 202
    other = gzip.compress(webhook("customer.deleted").encode())
    for proof in (headers, as_sent):
        assert (await service.post(other, "crm", {**proof, **compressed})).status == 401
    assert await service.in_log() == ["msg_1", "msg_2"]


# -- CloudEvents -----------------------------------------------------------------------------------------------------


def event(
    kind: str = "com.example.crm.customer.created", data: dict[str, Any] | str | bytes = DATA, **attributes: object
) -> CloudEvent:
    """An event of the SDK."""
    own: dict[str, Any] = {
        "id": "A234-1234-1234",
        "source": "/crm/顧客",
        "type": kind,
        "time": datetime.fromisoformat(AT),
        "subject": "顧客 7",
        "datacontenttype": "application/json",
        **attributes,
    }
    return CloudEvent(attributes=own, data=data)


@dataclass
class Bus:
    """A sender with the SDK `cloudevents`."""

    service: Served
    proof: Mapping[str, str] = field(default_factory=lambda: BEARER)

    async def structured(self, one: CloudEvent) -> ClientResponse:
        """Deliver an event in structured mode."""
        message = to_structured_event(one)
        return await self.service.post(
            message.body, "bus", {"Content-Type": message.headers["content-type"], **self.proof}
        )

    async def binary(self, one: CloudEvent, **more: str) -> ClientResponse:
        """Deliver an event in binary mode."""
        message = to_binary_event(one)
        headers = {("Content-Type" if name == "content-type" else name): text for name, text in message.headers.items()}
        return await self.service.post(message.body, "bus", {**headers, **self.proof, **more})


async def check_taken(service: Served, response: ClientResponse, operation: str = "upsert") -> None:
    """Check that an event of this file is in the log, as it was meant."""
    assert response.status == 202, await response.text()
    assert (await response.json())["webhook_id"] == "A234-1234-1234"
    (found,) = await logged(service)
    assert (found["source"], found["message_id"], found["operation"]) == ("bus", "A234-1234-1234", operation)
    assert found["occurred_at"] == datetime.fromisoformat(AT)
    assert "taro@example.jp" in found["line"].decode("cp932")


async def test_a_structured_event(service: Served) -> None:
    """What the SDK writes in structured mode is in the log, and a repeat in binary mode is a duplicate of it."""
    await check_taken(service, await Bus(service).structured(event()))
    assert (await (await Bus(service).binary(event())).json())["duplicate"] is True


async def test_a_binary_event(service: Served) -> None:
    """What the SDK writes in binary mode, with attributes percent-encoded, is in the log."""
    await check_taken(service, await Bus(service).binary(event("com.example.customer.deleted")), "delete")


async def test_data_in_base64(service: Served) -> None:
    """Bytes that the SDK puts into base64 are read as the JSON that they are."""
    await check_taken(service, await Bus(service).structured(event(data=json.dumps(DATA).encode())))


async def test_a_signed_structured_event(service: Served) -> None:
    """Standard Webhooks sign a structured event as any other body; the event's id stays the webhook's."""
    message = to_structured_event(event())
    headers = Svix(service, [NEW]).headers("msg_1", message.body.decode())
    kind = {"Content-Type": message.headers["content-type"]}
    await check_taken(service, await service.post(message.body, "bus", {**headers, **kind}))


async def test_no_signature_lets_a_binary_event_in(service: Served) -> None:
    """The headers that say what happened are not signed: whoever recorded a good delivery could make another of it."""
    body = json.dumps(DATA)
    proof = Svix(service, [NEW]).headers("msg_1", body)
    answers = [
        await Bus(service, proof).binary(event("com.example.customer.deleted")),
        await service.post(
            webhook().encode(), "bus", {**Svix(service, [NEW]).headers("m", webhook()), "ce-specversion": "1.0"}
        ),
        await Bus(service, {"Authorization": "Bearer other"}).binary(event()),
    ]
    assert [answer.status for answer in answers] == [401, 401, 401]
    assert len({await answer.read() for answer in answers}) == 1
    assert await logged(service) == []


async def test_a_batch_of_events(service: Served) -> None:
    """A batch is taken at its own address, event by event."""
    events = [event(id=f"e{number}") for number in range(3)] + [event("com.example.customer.exploded", id="e3")]
    body = b"[" + b",".join(to_structured_event(one).body for one in events) + b"]"
    headers = {"Content-Type": "application/cloudevents-batch+json", **BEARER}
    answer = await (await service.post(body, "bus/batch", headers)).json()
    assert (answer["accepted"], answer["refused"]) == (3, 1)
    assert answer["errors"][0]["webhook_id"] == "e3"
    assert await service.in_log() == ["e0", "e1", "e2"]
    assert (await service.post(body, "bus", headers)).status == 422


async def test_what_is_no_event(service: Served) -> None:
    """Another version, and data that is no JSON, are refused by name; formats that are not JSON are not read."""
    refused = await (await Bus(service).structured(event(datacontenttype="text/plain", data="taro"))).json()
    assert [error["field"] for error in refused["errors"]] == ["datacontenttype"]
    refused = await (await Bus(service).binary(event(), **{"ce-specversion": "0.3"})).json()
    assert [error["field"] for error in refused["errors"]] == ["ce-specversion"]
    for kind in ("application/cloudevents+avro", "application/cloudevents-batch+protobuf", "text/plain"):
        assert (await service.post(b"{}", "bus", {"Content-Type": kind, **BEARER})).status == 415


# -- a shop ----------------------------------------------------------------------------------------------------------


CUSTOMER = {
    "id": 706405506930370084,
    "email": "hanako@example.jp",
    "first_name": "花子",
    "name": "佐藤 花子",
    "note": None,
    "verified_email": True,
    "created_at": "2026-03-31T20:00:00-04:00",
    "updated_at": "2026-03-31T20:00:00-04:00",
    "addresses": [{"zip": "100-0001", "country_code": "JP", "default": True}],
}


@dataclass
class Shop:
    """A shop that signs the body alone and says the rest in headers of its own."""

    service: Served
    secret: str = STORE_SECRET

    async def send(
        self, topic: str, body: object, message_id: str, source: str = "store", **more: str
    ) -> ClientResponse:
        """Deliver a body."""
        raw = json.dumps(body).encode()
        headers = {
            "X-Shopify-Topic": topic,
            "X-Shopify-Hmac-Sha256": base64.b64encode(hmac.digest(self.secret.encode(), raw, "sha256")).decode(),
            "X-Shopify-Webhook-Id": message_id,
            "X-Shopify-Shop-Domain": "example.com",
            "X-Shopify-API-Version": "2026-04",
        }
        return await self.service.post(raw, source, {**headers, **more})


async def test_a_shops_customers(service: Served) -> None:
    """README's example: customers made and changed are upserts that happened when the shop says."""
    shop = Shop(service)
    for number, topic in enumerate(("customers/create", "customers/update", "customers/update")):
        response = await shop.send(topic, CUSTOMER, f"b54557e4-bdd9-4b37-8a5f-{number:012}")
        assert response.status == 202, await response.text()
    found = [event for event in await logged(service) if event["operation"] == "upsert"]
    assert [event["message_id"][-1] for event in found] == ["0", "1", "2"]
    for one in found:
        assert one["line"].decode("cp932") == '"hanako@example.jp","佐藤 花子"\r\n'
        assert one["occurred_at"] == datetime(2026, 4, 1, tzinfo=UTC)


async def test_a_shops_repeats(service: Served) -> None:
    """A shop repeats what was not answered in time, under the same id: it is a duplicate."""
    first = await (await Shop(service).send("customers/create", CUSTOMER, "w1")).json()
    again = await (await Shop(service).send("customers/create", CUSTOMER, "w1")).json()
    assert again == {**first, "duplicate": True}


@pytest.mark.parametrize(
    ("state", "operation"),
    [("subscribed", "allow"), ("unsubscribed", "stop"), ("not_subscribed", "stop"), ("pending", "stop")],
)
async def test_a_shops_consent(service: Served, state: str, operation: str) -> None:
    """README's example: what a customer agrees to is the type, and the address has another name there."""
    body = {
        "customer_id": CUSTOMER["id"],
        "email_address": "hanako@example.jp",
        "email_marketing_consent": {"state": state, "opt_in_level": None, "consent_updated_at": "2026-04-01T00:00:00Z"},
    }
    topic = "customers_email_marketing_consent/update"
    response = await Shop(service).send(topic, body, "w1", "store-consent")
    assert response.status == 202, await response.text()
    (found,) = await logged(service)
    assert (found["operation"], found["occurred_at"]) == (operation, datetime(2026, 4, 1, tzinfo=UTC))
    assert "hanako@example.jp" in found["line"].decode("cp932")


async def test_who_is_not_the_shop(service: Served) -> None:
    """Another secret, a signature that is no text or none, or another source: all get one and the same answer."""
    good = base64.b64encode(hmac.digest(STORE_SECRET.encode(), json.dumps(CUSTOMER).encode(), "sha256")).decode()
    answers = [
        await Shop(service, "other").send("customers/create", CUSTOMER, "w1"),
        await Shop(service).send("customers/create", CUSTOMER, "w1", **{"X-Shopify-Hmac-Sha256": "署名"}),
        await Shop(service).send("customers/create", CUSTOMER, "w1", **{"X-Shopify-Hmac-Sha256": "\udcff"}),
        await Shop(service).send("customers/create", CUSTOMER, "w1", **{"X-Shopify-Hmac-Sha256": ""}),
        await Shop(service).send("customers/create", {**CUSTOMER, "x": 1}, "w1", **{"X-Shopify-Hmac-Sha256": good}),
        await Shop(service).send("customers/create", CUSTOMER, "w1", "crm"),
        await Shop(service).send("customers/create", CUSTOMER, "w1", "nowhere"),
    ]
    assert [answer.status for answer in answers] == [401] * len(answers)
    assert len({await answer.read() for answer in answers}) == 1
    assert await logged(service) == []


async def test_what_a_shop_gets_wrong(service: Served) -> None:
    """The answer names the header or the path as the settings have it."""
    response = await Shop(service).send("orders/create", {**CUSTOMER, "updated_at": "soon"}, "")
    errors = (await response.json())["errors"]
    assert [error["field"] for error in errors] == ["header X-Shopify-Webhook-Id", "header X-Shopify-Topic"]
    assert "customers/create, customers/update, customers/delete" in errors[1]["message"]
    response = await Shop(service).send("customers/create", {**CUSTOMER, "updated_at": "soon"}, "w1")
    assert [error["field"] for error in (await response.json())["errors"]] == ["body updated_at"]
    many = await Shop(service).send("customers/create", [CUSTOMER], "w1", "store/batch")
    assert [error["field"] for error in (await many.json())["errors"]] == ["header X-Shopify-Webhook-Id"]


# -- what is counted -------------------------------------------------------------------------------------------------


async def test_opt_outs_that_cannot_be_read_are_counted(service: Served, caplog: pytest.LogCaptureFixture) -> None:
    """An opt-out refused for its id, its data or a limit is counted and logged as one refused for its address is."""
    deep: object = "x"
    for _ in range(10):
        deep = [deep]
    opt_out = {"id": "w1", "type": "customer.deleted", "data": DATA}
    wrong = [
        {**opt_out, "id": ""},
        {**opt_out, "data": None},
        {**opt_out, "note": deep},
        {**opt_out, "note": "a" * 1_001},
        {**opt_out, "specversion": "0.3"},
    ]
    harmless = [{**opt_out, "type": "customer.created", "data": None}, {**opt_out, "type": "customer.exploded"}]
    for body in (*wrong, *harmless):
        assert (await service.post(body, "bus", BEARER)).status in (400, 422)
    assert await service.metric("relay_opt_outs_refused_total", source="bus") == len(wrong)
    assert sum("opt_out_refused" in record.getMessage() for record in caplog.records) == len(wrong)
    assert (await service.post([*wrong, *harmless], "bus/batch", BEARER)).status == 422
    assert await service.metric("relay_opt_outs_refused_total", source="bus") == 2 * len(wrong)
    assert (await Shop(service).send("customers/delete", {"id": 7}, "")).status == 422
    assert await service.metric("relay_opt_outs_refused_total", source="store") == 1


async def test_limits_are_counted(service: Served) -> None:
    """Every request, and every webhook among many, that goes beyond a limit is counted under the limit's name."""
    deep = b'{"a":' * 9 + b"1" + b"}" * 9
    long = json.dumps({"a": "a" * 1_001}).encode()
    for body in (deep, b"[" * 100_000, long):
        assert (await service.post(body, "bus", BEARER)).status == 400
    lines = {"Content-Type": "application/x-ndjson", **BEARER}
    assert (await service.post(b"\n".join([deep, b"[" * 100_000, long, long]), "bus/batch", lines)).status == 422
    assert (await service.post(b"{}\n" * 1_001, "bus/batch", lines)).status == 413
    counted = {
        name: await service.metric("relay_limits_met_total", limit=name)
        for name in ("nesting", "string_characters", "webhooks")
    }
    assert counted == {"nesting": 4, "string_characters": 3, "webhooks": 1}
