"""The sampler's gauges, and the ops port that shows them without asking the database."""

import asyncio
from pathlib import Path
from uuid import uuid4

import pytest
from aiohttp.test_utils import TestClient, TestServer

from relay.batches import Accepted, Delivered, Refused, Transient, Unauthorized
from relay.events import Operation
from relay.metrics import Metrics
from relay.settings import Settings
from relay.status import Sampler, ops_app
from relay.store import Store
from tests.integration.telling import ACCOUNT, LOGIN, Desk, desk, told_settings, with_accounts
from tests.waiting import until

UPSERT, DELETE, STOP, ALLOW = Operation.UPSERT, Operation.DELETE, Operation.STOP, Operation.ALLOW
TARO = "taro@example.jp"
HANAKO = "hanako@example.jp"


def zeroed(settings: Settings) -> Metrics:
    """Metrics as the service makes them."""
    metrics = Metrics()
    metrics.create_at_zero(settings)
    return metrics


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    """The value of one series."""
    return metrics.registry.get_sample_value(name, labels)


async def sampled(d: Desk) -> Metrics:
    """Fresh metrics after one sample."""
    metrics = zeroed(d.settings)
    await Sampler(d.w.store, d.settings, metrics).sample_once()
    return metrics


async def oldest(d: Desk, kind: str) -> float | None:
    """The age of the oldest unsettled event of a kind."""
    return value(await sampled(d), "relay_oldest_unsettled_seconds", account=ACCOUNT, kind=kind)


MONTHS = 86_400 * 30
"""The model's events are received months ago."""


async def test_nothing_waits(database: str, tmp_path: Path) -> None:
    """All gauges are nought where nothing waits, and the database is up."""
    async with desk(database, tmp_path, told_settings(calls_per_day_limit=240)) as d:
        metrics = await sampled(d)
    assert value(metrics, "relay_pending_events", account=ACCOUNT) == 0
    for kind in ("opt_out", "data"):
        assert value(metrics, "relay_oldest_unsettled_seconds", account=ACCOUNT, kind=kind) == 0
    for reason in ("operator", "unauthorized", "misconfigured", "columns"):
        assert value(metrics, "relay_lane_paused", login=LOGIN, reason=reason) == 0
    assert value(metrics, "relay_quota_left_calls", login=LOGIN) == 240
    assert value(metrics, "relay_database_up") == 1


async def test_pending_events_are_counted(database: str, tmp_path: Path) -> None:
    """Pending are the events beyond their cursors, less those that a cut has found superseded before it was undone."""
    async with desk(database, tmp_path, told_settings()) as d:
        await d.append((UPSERT, TARO), (UPSERT, TARO), (UPSERT, HANAKO))
        waiting = value(await sampled(d), "relay_pending_events", account=ACCOUNT)
        await d.flush(Transient("no route"))
        cut = value(await sampled(d), "relay_pending_events", account=ACCOUNT)
        await d.append((STOP, "jiro@example.jp"))
        await d.flush(Transient("no route"))  # the batch of upserts is un-cut first
        uncut = value(await sampled(d), "relay_pending_events", account=ACCOUNT)
        [account] = (await d.get("/v1/accounts"))["accounts"]
    assert (waiting, cut, uncut) == (3, 0, 2)
    assert account["pending"] == 2


async def test_an_event_is_unsettled_until_it_has_arrived(database: str, tmp_path: Path) -> None:
    """The age counts from arrival through waiting, cut and failed attempts, and ends with delivery."""
    async with desk(database, tmp_path, told_settings()) as d:
        assert await oldest(d, "opt_out") == 0
        await d.append((STOP, TARO))
        assert (await oldest(d, "opt_out") or 0) > MONTHS
        await d.flush(Transient("no route"))
        assert (await oldest(d, "opt_out") or 0) > MONTHS
        assert await oldest(d, "data") == 0
        await d.w.connection.execute("update cursor set not_before = '-infinity'")
        await d.flush(Accepted())
        assert await oldest(d, "opt_out") == 0


@pytest.mark.parametrize("verb", ["retry", "dismiss"])
async def test_dead_letters_are_unsettled(database: str, tmp_path: Path, verb: str) -> None:
    """What was given up keeps its age until somebody dismisses it, or retries it and it arrives."""
    async with desk(database, tmp_path, told_settings(attempts_max=1)) as d:
        await d.append((UPSERT, TARO))
        await d.flush(Transient("no route"))
        assert (await oldest(d, "data") or 0) > MONTHS
        [batch] = await d.batches()
        await d.told("POST", f"/v1/batches/{batch['id']}/{verb}")
        after = await oldest(d, "data") or 0
        assert after > MONTHS if verb == "retry" else after == 0
        await d.flush(Delivered())
        assert await oldest(d, "data") == 0


async def test_a_refused_line_is_settled(database: str, tmp_path: Path) -> None:
    """A line that the vendor refused is rejected: it is told as a dead letter, not as something that waits."""
    async with desk(database, tmp_path, told_settings()) as d:
        await d.append((UPSERT, TARO))
        await d.flush(Refused("incorrect"))
        assert await oldest(d, "data") == 0


async def test_superseded_events_are_settled(database: str, tmp_path: Path) -> None:
    """What a later word replaced does not wait any more, even where the cut that found it was undone."""
    async with desk(database, tmp_path, told_settings()) as d:
        await d.append((UPSERT, TARO))
        await d.append((UPSERT, TARO), now=True)
        await d.flush(Transient("no route"))
        assert (await oldest(d, "data") or 0) < MONTHS
        await d.append((STOP, HANAKO), now=True)
        await d.flush(Transient("no route"))
        metrics = await sampled(d)
    assert value(metrics, "relay_pending_events", account=ACCOUNT) == 1
    assert 0 < (value(metrics, "relay_oldest_unsettled_seconds", account=ACCOUNT, kind="data") or 0) < MONTHS


async def test_a_stop_sent_again_is_as_old_as_its_reason(database: str, tmp_path: Path) -> None:
    """A stop of months ago that an upsert made necessary again waits since that upload: no false alarm."""
    async with desk(database, tmp_path, told_settings()) as d:
        await d.append((STOP, TARO))
        await d.flush(Delivered())
        await d.append((UPSERT, HANAKO), (UPSERT, TARO))
        await d.flush(Delivered(), Transient("no route"))
        [waiting] = (await d.get("/v1/batches?state=waiting"))["batches"]
        age = await oldest(d, "opt_out")
        assert 0 < (age or 0) < 60
        await d.w.connection.execute("update upload set ended_at = ended_at - interval '1 hour'")
        older = await oldest(d, "opt_out")
    assert waiting["operation"] == "stop"
    assert 3600 < (older or 0) < 3660


async def test_pauses_and_quota(database: str, tmp_path: Path) -> None:
    """A paused lane shows its reason and no other; the calls of the day are counted down."""
    async with desk(database, tmp_path, told_settings(calls_per_day_limit=3)) as d:
        await d.append((UPSERT, TARO))
        await d.flush(Unauthorized("81401"))
        paused = await sampled(d)
        await d.told("POST", f"/v1/logins/{LOGIN}/pause")
        by_operator = await sampled(d)
        await d.told("POST", f"/v1/logins/{LOGIN}/resume")
        resumed = await sampled(d)
        lease = await d.w.store.lease_lane(LOGIN, uuid4(), 60, d.plan.fingerprint)
        assert lease is not None
        await d.w.store.pause_for_columns(lease, "news: 氏名", d.plan.fingerprint)
        columns = await sampled(d)
    assert value(columns, "relay_lane_paused", login=LOGIN, reason="columns") == 1
    assert value(paused, "relay_lane_paused", login=LOGIN, reason="unauthorized") == 1
    assert value(paused, "relay_lane_paused", login=LOGIN, reason="misconfigured") == 0
    assert value(paused, "relay_quota_left_calls", login=LOGIN) == 2
    assert value(by_operator, "relay_lane_paused", login=LOGIN, reason="operator") == 1
    assert value(by_operator, "relay_lane_paused", login=LOGIN, reason="unauthorized") == 0
    assert value(resumed, "relay_lane_paused", login=LOGIN, reason="operator") == 0


async def test_the_sampler_survives_postgres(database: str, tmp_path: Path) -> None:
    """Without Postgres the sampler says so, keeps the last values and tells their age; cancelled, it stops."""
    made = with_accounts(told_settings(), flush_after_s=600)
    async with desk(database, tmp_path, made) as d:
        await d.append((UPSERT, TARO), now=True)
        metrics = zeroed(made)

        def age_s() -> float:
            return value(metrics, "relay_sample_age_seconds") or 0.0

        async with Store.open(database) as store:
            sampler = Sampler(store, made, metrics, interval_s=0.01)
            await until(lambda: age_s() > 0.3)
            running = asyncio.create_task(sampler.run())
            await until(lambda: value(metrics, "relay_pending_events", account=ACCOUNT) == 1)
            await until(lambda: age_s() < 0.3)
            await store.close()
            await until(lambda: value(metrics, "relay_database_up") == 0)
            await until(lambda: age_s() > 0.3)
            assert not running.done()
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
    assert value(metrics, "relay_pending_events", account=ACCOUNT) == 1
    assert value(metrics, "relay_round_errors_total") == 0


# -- the ops port ----------------------------------------------------------------------------------------------------


async def test_the_ops_port() -> None:
    """`/metrics` shows what was set, `/healthz` is 200 as long as the process lives, `/readyz` follows its reason."""
    metrics = zeroed(told_settings())
    metrics.pending.labels(ACCOUNT).set(7)
    reason: str | None = "draining"
    async with TestClient(TestServer(ops_app(metrics, lambda: reason))) as client:
        shown = await client.get("/metrics")
        text = await shown.text()
        health = await client.get("/healthz")
        not_ready = await client.get("/readyz")
        told = await not_ready.json()
        reason = None
        ready = await client.get("/readyz")
        missing = await client.get("/v1/batches")
    assert shown.headers["Content-Type"].startswith("text/plain; version=")
    assert f'relay_pending_events{{account="{ACCOUNT}"}} 7.0' in text
    assert health.status == ready.status == 200
    assert (not_ready.status, told["detail"]) == (503, "Not ready: draining.")
    assert not_ready.content_type == missing.content_type == "application/problem+json"
    assert missing.status == 404
