"""Retention as operators and senders meet it: the setting, the service that prunes, what is told of what is gone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from relay import app
from relay.batches import Delivered, LineRejection
from relay.errors import SettingsError
from relay.events import Operation
from relay.flush import Pruner, Recounter
from relay.settings import load, process
from tests.integration import test_following as following
from tests.integration.telling import ACCOUNT, Desk, desk, told_settings
from tests.waiting import until

UPSERT, DELETE, STOP, ALLOW = Operation.UPSERT, Operation.DELETE, Operation.STOP, Operation.ALLOW
TARO, HANAKO = "taro@example.jp", "hanako@example.jp"
DAY_S = 86_400.0
REQUIRED = {"RELAY_DATABASE_URL": "postgresql://relay@localhost/relay", "RELAY_SECRET_KEY": "0123456789abcdef0123"}


@pytest.mark.parametrize(("given", "days"), [(None, 0), ("", 0), ("0", 0), ("7", 7), ("3650", 3650)])
def test_everything_is_kept_unless_days_are_set(given: str | None, days: int) -> None:
    """Nothing is deleted by a deployment that never asked for it."""
    assert process(REQUIRED | ({} if given is None else {"RELAY_RETENTION_DAYS": given})).retention_days == days


@pytest.mark.parametrize(
    ("given", "why"), [("6", "7 or more"), ("1", "senders repeat"), ("3651", ""), ("-1", ""), ("a", "")]
)
def test_too_few_days_are_refused_with_the_reason(given: str, why: str) -> None:
    """A webhook that is sent again for days must be recognised."""
    with pytest.raises(SettingsError) as refused:
        process(REQUIRED | {"RELAY_RETENTION_DAYS": given})
    [problem] = refused.value.problems
    assert problem.field == "RELAY_RETENTION_DAYS"
    assert why in problem.message


async def days_pass(d: Desk) -> None:
    """Let all that has ended have ended two days ago."""
    await d.w.connection_execute("update batch set ended_at = ended_at - interval '2 days'")


async def prune(d: Desk) -> None:
    """Keep an hour."""
    for _ in range(3):
        await Pruner(d.w.store, d.w.metrics, 3600, share_max=1).prune()
    assert (await Recounter(d.w.store, d.w.metrics, share_max=1).walk()).findings == []


async def test_what_is_gone_is_told_as_gone(database: str, tmp_path: Path) -> None:
    """A pruned webhook is not known, its batch neither; a batch of which lines are gone has no file, and says why."""
    async with desk(database, tmp_path, told_settings()) as d:
        first, _ = await d.append((UPSERT, TARO), (UPSERT, HANAKO))
        await d.flush()
        [partly] = [batch["id"] for batch in await d.batches()]
        await d.append((UPSERT, TARO))
        await d.flush()
        await d.append((DELETE, TARO))
        await d.flush()
        assert (await d.ask("GET", f"/v1/batches/{partly}/file")).status == 200
        await days_pass(d)
        await prune(d)
        assert (await d.problem(404, "GET", f"/v1/webhooks/crm/{first.message_id}"))["detail"]
        problem = await d.problem(404, "GET", f"/v1/batches/{partly}/file")
        assert problem["detail"] == "Retention has deleted lines of this batch: its file cannot be rendered again."
        assert (await d.get(f"/v1/batches/{partly}"))["rows"] == 2
        for act in ("retry", "dismiss"):
            await d.problem(409, "POST", f"/v1/batches/{partly}/{act}")
        left = [batch["id"] for batch in await d.batches()]
        gone = next(number for number in range(partly + 1, partly + 5) if number not in left)
        for method, path in (
            ("GET", ""),
            ("GET", "/file"),
            ("GET", "/rejections"),
            ("POST", "/retry"),
            ("POST", "/dismiss"),
        ):
            await d.problem(404, method, f"/v1/batches/{gone}{path}")


async def test_how_a_customer_stands_is_told_for_ever(database: str, tmp_path: Path) -> None:
    """With the proof of the opt-out; and a webhook that comes again after it was deleted changes nothing."""
    async with desk(database, tmp_path, told_settings()) as d:
        words = await d.append((UPSERT, TARO), (ALLOW, TARO), (STOP, TARO))
        await d.flush(*[Delivered()] * 10)
        search = {"email": TARO}
        await days_pass(d)
        before = await d.told("POST", "/v1/customers/search", search)
        await prune(d)
        after = await d.told("POST", "/v1/customers/search", search)
        assert after["standings"] == before["standings"]
        assert after["standings"][0]["standing"] == "stopped"
        proofs = [
            [event["proof"] for event in told["events"] if event["operation"] == "stop"] for told in (before, after)
        ]
        assert proofs[0] == proofs[1]
        allow = next(word for word in words if word.operation is ALLOW)
        assert ALLOW.value not in [event["operation"] for event in after["events"]], "the allow is gone"
        [again] = await d.w.store.append([allow])
        assert again.status == "new"
        await d.flush(*[Delivered()] * 10)
        told = await d.told("POST", "/v1/customers/search", search)
        assert told["standings"] == before["standings"]
        [repeated] = [event for event in told["events"] if event["operation"] == "allow"]
        assert repeated["state"] == "superseded"


async def test_dead_letters_are_told_until_somebody_acts(database: str, tmp_path: Path) -> None:
    """However old; then a retry of what is left does what it always does."""
    async with desk(database, tmp_path, told_settings()) as d:
        await d.append((UPSERT, TARO), (UPSERT, HANAKO))
        # 配配メール refuses no lines: the settlement of another vendor's answer is the same
        await d.flush(Delivered((LineRejection(2, "refused"),)))
        [batch] = await d.batches()
        await days_pass(d)
        await prune(d)
        [account] = (await d.get("/v1/accounts"))["accounts"]
        assert account["dead_letters"] == 1
        assert (await d.told("POST", f"/v1/batches/{batch['id']}/retry"))["events"] == 1
        await d.flush(Delivered())
        await days_pass(d)
        await prune(d)
        assert (await d.problem(409, "POST", f"/v1/batches/{batch['id']}/retry"))["detail"]


async def all_is_delivered(front: following.Front) -> None:
    """Let all that was said have gone up an hour ago."""
    await front.connection.execute(
        """
        with said as (
            select account, operation, min(id) - 1 as cut_from, max(id) as cut_to, count(*) as rows from event
            group by 1, 2
        ), filed as (
            insert into batch (account, id, login, operation, layout, header, cut_from, cut_to, rows, bytes, state,
                               oldest_received_at, created_at, ended_at)
            select account, nextval('batch_id_seq'), 'haihai', operation, 1, array['E'], cut_from, cut_to, rows, 100,
                   'accepted', now(), now(), now() - interval '1 hour'
            from said
        )
        insert into cursor (account, operation, position) select account, operation, cut_to from said
        on conflict (account, operation) do update set position = excluded.position
        """
    )


@pytest.mark.parametrize("retention", [False, True], ids=["all kept", "pruned"])
async def test_a_stop_is_carried_on_though_the_record_it_goes_by_is_old(database: str, *, retention: bool) -> None:
    """Without ids, who comes from an address that was left before is known by the last record there, deleted or not.

    Else who was stopped there would be mailed at the next address.
    """
    by_address = following.settings(
        customer_id=None,
        previous_address="was",
        body_signature=None,
        plain=None,
        types={},
        bearer_tokens=["shop-token"],
        accounts=["news"],
    )
    async with following.serving(by_address, database) as front:

        async def say(kind: str, second: int, **data: object) -> None:
            answer = await front.say(kind, f"{kind}-{second}", second, "shop", **data)
            assert answer.status == 202, await answer.text()

        await say("created", 1, email=HANAKO, was=TARO)
        await say("created", 2, email=TARO, was=TARO)
        await say("deleted", 4, email=TARO)
        await say("stopped", 5, email=TARO)
        if retention:
            await all_is_delivered(front)
            await Pruner(front.store, front.metrics, 0, share_max=1).prune()
        await say("updated", 6, email=HANAKO, was=TARO)
        told = [(operation, address) for name, operation, address in await front.log() if name.startswith("updated")]
    assert ("stop", HANAKO) in told


@pytest.mark.parametrize("deletes", [False, True])
async def test_the_service_keeps_what_it_is_to_delete_at_the_vendor(
    database: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, *, deletes: bool
) -> None:
    """The batch by which it knows the vendor's record, of accounts that have such records deleted; of no other."""
    async with desk(database, tmp_path, told_settings()) as d:
        await d.append((UPSERT, TARO))
        await d.flush(Delivered())
        [first] = [batch["id"] for batch in await d.batches()]
        await d.append((UPSERT, TARO))
        await d.flush(Delivered())
        await d.w.connection_execute(
            "insert into error_record (login, kind, date, count, account, batch_id, number)"
            " values ('login-0', 'create', '20260101T000000', 1, $1, $2, 1)",
            ACCOUNT,
            first,
        )
        await d.w.connection_execute("update batch set ended_at = ended_at - interval '10 days'")
        await d.w.connection_execute("delete from deployment")
    text = SETTINGS.replace("columns =", f"delete_error_records = {str(deletes).lower()}\ncolumns =")
    caplog.set_level("INFO")
    async with serving(database, tmp_path, "8", text) as service:
        await until(lambda: any("'event': 'pruned'" in str(record.msg) for record in caplog.records))
        assert value(service, "relay_retention_deleted_events_total") == 1
    connection = await asyncpg.connect(database)
    try:
        assert (await connection.fetchval("select count(*) from batch where id = $1", first) == 1) == deletes
    finally:
        await connection.close()


SETTINGS = """
[sources.crm]
bearer_tokens = ["test-token-0123456789"]
accounts = ["account-0"]
[logins.login-0]
vendor = "blastmail"
base_url = "http://127.0.0.1:1"
username = "user"
password = "password"
api_key = "key"
[accounts.account-0]
login = "login-0"
columns = { "E-Mail" = "email" }
operations = { "customer.banned" = "stop" }
"""


@asynccontextmanager
async def serving(database: str, tmp_path: Path, days: str, text: str) -> AsyncIterator[app.Service]:
    """Run the service with retention of so many days and these settings."""
    config = tmp_path / "relay.toml"
    config.write_text(text, encoding="utf-8")
    env = {
        "RELAY_DATABASE_URL": database,
        "RELAY_SECRET_KEY": "0123456789abcdef",
        "RELAY_SPOOL_DIR": str(tmp_path / "spool"),
        "RELAY_HOST": "127.0.0.1",
        "RELAY_PORT": "0",
        "RELAY_OPS_HOST": "127.0.0.1",
        "RELAY_OPS_PORT": "0",
        "RELAY_RETENTION_DAYS": days,
    }
    service = app.Service(process(env), load(config, env))
    async with asyncio.TaskGroup() as group:
        group.create_task(service.run())
        await service.started
        yield service
        service.stop()


def value(service: app.Service, name: str, **labels: str) -> Any:  # noqa: ANN401 - a number, or none yet
    """What the service tells of itself."""
    return service.metrics.registry.get_sample_value(name, labels)


async def counted(url: str) -> int:
    """How many events are in the log."""
    connection = await asyncpg.connect(url)
    try:
        return int(await connection.fetchval("select count(*) from event"))
    finally:
        await connection.close()


@pytest.mark.parametrize(("days", "left"), [("8", 1), ("0", 3)])
async def test_the_service_prunes_what_is_older_than_it_was_told(
    database: str, tmp_path: Path, days: str, left: int
) -> None:
    """From its start on, and tells for how long it keeps; without days it keeps everything. It recounts either way."""
    async with desk(database, tmp_path, told_settings()) as d:
        for _ in range(3):
            await d.append((UPSERT, TARO))
            await d.flush()
        await d.w.connection_execute("update batch set ended_at = ended_at - interval '9 days'")
        await d.w.connection_execute("delete from deployment")
    async with serving(database, tmp_path, days, SETTINGS) as service:
        await until(lambda: value(service, "relay_conservation_recounted_events_total") >= left)
        await until(lambda: value(service, "relay_retention_deleted_events_total") == 3 - left)
        assert value(service, "relay_retention_seconds") == int(days) * DAY_S
        assert (value(service, "relay_retention_pass_age_seconds") > 0) == (days != "0")
        assert value(service, "relay_conservation_violations", account=ACCOUNT) == 0
    assert await counted(database) == left
