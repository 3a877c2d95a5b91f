"""Who opts out does not wait behind twenty thousand others, nor behind a backlog of many files.

`BACKLOG_ROWS` says how many customers wait in it (20,000; a million take some minutes).
"""

import os
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

from relay.demo.customers import generate
from relay.demo.sim_bme import BmeContract, BmeSim
from relay.demo.traffic import Expected, Sent
from tests.acceptance.harness import World
from tests.acceptance.lists import differences, found, wanted
from tests.acceptance.processes import Relay, until
from tests.acceptance.settings_file import HEADERS, PASSWORD, account, bme

CUSTOMERS = 20_000
PER_REQUEST = 1_000

BACKLOG = int(os.environ.get("BACKLOG_ROWS", "20000"))
FILES = 6
ROW_BYTES = 40
IMPORT_S = 0.4
CADENCE_S = 0.3
"""`flush_opt_outs_after_s` of the settings."""

ROUND_S = 0.2
CUT_S = 1.0
"""A cut that has begun when the opt-out becomes due still files its batch."""

FILL = """
insert into event (account, source, message_id, digest, operation, customer, layout, line, occurred_at, received_at)
select 'news', 'filler', i::text, '\\x00', 'upsert', sha256(int8send(i)), l.id,
       convert_to(format('"f%s@example.jp","","","","",""', i), 'SJIS') || '\\x0d0a'::bytea,
       now() - interval '1 hour', now() - interval '1 hour'
from generate_series(1, $1::bigint) i, layout l
where l.account = 'news' and l.operation = 'upsert'
"""


async def test_opt_outs_go_before_twenty_thousand_that_wait(world: World) -> None:
    """A delete and a stop go up at once although a file of 20,000 new customers waits for its next try.

    Both are about customers in that file: the deleted one is never created, the stopped one ends stopped.
    """
    sim = BmeSim(BmeContract("user", PASSWORD, PASSWORD, columns=tuple(HEADERS)))
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(sim.serve())
        world.write_settings({"blast": bme(sim.base_url, "user")}, {"news": account("blast", flush_after_s=3600)})
        relay = world.relay()
        await relay.start()
        begin = datetime.now(UTC) - timedelta(minutes=1)
        webhooks = [
            Sent(f"created-{number:05d}", "customer.created", begin, customer.data())
            for number, customer in enumerate(generate(CUSTOMERS, seed=9))
        ]
        for place in range(0, CUSTOMERS, PER_REQUEST):
            await world.post_many(relay, "crm", webhooks[place : place + PER_REQUEST])
        sim.faults.add(fault="status", status=503, operation="all")
        await world.api(relay, "POST", "/v1/logins/blast/flush")
        await until("the file waits for its next try", lambda: waits(world))

        next_try = await world.value("select not_before from cursor where operation = 'upsert'")
        later = begin + timedelta(seconds=30)
        deleted, stopped = webhooks[100].data, webhooks[19_900].data
        opt_outs = [
            Sent("deleted", "customer.deleted", later, {"email": deleted["email"]}),
            Sent("stopped", "customer.stopped", later, {"email": stopped["email"]}),
        ]
        await world.post_many(relay, "crm", opt_outs)
        await world.settled(sim)

        expected = Expected()
        for webhook in [*webhooks, *opt_outs]:
            expected.hear(webhook)
        assert differences(found(sim, "user"), wanted(expected)) == {}
        assert list(sim.readers_of("user").trash()) == [], "somebody was created and then deleted"
        await _check_order(world, next_try)
        assert await relay.stop() == 0


async def waits(world: World) -> bool:
    """Say whether the file of all customers has been sent in vain."""
    rows = await world.value("select rows from batch where state = 'waiting' and operation = 'upsert'")
    return bool(rows == CUSTOMERS)


async def _check_order(world: World, next_try: datetime) -> None:
    """The refused file, the two opt-outs at once, then the rest without the deleted one, then the stop once more."""
    uploads = await world.rows(
        "select b.operation, b.rows, b.state, u.outcome, u.started_at from upload u "
        "join batch b on (b.account, b.id) = (u.account, u.batch_id) order by u.started_at"
    )
    told = [(row["operation"], row["rows"], row["state"], row["outcome"]) for row in uploads]
    assert told[0] == ("upsert", CUSTOMERS, "replaced", "unknown")
    assert sorted(told[1:3]) == [("delete", 1, "delivered", "delivered"), ("stop", 1, "delivered", "delivered")]
    assert told[3:] == [
        ("upsert", CUSTOMERS - 1, "delivered", "delivered"),
        ("stop", 1, "delivered", "delivered"),
    ]
    assert uploads[2]["started_at"] < next_try <= uploads[3]["started_at"]
    assert await world.value("select count(*) from superseded where account = 'news'") == 1


async def test_opt_outs_do_not_wait_behind_a_backlog(world: World) -> None:
    """While six files of customers go up, a delete and a stop of two at the end are confirmed within the cadence.

    Between the moment when they are due and their uploads no data file is begun, and the vendor ends without the one
    and with the other stopped.
    """
    sim = BmeSim(BmeContract("user", PASSWORD, PASSWORD, columns=tuple(HEADERS), import_s=(IMPORT_S, IMPORT_S)))
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(sim.serve())
        login = bme(sim.base_url, "user", file_bytes_limit=BACKLOG * ROW_BYTES // FILES)
        accounts = {"news": account("blast", flush_after_s=3600, flush_opt_outs_after_s=CADENCE_S)}
        world.write_settings({"blast": login}, accounts)
        relay = world.relay()
        await relay.start()
        await world.value(FILL, BACKLOG)
        begin = datetime.now(UTC) - timedelta(minutes=1)
        last = [Sent(f"created-{n}", "customer.created", begin, c.data()) for n, c in enumerate(generate(3, seed=9))]
        await world.post_many(relay, "crm", last)
        await world.api(relay, "POST", "/v1/logins/blast/flush")
        await until("some of it went up", lambda: data_went_up(world))
        later = begin + timedelta(seconds=30)
        opt_outs = [
            Sent("deleted", "customer.deleted", later, {"email": last[0].data["email"]}),
            Sent("stopped", "customer.stopped", later, {"email": last[1].data["email"]}),
        ]
        began = time.monotonic()
        await world.post_many(relay, "crm", opt_outs)
        waiting = await world.value(
            "select count(*) from event e join cursor c using (account, operation) where id > position"
        )
        proofs = [await confirmed(world, relay, one.message_id) for one in opt_outs]
        took_s = time.monotonic() - began
        await world.settled(sim, timeout_s=300)
        mailable = {address: seen.mailable for address, seen in sim.readers("user").items()}
        assert last[0].data["email"] not in mailable
        assert (mailable[last[1].data["email"]], mailable[last[2].data["email"]]) == (False, True)
        assert len(mailable) == BACKLOG + 2
        for proof in proofs:
            due = datetime.fromisoformat(proof["received_at"]) + timedelta(seconds=CADENCE_S + ROUND_S + CUT_S)
            sent = datetime.fromisoformat(proof["uploads"][0]["started_at"])
            query = "select id from batch where operation = 'upsert' and created_at between $1 and $2"
            assert await world.rows(query, due, sent) == [], "a data file was begun before an opt-out that was due"
        world.measured(f"{waiting:,} waited, and two opt-outs were confirmed after {took_s:.1f} s")
        assert await relay.stop() == 0


async def data_went_up(world: World) -> bool:
    """Say whether a file of the backlog has been delivered, and others wait."""
    return bool(await world.value("select count(*) from batch where state = 'delivered'"))


async def confirmed(world: World, relay: Relay, message_id: str) -> Any:  # noqa: ANN401 - JSON
    """Wait until the vendor has confirmed an opt-out, and return its proof."""
    told: list[Any] = []

    async def is_confirmed() -> bool:
        webhook = await world.api(relay, "GET", f"/v1/webhooks/crm/{message_id}")
        told[:] = [webhook["events"][0]["proof"]]
        return told[0]["confirmed_at"] is not None

    await until(f"{message_id} is confirmed", is_confirmed, 120)
    return told[0]
