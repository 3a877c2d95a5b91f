"""How long webhooks wait for their confirmation, and where the time goes: measured on a real log."""

from collections.abc import Sequence
from pathlib import Path

import asyncpg
import pytest

from relay.batches import Accepted, Delivered, LineRejection, Manifest, Outcome, Refused, Transient, Unauthorized
from relay.events import Operation
from relay.metrics import STAGES
from relay.store import Store
from tests.integration.telling import ACCOUNT, Desk, answering, desk, told_settings

UPSERT, DELETE, STOP, ALLOW = Operation.UPSERT, Operation.DELETE, Operation.STOP, Operation.ALLOW
TARO, HANAKO, JIRO, SABURO = (f"{name}@example.jp" for name in ("taro", "hanako", "jiro", "saburo"))


async def received_before(d: Desk, *seconds: float) -> None:
    """Make it so that the events of the log, in their order, were received so many seconds ago."""
    async with d.w.connection.transaction():
        await d.w.connection.execute("set local session_replication_role = replica")  # the log is never changed else
        await d.w.connection.execute(
            "update event e set received_at = now() - make_interval(secs => s.seconds)"
            " from (select id, row_number() over (order by id) as n from event) f"
            " join unnest($1::float8[]) with ordinality as s(seconds, n) using (n) where e.id = f.id",
            seconds,
        )


def confirmed(d: Desk, operation: Operation) -> dict[float, int]:
    """Count confirmed events by their buckets' upper bounds."""
    family = next(iter(d.w.metrics.confirmed_seconds.collect()))
    told: dict[float, int] = {}
    before = 0
    for sample in family.samples:
        if sample.name.endswith("_bucket") and sample.labels["operation"] == operation:
            if count := int(sample.value) - before:
                told[float(sample.labels["le"])] = count
            before = int(sample.value)
    return told


def total_s(d: Desk, operation: Operation) -> float:
    """Sum up how long confirmed events have waited."""
    labels = {"vendor": "haihai", "operation": operation}
    return d.w.metrics.registry.get_sample_value("relay_confirmed_seconds_sum", labels) or 0.0


def stage(d: Desk, name: str) -> tuple[float, float]:
    """Count the observations of a stage, and sum them up."""
    labels = {"stage": name, "vendor": "haihai"}
    value = d.w.metrics.registry.get_sample_value
    return value("relay_stage_seconds_count", labels) or 0, value("relay_stage_seconds_sum", labels) or 0


@pytest.mark.parametrize("outcome", [Delivered(), Accepted()], ids=["delivered", "accepted"])
async def test_each_event_is_counted_when_it_is_confirmed(database: str, tmp_path: Path, outcome: Outcome) -> None:
    """One observation for each event, in its bucket, by Postgres's clock from its receipt to its batch's end."""
    async with desk(database, tmp_path, told_settings()) as d:
        await d.append((UPSERT, TARO), (UPSERT, HANAKO), (UPSERT, JIRO), (STOP, SABURO))
        await received_before(d, 200_000, 70, 70.5, 7)
        await d.flush(outcome, outcome)
        assert confirmed(d, UPSERT) == {90.0: 2, float("inf"): 1}
        assert confirmed(d, STOP) == {10.0: 1}
        assert confirmed(d, DELETE) == {}
        [(exact,)] = await d.w.connection.fetch(
            "select sum(extract(epoch from b.ended_at - e.received_at))::float8 from event e"
            " join batch b on b.operation = e.operation and b.operation = 'upsert'"
        )
        assert total_s(d, UPSERT) == pytest.approx(exact)
        assert total_s(d, UPSERT) > 200_140


async def test_what_was_not_confirmed_is_not_counted(database: str, tmp_path: Path) -> None:
    """Neither a refused line, nor what a later word replaced, nor a file that was refused or given up."""
    async with desk(database, tmp_path, told_settings(attempts_max=1)) as d:
        await d.append((UPSERT, TARO), (UPSERT, TARO), (UPSERT, HANAKO))
        await received_before(d, 400, 400, 400)
        await d.flush(Delivered((LineRejection(3, "no"),)))
        assert confirmed(d, UPSERT) == {600.0: 1}
        await d.append((UPSERT, JIRO))
        await d.flush(Refused("incorrect"))
        await d.append((UPSERT, SABURO))
        await d.flush(Transient("no route"))
        states = [batch["state"] for batch in await d.batches()]
        assert confirmed(d, UPSERT) == {600.0: 1}
    assert states == ["delivered", "failed", "failed"]


async def test_what_relay_appends_again_is_not_counted(database: str, tmp_path: Path) -> None:
    """A stop that an upsert makes necessary again, or a dead letter that was retried, is not a webhook of today."""
    async with desk(database, tmp_path, told_settings(attempts_max=1)) as d:
        await d.append((STOP, TARO))
        await d.flush(Delivered())
        await d.append((UPSERT, TARO), (UPSERT, HANAKO))
        await d.flush(Delivered((LineRejection(3, "no"),)), Delivered())
        assert sum(confirmed(d, STOP).values()) == 1, "as it was said; what was sent again is another batch"
        assert sum(confirmed(d, UPSERT).values()) == 1
        [refused] = [batch for batch in await d.batches() if batch["rejected"]]
        await d.told("POST", f"/v1/batches/{refused['id']}/retry")
        await d.flush(Delivered())
        assert [batch["state"] for batch in await d.batches()] == ["delivered"] * 4
        assert sum(confirmed(d, UPSERT).values()) == 1
        assert stage(d, "pending")[0] == 2, "nor is it told as having waited for months to be cut"


class Forgetful(Store):
    """A store that can settle but not count."""

    async def tell_confirmed(self, batch: Manifest, bounds: Sequence[float]) -> tuple[list[int], float]:
        """Fail as a statement does."""
        raise asyncpg.PostgresSyntaxError(f"no {len(bounds)} buckets for batch {batch.id}")


async def test_delivery_does_not_hang_on_being_measured(database: str, tmp_path: Path) -> None:
    """A batch is delivered, and the next one goes up, even where its confirmations cannot be counted."""
    async with desk(database, tmp_path, told_settings()) as d, Forgetful.open(database) as store:
        d.w.store = store
        for name in (TARO, HANAKO):
            await d.append((UPSERT, name))
            await d.flush(Delivered())
        assert [batch["state"] for batch in await d.batches()] == ["delivered", "delivered"]
        assert confirmed(d, UPSERT) == {}
        assert await d.w.store.open_batches() == set()


async def test_each_stage_is_measured(database: str, tmp_path: Path) -> None:
    """A batch is pending, cut, spooled and settled once; `upload` is the client's own."""
    async with desk(database, tmp_path, told_settings()) as d:
        await d.append((UPSERT, TARO), (UPSERT, HANAKO))
        await received_before(d, 500, 7)
        await d.flush(Delivered())
        told = {name: stage(d, name) for name in STAGES}
    assert {name: count for name, (count, _) in told.items()} == {
        "pending": 1,
        "cut": 1,
        "spool": 1,
        "upload": 0,
        "settle": 1,
        "waiting": 0,
    }
    assert 500 <= told["pending"][1] < 510, "the oldest counts"
    assert all(0 < told[name][1] < 5 for name in ("cut", "spool", "settle"))


async def test_each_wait_is_measured_once(database: str, tmp_path: Path) -> None:
    """From one upload's end to the next one's beginning, however often the lane looks at the batch meanwhile."""
    async with desk(database, tmp_path, told_settings()) as d:
        await d.append((UPSERT, TARO))
        outcomes: list[Outcome] = [Transient("no route"), Transient("no route"), Delivered()]
        worker = d.w.worker(answering(*outcomes))
        for hours in (0, 1, 2):
            await d.w.connection.execute("update cursor set not_before = '-infinity'")
            await d.w.connection.execute("update upload set ended_at = ended_at - make_interval(hours => $1)", hours)
            await d.w.flush(worker, d.plan)
            await d.w.flush(worker, d.plan)
        [batch] = await d.batches()
        assert (batch["state"], batch["account"]) == ("delivered", ACCOUNT)
        count, seconds = stage(d, "waiting")
        assert stage(d, "spool")[0] == 3
    assert count == 2
    assert 3 * 3600 <= seconds < 3 * 3600 + 20, "one hour, then two: each from the upload before"


async def test_a_pause_is_no_confirmation(database: str, tmp_path: Path) -> None:
    """A file that the vendor did not take confirms nothing, and what waits is measured when it goes up."""
    async with desk(database, tmp_path, told_settings()) as d:
        await d.append((STOP, TARO))
        await received_before(d, 20)
        await d.flush(Unauthorized("81401"))
        assert confirmed(d, STOP) == {}
        await d.told("POST", "/v1/logins/login-0/resume")
        await d.flush(Delivered())
        assert confirmed(d, STOP) == {30.0: 1}
