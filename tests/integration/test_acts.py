"""The audit record: every change and every look at customers' data leaves an entry, in the same transaction."""

import asyncio
import re
from pathlib import Path

import asyncpg
import pytest

from relay.batches import Accepted, Delivered, LineRejection, Transient
from relay.events import Operation
from relay.metrics import ACTS
from relay.status.service import ENDPOINTS
from relay.store import Act, Operator
from tests.integration.telling import ACCOUNT, LOGIN, Desk, Json, desk, told_settings

UPSERT = Operation.UPSERT
TARO, HANAKO = "taro@example.jp", "hanako@example.jp"

LOOKS = {"/v1/batches/{id}/file", "/v1/customers/search"}
"""What is asked with `pii` alone. Messages of vendors are told to `read` as well, but for their texts."""


async def acts(d: Desk, query: str = "") -> list[dict[str, Json]]:
    """The audit record as it is told, the newest first."""
    found: list[dict[str, Json]] = (await d.get(f"/v1/acts{query}", by="reader"))["acts"]
    return found


async def refuse(d: Desk) -> None:
    """Have no act written down any more."""
    await d.w.connection_execute("alter table act add constraint nobody_acts check (who = 'nobody') not valid")


async def failed_batch(d: Desk, *addresses: str) -> int:
    """Have a batch given up, and return its number."""
    await d.append(*((UPSERT, address) for address in addresses))
    await d.flush(Transient("no route"))
    batch: int = (await d.batches())[-1]["id"]
    return batch


# -- what is written -------------------------------------------------------------------------------------------------


async def test_what_is_done_to_a_login_is_on_record(database: str, tmp_path: Path) -> None:
    """Who, what, when, where, and why where somebody said so; the newest first."""
    async with desk(database, tmp_path, told_settings()) as d:
        await d.told("POST", f"/v1/logins/{LOGIN}/pause", {"reason": "引っ越し"}, by="operator")
        await d.told("POST", f"/v1/logins/{LOGIN}/resume", by="all")
        await d.told("POST", f"/v1/logins/{LOGIN}/flush", by="operator")
        found = await acts(d)
        assert [(one["act"], one["who"], one["through"], one["detail"]) for one in found] == [
            ("flush", "operator", "api", ""),
            ("resume", "all", "api", ""),
            ("pause", "operator", "api", "引っ越し"),
        ]
        assert {one["login"] for one in found} == {LOGIN}
        assert found[0]["at"] > found[1]["at"] > found[2]["at"]
        nothing = ("account", "batch", "source", "webhook_id", "events")
        assert {one[name] for one in found for name in nothing} == {None}
        assert d.w.metrics.acts.labels("pause")._value.get() == 1  # noqa: SLF001 (what a scrape reads)


async def test_what_is_done_to_a_batch_is_on_record(database: str, tmp_path: Path) -> None:
    """With its account and login, and how many events it was about."""
    async with desk(database, tmp_path, told_settings(attempts_max=1)) as d:
        retried = await failed_batch(d, TARO, HANAKO)
        await d.told("POST", f"/v1/batches/{retried}/retry", by="operator")
        await d.flush(Transient("no route"))
        dismissed = (await d.batches())[-1]["id"]
        await d.told("POST", f"/v1/batches/{dismissed}/dismiss", by="all")
        await d.append((UPSERT, "jiro@example.jp"))
        await d.flush(Accepted())
        accepted = (await d.batches())[-1]["id"]
        await d.told("PUT", f"/v1/batches/{accepted}/report", {"success": 0, "failure": 1}, by="operator")
        found = await acts(d)
        assert [(one["act"], one["batch"], one["who"], one["events"], one["detail"]) for one in found] == [
            ("report", accepted, "operator", None, "success 0, failure 1"),
            ("dismiss", dismissed, "all", 2, ""),
            ("retry", retried, "operator", 2, ""),
        ]
        assert {(one["account"], one["login"], one["webhook_id"]) for one in found} == {(ACCOUNT, LOGIN, None)}


async def test_looks_at_customers_data_are_on_record(database: str, tmp_path: Path) -> None:
    """A file, a search, and vendors' messages where they are shown; nothing in it says who was looked for."""
    async with desk(database, tmp_path, told_settings()) as d:
        [event, _] = await d.append((UPSERT, TARO), (UPSERT, HANAKO))
        await d.flush(Delivered((LineRejection(2, f"{TARO} is no good"),)))
        assert (await d.ask("GET", "/v1/batches/1/file", by="auditor")).status == 200
        await d.told("POST", "/v1/customers/search", {"email": HANAKO}, by="auditor")
        await d.told("POST", "/v1/customers/search", {"email": "nobody@example.jp"}, by="auditor")
        await d.get("/v1/batches/1/rejections", by="all")
        await d.get(f"/v1/webhooks/crm/{event.message_id}", by="all")
        found = await acts(d)
        kinds = ("act", "batch", "account", "source", "webhook_id", "events")
        assert [tuple(one[name] for name in kinds) for one in found] == [
            ("see_rejections", None, None, "crm", event.message_id, 1),
            ("see_rejections", 1, ACCOUNT, None, None, 1),
            ("search", None, None, None, None, 0),
            ("search", None, None, None, None, 1),
            ("download", 1, ACCOUNT, None, None, 2),
        ]
        assert "@" not in str(await d.w.connection.fetch("select * from act"))


async def test_what_shows_nothing_of_customers_is_no_look(database: str, tmp_path: Path) -> None:
    """Without the scope, without a message, or where nobody asked for messages, nothing is seen and nothing noted."""
    async with desk(database, tmp_path, told_settings()) as d:
        [rejected, fine] = await d.append((UPSERT, TARO), (UPSERT, HANAKO))
        await d.flush(Delivered((LineRejection(2, f"{TARO} is no good"),)))
        for path in ("/v1/batches/1/rejections", f"/v1/webhooks/crm/{rejected.message_id}"):
            assert TARO not in str(await d.get(path, by="reader"))
            assert TARO not in str(await d.get(f"{path}?messages=false", by="all"))
        await d.get(f"/v1/webhooks/crm/{fine.message_id}", by="all")
        await d.get("/v1/batches/1/rejections?after=2", by="all")
        for unclear in ("0", "no", "", "False"):
            await d.problem(422, "GET", f"/v1/batches/1/rejections?messages={unclear}")
        assert await acts(d) == []


# -- what is not written ---------------------------------------------------------------------------------------------


async def test_what_was_refused_is_not_on_record(database: str, tmp_path: Path) -> None:
    """Whoever presses in vain has changed nothing."""
    async with desk(database, tmp_path, told_settings()) as d:
        await d.append((UPSERT, TARO))
        await d.flush()
        for path in ("/v1/logins/none/flush", "/v1/batches/99/retry", "/v1/webhooks/crm/none/dismiss"):
            await d.problem(404, "POST", path)
        await d.problem(404, "GET", "/v1/batches/99/file")
        for act in ("retry", "dismiss"):
            await d.problem(409, "POST", f"/v1/batches/1/{act}")
        await d.problem(409, "PUT", "/v1/batches/1/report", {"success": 1, "failure": 0})
        await d.problem(403, "POST", f"/v1/logins/{LOGIN}/pause", by="reader")
        await d.problem(422, "POST", f"/v1/logins/{LOGIN}/pause", {"reason": "a\nb"})
        assert await acts(d) == []


async def test_one_of_two_who_press_at_once_is_on_record(database: str, tmp_path: Path) -> None:
    """Only one of them appends again, and only that one is named."""
    async with desk(database, tmp_path, told_settings(attempts_max=1)) as d:
        batch = await failed_batch(d, TARO)
        pressed = await asyncio.gather(*(d.ask("POST", f"/v1/batches/{batch}/retry") for _ in range(4)))
        assert sorted(response.status for response in pressed) == [200, 409, 409, 409]
        assert [one["act"] for one in await acts(d)] == ["retry"]


CHANGES = (
    ("POST", f"/v1/logins/{LOGIN}/flush", None),
    ("POST", f"/v1/logins/{LOGIN}/pause", None),
    ("POST", f"/v1/logins/{LOGIN}/resume", None),
    ("POST", "/v1/batches/1/retry", None),
    ("POST", "/v1/batches/1/dismiss", None),
    ("PUT", "/v1/batches/2/report", {"success": 1, "failure": 0}),
    ("POST", "/v1/webhooks/crm/waiting/dismiss", None),
)
WAITING = """
insert into unresolved
    (account, source, message_id, customer_source, customer_id, digest, operation, occurred_at, received_at)
values ($1, 'crm', 'waiting', 'crm', '\\x01', '\\x02', 'stop', now(), now())
"""


async def test_nothing_changes_without_a_record(database: str, tmp_path: Path) -> None:
    """Where the record cannot be written nothing is changed and nothing shown, by none of the endpoints."""
    async with desk(database, tmp_path, told_settings(attempts_max=1)) as d:
        await failed_batch(d, TARO)
        await d.append((UPSERT, HANAKO))
        await d.flush(Accepted())
        await d.w.connection_execute(WAITING, ACCOUNT)
        await d.append((UPSERT, "jiro@example.jp"))
        tables = ("lane", "batch", "rejection", "event", "unresolved")
        before = {table: await d.w.connection.fetch(f"select * from {table}") for table in tables}  # noqa: S608
        await refuse(d)
        asked = {(method, path.partition("?")[0]) for method, path, _ in CHANGES}
        for method, path, body in CHANGES:
            await d.problem(500, method, path, body)
        assert {table: await d.w.connection.fetch(f"select * from {table}") for table in tables} == before  # noqa: S608
        await d.problem(500, "GET", "/v1/batches/1/file")
        await d.problem(500, "POST", "/v1/customers/search", {"email": TARO})
        assert d.woken == []
        assert len(asked) == len([one for one in ENDPOINTS if one.scope == "operate"])
        assert {one.path for one in ENDPOINTS if one.scope == "pii"} == LOOKS


async def test_a_webhook_that_waits_is_dismissed_on_record(database: str, tmp_path: Path) -> None:
    """By its source and id, once."""
    async with desk(database, tmp_path, told_settings()) as d:
        await d.w.connection_execute(WAITING, ACCOUNT)
        await d.told("POST", "/v1/webhooks/crm/waiting/dismiss", by="operator")
        await d.problem(409, "POST", "/v1/webhooks/crm/waiting/dismiss")
        [one] = await acts(d)
        assert (one["act"], one["source"], one["webhook_id"], one["events"]) == ("dismiss", "crm", "waiting", 1)


async def test_the_record_is_only_ever_added_to(database: str, tmp_path: Path) -> None:
    """Nobody takes an entry back or words it otherwise, nor writes one of a kind that is not known."""
    async with desk(database, tmp_path, told_settings()) as d:
        await d.told("POST", f"/v1/logins/{LOGIN}/flush")
        for change in ("update act set who = 'x'", "delete from act"):
            with pytest.raises(asyncpg.IntegrityConstraintViolationError, match="append-only"):
                await d.w.connection_execute(change)
        doors = ("api", "command")
        for kind in ACTS:
            for through in doors:
                await d.w.store.record_act(Operator("x", through), Act(kind))  # type: ignore[arg-type] # all there are
        assert len(await acts(d)) == 1 + len(ACTS) * len(doors)
        said = await d.w.connection.fetchval(
            "select pg_get_constraintdef(oid) from pg_constraint where conname = 'act_is_known'"
        )
        assert set(re.findall("'([a-z_]+)'", said)) == set(ACTS), "the database knows no more than the code"
        with pytest.raises(asyncpg.CheckViolationError):
            await d.w.store.record_act(Operator("x", "api"), Act("think"))  # type: ignore[arg-type] # on purpose


# -- finding ---------------------------------------------------------------------------------------------------------


async def test_acts_are_found_by_what_they_were_done_to_and_by_whom(database: str, tmp_path: Path) -> None:
    """Each filter alone, two together, and page after page without one told twice or left out."""
    async with desk(database, tmp_path, told_settings(2, attempts_max=1)) as d:
        batch = await failed_batch(d, TARO)
        await d.told("POST", f"/v1/batches/{batch}/retry", by="operator")
        for login in ("login-0", "login-1"):
            for act in ("flush", "pause", "resume"):
                await d.told("POST", f"/v1/logins/{login}/{act}", by="operator" if act == "flush" else "all")
        found = {
            query: [one["act"] for one in await acts(d, f"?{query}")]
            for query in (
                "login=login-1",
                f"account={ACCOUNT}",
                f"batch={batch}",
                "who=operator",
                "act=pause",
                "act=pause&login=login-1",
                "who=nobody",
            )
        }
        assert found == {
            "login=login-1": ["resume", "pause", "flush"],
            f"account={ACCOUNT}": ["retry"],
            f"batch={batch}": ["retry"],
            "who=operator": ["flush", "flush", "retry"],
            "act=pause": ["pause", "pause"],
            "act=pause&login=login-1": ["pause"],
            "who=nobody": [],
        }
        every = await acts(d)
        paged: list[dict[str, Json]] = []
        after = ""
        while True:
            page = await d.get(f"/v1/acts?limit=3{after}", by="reader")
            paged += page["acts"]
            if page["next"] is None:
                break
            assert len(page["acts"]) == 3
            after = f"&after={page['next']}"
        assert paged == every
        assert len(every) == 7
        for wrong in ("act=think", "who=a%0Ab", "batch=-1", "login=UPPER", "limit=0"):
            await d.problem(422, "GET", f"/v1/acts?{wrong}")
