"""Customers who change their address, over HTTP into a real log: what is taken, what is kept, and what is told."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest
from aiohttp import ClientResponse, ClientSession, web

from relay.events import Keys, Operation
from relay.metrics import Metrics
from relay.problem import problems
from relay.receive import Appender, Limits, Receiver, routes
from relay.receive.followed import Followed
from relay.receive.following import decide
from relay.settings import Settings
from relay.status import Sampler
from relay.store import Store
from relay.store.book import Book, Decided
from tests.logins import LOGINS

SHOP_SECRET = "the shop's webhook secret"
KEYS = Keys(b"a deployment's secret")


def settings(**shop: object) -> Settings:
    """Source `shop` sends as Shopify does and names its customers; `crm` sends to one of its accounts by address."""
    return Settings.model_validate(
        {
            "sources": {
                "shop": {
                    "body_signature": {"header": "X-Shopify-Hmac-Sha256", "secrets": [SHOP_SECRET]},
                    "plain": {
                        "id": {"header": "X-Shopify-Webhook-Id"},
                        "type": {"header": "X-Shopify-Topic"},
                        "time": "updated_at",
                        "data": "@",
                    },
                    "types": {
                        "customers/create": "customer.created",
                        "customers/update": "customer.updated",
                        "customers/delete": "customer.deleted",
                    },
                    "accounts": ["news", "letter"],
                    "customer_id": "id",
                    **shop,
                },
                "crm": {
                    "bearer_tokens": ["crm-token"],
                    "accounts": ["news"],
                    "customer_id": "key",
                    "previous_address": "was",
                },
                "desk": {"bearer_tokens": ["desk-token"], "accounts": ["news"]},
                "apart": {"bearer_tokens": ["apart-token"], "accounts": ["other"]},
            },
            "logins": LOGINS,
            "accounts": {
                "news": {"login": "haihai", "columns": {"メール": "email", "名前": "name"}},
                "letter": {
                    "login": "blast",
                    "columns": {"E-Mail": "email"},
                    "operations": {"customer.banned": "stop", "customer.deleted": "stop"},
                },
                "other": {"login": "haihai", "columns": {"メール": "email"}},
            },
        }
    )


@dataclass
class Front:
    """A receiver over HTTP with its log, and a way to look into it."""

    client: ClientSession
    connection: asyncpg.Connection
    metrics: Metrics
    store: Store
    settings: Settings

    async def shop(self, topic: str, webhook_id: str, **data: object) -> ClientResponse:
        """Send as a shop does: the HMAC of the body in base64, the id in a header."""
        raw = json.dumps(data).encode()
        signature = base64.b64encode(hmac.digest(SHOP_SECRET.encode(), raw, hashlib.sha256)).decode()
        headers = {
            "Content-Type": "application/json",
            "X-Shopify-Topic": f"customers/{topic}",
            "X-Shopify-Webhook-Id": webhook_id,
            "X-Shopify-Hmac-Sha256": signature,
        }
        return await self.client.post("/v1/webhooks/shop", data=raw, headers=headers)

    async def say(self, kind: str, message_id: str, second: int, source: str = "crm", **data: object) -> ClientResponse:
        """Send a webhook with a token, that happened so many seconds into the day."""
        body = webhook(kind, message_id, second, **data)
        return await self.client.post(f"/v1/webhooks/{source}", json=body, headers=bearer(source))

    async def log(self, account: str = "news") -> list[tuple[str, str, str]]:
        """What an account's log holds: message id, operation, address."""
        rows = await self.connection.fetch("select * from event where account = $1 order by id", account)
        return [(r["message_id"], r["operation"], r["line"].decode("cp932").split('"')[1]) for r in rows]

    async def column(self, query: str, *args: object) -> list[Any]:
        """The first column of a query's rows."""
        return [row[0] for row in await self.connection.fetch(query, *args)]


def webhook(kind: str, message_id: str, second: int, **data: object) -> dict[str, object]:
    """A webhook's body."""
    timestamp = f"2026-04-01T09:{second // 60:02}:{second % 60:02}+09:00"
    return {"id": message_id, "type": f"customer.{kind}", "timestamp": timestamp, "data": data}


def bearer(source: str) -> dict[str, str]:
    """The token of a source."""
    return {"Authorization": f"Bearer {source}-token"}


@asynccontextmanager
async def serving(made: Settings, database: str) -> AsyncIterator[Front]:
    """Serve a receiver."""
    metrics = Metrics()
    metrics.create_at_zero(made)
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(Store.open(database))
        appender = await stack.enter_async_context(Appender(store, metrics))
        layouts = {
            (account, operation): await store.ensure_layout(account, operation, [{"path": "email"}])
            for account in made.accounts
            for operation in Operation
        }
        receiver = Receiver(made, KEYS, layouts, appender, metrics, Limits())
        app = web.Application(middlewares=[problems])
        app.add_routes(routes(receiver))
        runner = web.AppRunner(app, access_log=None, auto_decompress=False)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        connection = await asyncpg.connect(database)
        stack.push_async_callback(connection.close)
        session = ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}")
        yield Front(await stack.enter_async_context(session), connection, metrics, store, made)


@pytest.fixture
async def front(database: str) -> AsyncIterator[Front]:
    """A receiver on a fresh database."""
    async with serving(settings(), database) as front:
        yield front


async def taken(response: ClientResponse) -> dict[str, Any]:
    """The answer of a webhook that was taken."""
    assert response.status == 202, await response.text()
    told: dict[str, Any] = await response.json()
    return told


A, B, C = "a@example.jp", "b@example.jp", "c@example.jp"


async def test_a_shop_deletes_by_id_alone(front: Front) -> None:
    """Shopify's customers/delete has no address: the one that was kept is used, the last one at each account."""
    at = "2026-04-01T09:00:0{}+09:00"
    await taken(await front.shop("create", "s1", id=706405506930370084, email=A, updated_at=at.format(1)))
    moved = await taken(await front.shop("update", "s2", id=706405506930370084, email=B, updated_at=at.format(2)))
    assert [event["account"] for event in moved["events"]] == ["news", "news", "letter", "letter"]
    gone = await taken(await front.shop("delete", "s3", id=706405506930370084, updated_at=at.format(3)))
    assert [event["account"] for event in gone["events"]] == ["news", "letter"]
    assert gone["warnings"] == []
    assert await front.log() == [
        ("s1", "upsert", A),
        ("s2", "upsert", B),
        ("s2→moved", "delete", A),
        ("s3", "delete", B),
    ]
    assert ("s2→moved", "stop", A) in await front.log("letter"), "a deletion is what the account makes of it"
    again = await taken(await front.shop("delete", "s3", id=706405506930370084, updated_at=at.format(3)))
    assert again == {**gone, "duplicate": True}


async def test_the_person_stays_opted_out_over_http(front: Front) -> None:
    """Who unsubscribed is not subscribed again by a new address, at any account, nor by a repeat of the old one."""
    await taken(await front.say("created", "w1", 1, key="k1", email=A))
    await taken(await front.say("stopped", "w2", 2, key="k1"))
    await taken(await front.say("updated", "w3", 3, key="k1", email=B))
    await taken(await front.say("updated", "w4", 1, key="k1", email=A, name="late"))
    assert await front.log() == [
        ("w1", "upsert", A),
        ("w2", "stop", A),
        ("w3", "upsert", B),
        ("w3→kept", "stop", B),
        ("w3→moved", "delete", A),
        ("w4", "upsert", A),
    ]


async def test_an_opt_out_of_an_unknown_customer_is_kept_and_told(front: Front) -> None:
    """202 with a warning and no event; a repeat is a duplicate; when the id becomes known it is in the log."""
    waits = await taken(await front.say("stopped", "w1", 1, key=7))
    warning = {"field": "data.key", "message": "no address is known for it yet: the opt-out is kept until there is one"}
    assert waits == {"webhook_id": "w1", "duplicate": False, "events": [], "warnings": [warning]}
    assert await taken(await front.say("stopped", "w1", 1, key=7)) == {**waits, "duplicate": True}
    assert (await front.say("stopped", "w1", 2, key=7)).status == 409
    await Sampler(front.store, front.settings, front.metrics).sample_once()
    waiting = front.metrics.registry.get_sample_value
    assert waiting("relay_opt_outs_unresolved", {"source": "crm"}) == 1
    assert waiting("relay_opt_outs_unresolved", {"source": "shop"}) == 0
    await taken(await front.say("created", "w2", 2, key="7", email=A))
    assert await front.log() == [("w1", "stop", A), ("w2", "upsert", A)], "7 and '7' are one customer"
    await Sampler(front.store, front.settings, front.metrics).sample_once()
    assert waiting("relay_opt_outs_unresolved", {"source": "crm"}) == 0
    assert waiting("relay_events_total", {"vendor": "haihai", "operation": "stop"}) == 1


async def test_what_an_opt_out_has_to_say(front: Front) -> None:
    """An address or an id; a bad address does not matter beside an id, nor a bad id beside an address."""
    assert (await front.say("stopped", "w1", 1, key=True)).status == 422
    refused = await (await front.say("deleted", "w2", 1, key="", email="no address")).json()
    assert [error["field"] for error in refused["errors"]] == ["data.email", "data.key"]
    counted = front.metrics.registry.get_sample_value("relay_opt_outs_refused_total", {"source": "crm"})
    assert counted == 2
    odd = await taken(await front.say("stopped", "w3", 1, key="k", email="no address"))
    assert [warning["field"] for warning in odd["warnings"]] == ["data.email", "data.key"]
    assert (await taken(await front.say("stopped", "w4", 1, key={"no": "id"}, email=B)))["events"]
    refused = await (await front.say("allowed", "w5", 1, key="nobody")).json()
    assert [error["field"] for error in refused["errors"]] == ["data.key"]


@pytest.mark.parametrize("key", [None, "", "x" * 201, 1.0, 10**400, {"id": 1}, "a\u0000b"])
async def test_a_record_needs_a_sound_id(front: Front, key: object) -> None:
    """Else a later opt-out by id would find nobody."""
    refused = await front.say("created", "w1", 1, key=key, email=A)
    assert refused.status == 422
    assert [error["field"] for error in (await refused.json())["errors"]] == ["data.key"]
    assert await front.log() == []


async def test_records_without_an_address(database: str) -> None:
    """Refused; with `without_address = "skip"` taken with a warning, and the old address is deleted."""
    async with serving(settings(), database) as front:
        assert (await front.shop("create", "s1", id=1, email=None)).status == 422
    async with serving(settings(without_address="skip"), database) as front:
        skipped = await taken(await front.shop("create", "s1", id=1, email=None))
        assert skipped["events"] == []
        assert {warning["account"] for warning in skipped["warnings"]} == {"news", "letter"}
        await taken(await front.shop("update", "s2", id=1, email=A))
        gone = await taken(await front.shop("update", "s3", id=1, email=""))
        assert [event["account"] for event in gone["events"]] == ["news", "letter"]
        assert (await front.log())[-1] == ("s3→moved", "delete", A)
        assert (await front.shop("update", "s4", id=1, email="no address")).status == 422
        quiet = await taken(await front.shop("delete", "s5", id=1))
        assert quiet["warnings"]
        assert await front.store.count_unresolved() == {}, "a customer without an address is no reason for an alert"


async def test_a_source_without_ids_may_name_the_previous_address(database: str) -> None:
    """It is deleted, and what was opted out of there goes with the customer; a bad one is told and passed over."""
    made = settings(customer_id=None, previous_address="was")
    async with serving(made, database) as front:
        await taken(await front.shop("create", "s1", email=A, updated_at="2026-04-01T09:00:01Z"))
        await taken(await front.say("stopped", "d1", 2, "desk", email=A))
        await taken(await front.shop("update", "s2", email=B, was=A))
        odd = await taken(await front.shop("update", "s3", email=B, was="no address"))
        assert [warning["field"] for warning in odd["warnings"]] == ["data.was"]
        assert sorted((await front.log())[2:]) == [
            ("s2", "upsert", B),
            ("s2→kept", "stop", B),
            ("s2→previous", "delete", A),
            ("s3", "upsert", B),
        ]


async def test_other_sources_of_an_account_are_heard_too(front: Front) -> None:
    """A late opt-out by address from a source without ids reaches who has left that address; other accounts' do not."""
    await taken(await front.say("created", "w1", 1, key="k1", email=A))
    await taken(await front.say("updated", "w2", 3, key="k1", email=B))
    await taken(await front.say("stopped", "d1", 2, "desk", email=A))
    assert (await front.log())[-2:] == [("d1", "stop", A), ("d1→kept", "stop", B)]
    await taken(await front.say("stopped", "x1", 2, "apart", email=A))
    assert await front.log("other") == [("x1", "stop", A)]


async def test_another_source_s_late_stop_waits_for_who_has_no_address(database: str) -> None:
    """It is said when there is one, in the name of who said it: its id may also be one of the customer's source."""
    async with serving(settings(without_address="skip"), database) as front:
        at = "2026-04-01T09:00:0{}+09:00"
        await taken(await front.shop("create", "s1", id=1, email=A, updated_at=at.format(1)))
        await taken(await front.shop("update", "s2", id=1, email=None, updated_at=at.format(3)))
        await taken(await front.say("stopped", "d1", 2, "desk", email=A))
        assert [one.message_id for one in await front.store.find_unresolved("desk", "d1→kept")] == ["d1→kept"]
        moved = await taken(await front.shop("update", "d1", id=1, email=B, updated_at=at.format(4)))
        assert [event["account"] for event in moved["events"]] == ["news", "letter"]
        said = await front.column("select source || ' ' || message_id from event where operation = 'stop' order by id")
        assert said[-2:] == ["desk d1", "desk d1→kept"]
        assert ("d1→kept", "stop", B) in await front.log()
        again = await taken(await front.say("stopped", "d1", 2, "desk", email=A))
        assert (again["duplicate"], len(again["events"])) == (True, 2)
        assert await front.column("select * from unresolved") == []


async def test_many_in_one_request_go_in_order(front: Front) -> None:
    """The same customer several times in a batch, with a repeat and a refusal among them."""
    batch = [
        webhook("created", "w1", 1, key=1, email=A),
        webhook("stopped", "w2", 2, key=1),
        webhook("updated", "w3", 3, key=1, email=B),
        webhook("updated", "w3", 3, key=1, email=B),
        webhook("created", "w4", 4, email=C),
        webhook("allowed", "w5", 5, key=99),
        webhook("deleted", "w6", 6, key=98),
    ]
    response = await front.client.post("/v1/webhooks/crm/batch", json=batch, headers=bearer("crm"))
    told = await taken(response)
    assert (told["accepted"], told["duplicates"], told["refused"], told["events"]) == (4, 1, 2, 5)
    assert [(error["index"], error["errors"][0]["field"]) for error in told["errors"]] == [
        (4, "data.key"),
        (5, "data.key"),
    ]
    assert [(warning["index"], warning["field"]) for warning in told["warnings"]] == [(6, "data.key")]
    assert sorted(await front.log()) == [
        ("w1", "upsert", A),
        ("w2", "stop", A),
        ("w3", "upsert", B),
        ("w3→kept", "stop", B),
        ("w3→moved", "delete", A),
    ]


async def test_a_repeat_is_known_whatever_the_settings_are_by_then(front: Front, database: str) -> None:
    """What was taken, or waits, is not refused because ids are read elsewhere now."""
    await taken(await front.say("stopped", "w1", 1, key=1))
    await taken(await front.say("created", "w2", 2, key=2, email=A))
    made = front.settings
    crm = made.sources["crm"].model_copy(update={"customer_id": "another"})
    async with serving(made.model_copy(update={"sources": {**made.sources, "crm": crm}}), database) as later:
        waits = await taken(await later.say("stopped", "w1", 1, key=1))
        assert (waits["duplicate"], waits["events"]) == (True, [])
        assert (await taken(await later.say("created", "w2", 2, key=2, email=A)))["duplicate"]
        assert (await later.say("created", "w2", 2, key=2, email=B)).status == 409


async def test_nobody_reads_ids_or_addresses_where_customers_are_kept_by_id(front: Front) -> None:
    """Ids are hashed with the deployment's key; the log of decisions is silent about customers."""
    await taken(await front.say("created", "w1", 1, key="taro-yamada-1970", email=A))
    await taken(await front.say("deleted", "w2", 2, key="another-secret-id"))
    held = await front.column(
        "select t::text from known_address t union all select t::text from former_address t"
        " union all select t::text from unresolved t union all select t::text from event t"
    )
    assert held
    assert not any("taro-yamada" in row or "another-secret" in row for row in held)
    assert KEYS.contact("taro-yamada-1970").hex() in " ".join(held)


async def test_without_postgres_nothing_is_taken(front: Front) -> None:
    """503, and what was not told to be taken may be sent again."""
    await front.connection.execute("alter table known_address rename to gone")
    response = await front.say("created", "w1", 1, key=1, email=A)
    assert (response.status, "Retry-After" in response.headers) == (503, True)
    await front.connection.execute("alter table gone rename to known_address")
    assert await front.log() == []
    await taken(await front.say("created", "w1", 1, key=1, email=A))


async def test_who_fails_fails_alone(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug in deciding on one webhook is its 500, or its refusal among many; those beside it are taken."""

    def failing(book: Book, webhook: Followed) -> Decided:
        if webhook.message_id.startswith("bad"):
            raise KeyError
        return decide(book, webhook)

    monkeypatch.setattr("relay.receive.appender.decide", failing)
    names = ["w1", "bad", "w2", "w3"]
    said = await asyncio.gather(*[front.say("created", one, 1, key=one, email=f"{one}@example.jp") for one in names])
    assert [response.status for response in said] == [202, 500, 202, 202]
    batch = [webhook("created", name, 1, key=name, email=f"{name}@example.jp") for name in ("w5", "bad2")]
    told = await taken(await front.client.post("/v1/webhooks/crm/batch", json=batch, headers=bearer("crm")))
    assert (told["accepted"], told["refused"], told["errors"][0]["webhook_id"]) == (1, 1, "bad2")
    assert sorted(event[0] for event in await front.log()) == ["w1", "w2", "w3", "w5"]


async def test_many_at_once_are_one_commit(front: Front) -> None:
    """Requests that wait for Postgres go together, each customer followed on its own."""
    said = [front.say("created", f"w{n}", 1, key=n, email=f"c{n}@example.jp") for n in range(30)]
    await asyncio.gather(*[taken(response) for response in await asyncio.gather(*said)])
    moves = [front.say("updated", f"v{n}", 2, key=n, email=f"d{n}@example.jp") for n in range(30)]
    await asyncio.gather(*[taken(response) for response in await asyncio.gather(*moves)])
    assert len(await front.log()) == 90
    commits = await front.column("select count(distinct xmin::text) from event")
    assert commits[0] < 60
