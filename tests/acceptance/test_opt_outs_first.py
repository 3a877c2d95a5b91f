"""Who opts out does not wait behind twenty thousand others."""

from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

from relay.demo.customers import generate
from relay.demo.sim_bme import BmeContract, BmeSim
from relay.demo.traffic import Expected, Sent
from tests.acceptance.harness import World
from tests.acceptance.lists import differences, found, wanted
from tests.acceptance.processes import until
from tests.acceptance.settings_file import HEADERS, PASSWORD, account, bme

CUSTOMERS = 20_000
PER_REQUEST = 1_000


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
