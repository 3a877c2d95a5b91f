"""The sampler's gauges of accounts, lanes, the log and secrets, on a real database."""

import os
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from relay.batches import Busy, Delivered, LineRejection, Outcome, Refused, Transient, Unauthorized
from relay.events import Operation
from relay.metrics import LANE_STATES, OTHER, Metrics
from relay.settings import Settings, load
from relay.status import Sampler
from tests.integration.model import settings as of_model
from tests.integration.model import world
from tests.integration.telling import ACCOUNT, LOGIN, Desk, desk, told_settings, with_accounts

UPSERT, DELETE, STOP, ALLOW = Operation.UPSERT, Operation.DELETE, Operation.STOP, Operation.ALLOW
TARO, HANAKO, JIRO = (f"{name}@example.jp" for name in ("taro", "hanako", "jiro"))
MANY = 300


def zeroed(made: Settings, accounts_max: int = 200) -> Metrics:
    """Metrics as the service makes them."""
    metrics = Metrics()
    metrics.create_at_zero(made, accounts_max=accounts_max)
    return metrics


async def sampled(d: Desk, made: Settings | None = None, accounts_max: int = 200) -> Metrics:
    """Fresh metrics after one sample, as a process with these settings sees the database."""
    metrics = zeroed(made or d.settings, accounts_max)
    await Sampler(d.w.store, made or d.settings, metrics).sample_once()
    return metrics


def by(metrics: Metrics, name: str, label: str, **labels: str) -> dict[str, float]:
    """The values of a metric by one label, without those at zero."""
    return {
        sample.labels[label]: sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == name and sample.value and labels.items() <= sample.labels.items()
    }


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    """The value of one series."""
    return metrics.registry.get_sample_value(name, labels)


# -- accounts --------------------------------------------------------------------------------------------------------


def of_many(events: Iterable[int]) -> dict[str, float]:
    """What the gauge of waiting events says of 300 accounts, the first 200 of which have series of their own."""
    waiting = {f"account-{n}": float(count) for n, count in enumerate(events)}
    own = {name: count for name, count in list(waiting.items())[:200] if count}
    return {**own, OTHER: sum(list(waiting.values())[200:])}


async def test_accounts_beyond_the_limit_are_put_together(database: str, tmp_path: Path) -> None:
    """Of 300 accounts the first 200 are told apart; of all others what waits is summed, and the oldest age counts."""
    made = of_model(MANY)
    async with world(database, tmp_path, made) as w:
        parts = [(number, part) for number in range(MANY) for part in range(number % 4)]
        events = [w.event(f"account-{number}", UPSERT, f"reader{part}@example.jp", part) for number, part in parts]
        await w.store.append(events)
        await w.connection.execute(
            "insert into batch (account, id, login, operation, layout, header, cut_from, cut_to, rows, bytes, state,"
            " oldest_received_at, ended_at) select 'account-' || n, n, 'login-' || n, 'stop', 1, '{x}', 0, 1, 2, 9,"
            " 'failed', now() - make_interval(hours => n), now() from unnest('{1, 250, 299}'::int[]) n"
        )
        metrics = zeroed(made)
        sampler = Sampler(w.store, made, metrics)
        await sampler.sample_once()
        assert by(metrics, "relay_pending_events", "account") == of_many(n % 4 for n in range(MANY))
        assert by(metrics, "relay_dead_letters", "account", kind="opt_out") == {"account-1": 2, OTHER: 4}
        oldest = by(metrics, "relay_oldest_unsettled_seconds", "account", kind="opt_out")
        assert oldest.keys() == {"account-1", OTHER}
        assert 299 * 3600 <= oldest[OTHER] < 299 * 3600 + 60
        await w.connection.execute("update batch set dismissed_at = now()")
        await sampler.sample_once()
        assert by(metrics, "relay_dead_letters", "account") == {}, "what is over is nought again"
        assert value(metrics, "relay_oldest_unsettled_seconds", account=OTHER, kind="opt_out") == 0


async def test_accounts_that_the_settings_do_not_name(database: str, tmp_path: Path) -> None:
    """What waits for them is told as that of others; they are counted, so that somebody notices."""
    async with desk(database, tmp_path, told_settings(2)) as d:
        await d.append((UPSERT, TARO), (STOP, HANAKO))
        before = await sampled(d)
        assert value(before, "relay_accounts_without_settings") == 0
        assert value(before, "relay_pending_events", account=OTHER) is None, "nobody needs the label"
        without = told_settings(2)
        without = without.model_copy(
            update={
                name: {f"{name[:-1]}-1": getattr(without, name)[f"{name[:-1]}-1"]} for name in ("logins", "accounts")
            }
        )
        metrics = zeroed(without)
        sampler = Sampler(d.w.store, without, metrics)
        await sampler.sample_once()
        assert value(metrics, "relay_accounts_without_settings") == 1
        assert by(metrics, "relay_pending_events", "account") == {OTHER: 2}
        assert value(metrics, "relay_pending_events", account="account-1") == 0
        assert by(metrics, "relay_oldest_unsettled_seconds", "account", kind="data").keys() == {OTHER}
        await d.flush(Delivered())
        await d.w.connection.execute("delete from cursor where account = $1", ACCOUNT)
        await sampler.sample_once()
        assert value(metrics, "relay_accounts_without_settings") == 0
        assert value(metrics, "relay_pending_events", account=OTHER) == 0
        assert value(metrics, "relay_oldest_unsettled_seconds", account=OTHER, kind="data") == 0


async def test_dead_letters_by_kind(database: str, tmp_path: Path) -> None:
    """Files given up and lines refused, opt-outs apart; what was retried or dismissed is none any more."""
    async with desk(database, tmp_path, told_settings(attempts_max=1)) as d:
        await d.append((UPSERT, TARO), (UPSERT, HANAKO))
        await d.flush(Transient("no route"))
        await d.append((STOP, JIRO))
        await d.flush(Refused("incorrect"))
        await d.append((DELETE, TARO), (DELETE, HANAKO), (DELETE, JIRO))
        await d.flush(Delivered((LineRejection(2, "no"), LineRejection(4, "no"))))
        metrics = await sampled(d)
        [account] = (await d.get("/v1/accounts"))["accounts"]
        assert by(metrics, "relay_dead_letters", "kind", account=ACCOUNT) == {"data": 2, "opt_out": 3}
        assert account["dead_letters"] == 5
        given_up, alone, _ = await d.batches()
        await d.told("POST", f"/v1/batches/{given_up['id']}/dismiss")
        await d.told("POST", f"/v1/batches/{alone['id']}/retry")
        assert by(await sampled(d), "relay_dead_letters", "kind", account=ACCOUNT) == {"opt_out": 2}


async def test_how_long_events_may_wait(database: str, tmp_path: Path) -> None:
    """The longest cadence of an account's operations by kind: its own, or its vendor's where the settings say none."""
    made = with_accounts(told_settings(), flush_after_s=90, flush_opt_outs_after_s=7)
    async with desk(database, tmp_path, made) as d:
        assert by(await sampled(d), "relay_flush_after_seconds", "kind") == {"data": 90, "opt_out": 7}
        shared = with_accounts(told_settings(), flush_after_s=None, flush_opt_outs_after_s=None)
        assert by(await sampled(d, shared), "relay_flush_after_seconds", "kind") == {"data": 900, "opt_out": 600}
        assert by(await sampled(d, made, 0), "relay_flush_after_seconds", "account", kind="opt_out") == {OTHER: 7}


# -- lanes -----------------------------------------------------------------------------------------------------------


def lanes(metrics: Metrics) -> dict[tuple[str, str], float]:
    """Count logins by state and reason, without those at zero; every combination must exist."""
    every = {
        (state, reason): value(metrics, "relay_lanes", state=state, reason=reason)
        for state, reasons in LANE_STATES.items()
        for reason in reasons
    }
    assert None not in every.values()
    return {key: count for key, count in every.items() if count}


@pytest.mark.parametrize(
    ("outcome", "more", "expected"),
    [
        (Delivered(), {}, ("idle", "")),
        (Delivered(), {"settle_wait_s": 60}, ("waiting", "settling")),
        (Busy("another import"), {}, ("waiting", "busy")),
        (Transient("no route"), {}, ("waiting", "retry")),
        (Unauthorized("81401"), {}, ("paused", "unauthorized")),
        (Unauthorized("81401"), {"login_failures_per_hour_max": 1}, ("paused", "unauthorized")),
    ],
    ids=["idle", "settling", "busy", "retry", "unauthorized", "refused too often"],
)
async def test_what_a_lane_does(
    database: str, tmp_path: Path, outcome: Outcome, more: dict[str, Any], expected: tuple[str, str]
) -> None:
    """After an upload it is idle, waits, or is paused, and tells why."""
    async with desk(database, tmp_path, told_settings(**more)) as d:
        assert lanes(await sampled(d)) == {("idle", ""): 1}
        await d.append((UPSERT, TARO))
        async with d.uploading() as holding:
            assert lanes(await sampled(d)) == {("working", ""): 1}
            holding.answer.set()
        await d.append((UPSERT, HANAKO))
        await d.w.connection.execute("update lane set not_before = '-infinity', wait_reason = ''")
        await d.flush(outcome)
        assert lanes(await sampled(d)) == {expected: 1}


async def test_lanes_are_counted_by_what_they_do(database: str, tmp_path: Path) -> None:
    """Each login once: one with a lane of its own waits for the quota, one was paused, one never had a lane."""
    made = told_settings(3, calls_per_day_limit=1)
    async with desk(database, tmp_path, made) as d:
        await d.append((UPSERT, TARO))
        # said here, since whether a call is kept hangs on the hour
        await d.w.connection.execute(
            "update cursor set wait_reason = 'quota', not_before = now() + interval '1 hour'"
            " where (account, operation) = ('account-0', 'upsert')"
        )
        await d.told("POST", "/v1/logins/login-1/pause")
        await d.w.connection.execute("delete from lane where login = 'login-2'")
        metrics = await sampled(d)
        assert lanes(metrics) == {("waiting", "quota"): 1, ("paused", "operator"): 1, ("idle", ""): 1}
        assert value(metrics, "relay_quota_day_calls", login=LOGIN) == 1
        assert value(metrics, "relay_quota_left_calls", login=LOGIN) == 1
        # 1, but for the last hours of the day: tests/unit/test_pacing.py
        [told, *_] = (await d.get("/v1/logins"))["logins"]
        assert value(metrics, "relay_quota_kept_calls", login=LOGIN) == told["quota"]["kept_for_opt_outs"]
        await d.told("POST", "/v1/logins/login-1/resume")
        assert lanes(await sampled(d)) == {("waiting", "quota"): 1, ("idle", ""): 2}


async def test_a_login_that_was_refused_too_often(database: str, tmp_path: Path) -> None:
    """It waits for the hour to be over, whoever resumes it."""
    async with desk(database, tmp_path, told_settings(login_failures_per_hour_max=1)) as d:
        await d.append((UPSERT, TARO))
        await d.flush(Unauthorized("81401"))
        await d.told("POST", f"/v1/logins/{LOGIN}/resume")
        assert lanes(await sampled(d)) == {("waiting", "logins_refused"): 1}


# -- the log and secrets ---------------------------------------------------------------------------------------------


async def test_how_large_the_log_is(database: str, tmp_path: Path) -> None:
    """Its bytes with indexes, about how many events, and the age of the first one; without events there is no age."""
    async with desk(database, tmp_path, told_settings(2)) as d:
        empty = await sampled(d)
        assert value(empty, "relay_log_oldest_seconds") == 0
        assert (value(empty, "relay_log_events") or 0) >= 0
        await d.append((UPSERT, TARO), (UPSERT, HANAKO))
        await d.append((STOP, JIRO), now=True)
        await d.w.store.append([replace(d.w.event("account-1", UPSERT, TARO, 0), received_at=datetime.now(UTC))])
        await d.w.connection.execute("vacuum analyze event")
        metrics = await sampled(d)
        [(size, oldest_s)] = await d.w.connection.fetch(
            "select pg_table_size('event') + pg_indexes_size('event'),"
            " extract(epoch from now() - min(received_at))::float8 from event"
        )
    assert value(metrics, "relay_log_bytes") == size > (value(empty, "relay_log_bytes") or 0) > 0
    assert value(metrics, "relay_log_events") == 4
    assert value(metrics, "relay_log_oldest_seconds") == pytest.approx(oldest_s, abs=60)


SETTINGS = """
[sources.crm]
bearer_tokens = [{{ env = "TOKEN" }}, {{ file = "{folder}/token" }}]
accounts = ["news"]
[logins.blast]
vendor = "blastmail"
username = "relay"
password = {{ file = "{folder}/password" }}
api_key = {{ env = "TOKEN" }}
[accounts.news]
login = "blast"
columns = {{ "E-Mail" = "email" }}
"""


async def test_how_old_secrets_are(database: str, tmp_path: Path) -> None:
    """Each that was read from a file, by its path in the settings; the age of a file that is gone goes on."""
    for name, days in (("token", 1), ("password", 90)):
        (tmp_path / name).write_text("a secret of these tests\n", encoding="utf-8")
        changed = (tmp_path / name).stat().st_mtime - days * 86_400
        os.utime(tmp_path / name, (changed, changed))
    (tmp_path / "relay.toml").write_text(SETTINGS.format(folder=tmp_path), encoding="utf-8")
    made = load(tmp_path / "relay.toml", {"TOKEN": "t" * 20})
    async with world(database, tmp_path, made) as w:
        metrics = zeroed(made)
        sampler = Sampler(w.store, made, metrics)
        assert by(metrics, "relay_secret_age_seconds", "secret") == {}
        ages: dict[str, float] = {}
        for token_gone in (False, True):
            if token_gone:
                (tmp_path / "token").unlink()
            await sampler.sample_once()
            before, ages = ages, by(metrics, "relay_secret_age_seconds", "secret")
            assert all(age > before.get(secret, 0) for secret, age in ages.items()), "time goes on"
            assert ages.keys() == {"logins.blast.password", "sources.crm.bearer_tokens[1]"}
            assert 90 * 86_400 <= ages["logins.blast.password"] < 90 * 86_400 + 60
            assert 86_400 <= ages["sources.crm.bearer_tokens[1]"] < 86_400 + 60
        os.utime(tmp_path / "password")
        await sampler.sample_once()
        assert by(metrics, "relay_secret_age_seconds", "secret")["logins.blast.password"] < 60, "it was changed"
