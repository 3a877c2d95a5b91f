"""A line that breaks the vendor down, over real HTTP: it is found, all others go on, and opt-outs wait for nothing.

The vendor is the simulated one: it answers 500, hangs, resets the connection or forgets to answer whenever a certain
line is in the file. Time passes by moving the cursors' next tries, and is counted as it is skipped.
"""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from relay import csvline
from relay.batches import AGAIN_DELAYS_S, RETRY_DELAYS_S, UNANSWERED, UPSERTS_AGAIN_MAX
from relay.client import Client
from relay.demo.sim_bme import BmeContract, BmeSim
from relay.demo.sim_readers import NOT_THERE
from relay.events import Event, Operation
from relay.flush import LaneWorker, LoginPlan
from relay.settings import Account, Secret, Settings, Source
from relay.store import DeadLetters, Store
from relay.store.database import sql
from tests.integration.faults import replica
from tests.integration.model import World, world
from tests.integration.served import served
from tests.unit.vendors.made import bme_login

U, D, S, A = Operation.UPSERT, Operation.DELETE, Operation.STOP, Operation.ALLOW
NEWS, SHOP, BAD = "news", "shop", "bad"
STEP_S = RETRY_DELAYS_S[0] * 1.1
"""The longest wait between two steps of a narrowing."""

BREAKDOWNS: dict[str, dict[str, object]] = {
    "answers 500": {"fault": "status", "status": 500},
    "shows a page of HTML": {"fault": "html", "status": 200},
    "hangs": {"fault": "hang"},
    "resets": {"fault": "reset_after_body"},
    "imports, but does not answer": {"fault": "lost_reply"},
    "miscounts": {"fault": "wrong_counts"},
}


def two_accounts(url: str, mode: str, **login: object) -> Settings:
    """Settings of a login with two accounts, both due at once."""
    given = {
        name: {"name": name, "login": "blast", "mode": mode, "columns": {"E-Mail": "email"}, "flush_after_s": 0}
        for name in (NEWS, SHOP)
    }
    defaults: dict[str, Any] = {"base_url": url, "upload_timeout_s": 0.2, "unknown_address_messages": [NOT_THERE]}
    return Settings(
        sources={"crm": Source(bearer_tokens=(Secret("x" * 20),), accounts=(NEWS, SHOP))},
        logins={"blast": bme_login(**defaults | login)},
        accounts={name: Account.model_validate(g | {"flush_opt_outs_after_s": 0}) for name, g in given.items()},
    )


@dataclass
class Scene:
    """A vendor, a database, a replica; `waited_s` is the time that was skipped."""

    sim: BmeSim
    w: World
    worker: LaneWorker
    waited_s: float = 0

    @property
    def plan(self) -> LoginPlan:
        """The one login's plan."""
        return self.w.plans["blast"]

    @property
    def uploads(self) -> int:
        """How many uploads the vendor has seen."""
        return len(self.sim.record.uploads)

    def there(self) -> set[str]:
        """Who is on the vendor's list, by the part before the @."""
        return {address.partition("@")[0] for address in self.sim.readers("relay")}

    def breaks_at(self, *names: str, **fault: object) -> None:
        """Let the vendor break down at files with any of these lines, until it is mended."""
        for name in names:
            self.sim.faults.arm({"fault": "status", "times": None, "address": f"{name}@example.jp"} | fault)

    async def say(self, operation: Operation, *names: str, account: str = NEWS, occurred: float = 1) -> list[Event]:
        """Append an event of each of these customers."""
        state = {S: "配信停止", A: "配信中"}.get(operation)
        events = []
        for name in names:
            event = self.w.event(account, operation, f"{name}@example.jp", occurred)
            line = event.line if state is None else csvline.record((f"{name}@example.jp", state))
            events.append(replace(event, line=line))
        await self.w.store.append(events)
        return events

    async def flush(self) -> list[str]:
        """Do all that may be done now; return the outcomes."""
        return [worked.outcome for worked in await self.w.flush(self.worker, self.plan) if worked.outcome]

    async def pass_delays(self, operation: Operation | None = None) -> float:
        """Let time pass until the last next try (of an operation) has come due; return how long that was."""
        of = "operation = coalesce($1, operation)"
        waits_s = await self.value(
            f"select coalesce(extract(epoch from max(not_before) - now()), 0)::float8 from cursor where {of}"  # noqa: S608
            " and not_before > now()",
            operation,
        )
        await self.w.connection_execute(
            f"update cursor set not_before = now() where {of} and not_before > now()",  # noqa: S608
            operation,
        )
        self.waited_s += float(waits_s)
        return float(waits_s)

    async def finish(self, uploads_max: int = 60) -> None:
        """Flush and let time pass until there is nothing left."""
        await self.flush()
        while await self.pass_delays():
            await self.flush()
            assert self.uploads <= uploads_max, "no end of it"

    async def hours_pass(self, hours: float = 2) -> int:
        """Let so much time pass for what was rejected, and look after it; return how many events were appended."""
        await self.w.connection_execute(
            "update batch set ended_at = ended_at - make_interval(secs => $1)", hours * 3600
        )
        return sum((await self.w.store.retry_unanswered()).values())

    async def value(self, query: str, *args: object) -> Any:  # noqa: ANN401 (a column)
        """Look one value up."""
        return (await self.w.connection_fetch(query, *args))[0][0]

    async def column(self, query: str, *args: object) -> list[Any]:
        """Look a column up."""
        return [row[0] for row in await self.w.connection_fetch(query, *args)]

    async def rejected(self) -> list[str]:
        """Whose lines are rejected, in order."""
        lines = await self.column(
            "select e.line from rejection r"
            " join event e on e.account = r.account and e.id = r.event_id where r.retried_at is null order by e.id"
        )
        return [line.partition(b"@")[0].strip(b'"').decode("ascii") for line in lines]


@asynccontextmanager
async def scene(database: str, directory: Path, mode: str = "all", **login: object) -> AsyncIterator[Scene]:
    """Open a scene."""
    sim = BmeSim(BmeContract("relay", "canary-password", "canary-api-key"))
    async with sim.serve():
        settings = two_accounts(sim.base_url, mode, **login)
        async with world(database, directory, settings) as w, Client(w.metrics, w.spool) as client:
            yield Scene(sim, w, replica(w, client))


def names(prefix: str, count: int) -> list[str]:
    """Name so many customers."""
    return [f"{prefix}{number}" for number in range(count)]


# -- one line at fault -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", [U, D])
@pytest.mark.parametrize("breakdown", BREAKDOWNS)
async def test_one_line_costs_few_uploads_and_its_neighbours_nothing(
    database: str, tmp_path: Path, breakdown: str, operation: Operation
) -> None:
    """It alone is rejected, with a plain message; all others are delivered, in steps of 15 s."""
    rows = 16 if breakdown == "hangs" else 48
    others = names("c", rows - 1)
    async with scene(database, tmp_path) as s:
        if operation is D:
            await s.say(U, *others, BAD, occurred=0)
            await s.finish()
        s.breaks_at(BAD, **BREAKDOWNS[breakdown])
        before, s.waited_s = s.uploads, 0
        await s.say(operation, *others[:7], BAD, *others[7:])
        await s.finish()
        assert s.uploads - before <= 2 * math.log2(rows) + 8
        assert s.waited_s <= (math.log2(rows) + 5) * STEP_S
        assert s.there() - {BAD} == (set(others) if operation is U else set())
        assert await s.rejected() == [BAD]
        message = await s.value("select message from rejection")
        assert message.startswith(UNANSWERED)
        states = await s.column("select distinct state || '/' || refused from batch where operation = $1", operation)
        assert set(states) == {"delivered/false", "failed/true", "replaced/false"}
        assert await s.value("select count(*) from lane where pause_reason is not null") == 0


async def test_the_file_stays_until_its_next_try_and_is_then_cut_smaller(database: str, tmp_path: Path) -> None:
    """So that what became of it can be found out: it waits with half the rows at its cursor, then is un-cut."""
    async with scene(database, tmp_path) as s:
        s.breaks_at(BAD, fault="hang")
        await s.say(D, *names("c", 9), BAD)
        await s.flush()
        (row,) = await s.w.connection_fetch(
            "select state, rows, rows_max, attempts, position = cut_to from batch"
            " join cursor using (account, operation)"
        )
        assert tuple(row) == ("waiting", 10, 5, 1, True)
        await s.flush()
        assert s.uploads == 1, "not before its time"
        await s.pass_delays()
        worked = await s.worker.work(s.plan, await s.w.fence())
        assert (worked.uncut, worked.outcome, s.uploads) == (1, "", 1)
        assert await s.column("select reason from batch where state = 'replaced'") == ["the file must become smaller"]
        assert (await s.worker.work(s.plan, await s.w.fence())).cut
        assert await s.column("select rows from batch order by id") == [10, 5]


async def test_sizes_grow_back(database: str, tmp_path: Path) -> None:
    """Behind the line at fault each file is twice as large as the one before, until there is no limit any more."""
    others = names("c", 100)
    async with scene(database, tmp_path) as s:
        s.breaks_at(BAD)
        await s.say(U, BAD, *others)
        await s.finish()
        files = [upload.rows for upload in s.sim.record.uploads if upload.status == 200]
        assert files == [1, 1, 2, 4, 8, 16, 32, 36]
        assert s.there() == set(others)
        await s.w.connection_execute(
            "update cursor set rows_max = 600000 where operation = 'upsert' and account = $1", NEWS
        )
        await s.say(U, *others, occurred=2)
        await s.flush()
        assert await s.value("select rows_max from cursor where operation = 'upsert' and account = $1", NEWS) == 600000


async def test_an_allow_that_breaks_the_vendor_is_sent_once(database: str, tmp_path: Path) -> None:
    """It may have arrived, and the customer may have left since: it ends unconfirmed, and is not appended again."""
    async with scene(database, tmp_path) as s:
        s.breaks_at(BAD)
        await s.say(A, BAD, "c1")
        await s.finish()
        assert await s.column("select state from batch") == ["unconfirmed"]
        assert await s.hours_pass(1000) == 0
        assert s.uploads == 1


async def test_echoes_of_a_narrowed_file_are_no_rejections(database: str, tmp_path: Path) -> None:
    """In the mode `create` the parts of a file that arrived without an answer are «already there»: unconfirmed.

    Nor is the line at fault lost: appended again it is «already there» as well.
    """
    async with scene(database, tmp_path, mode="create") as s:
        s.breaks_at(BAD, fault="lost_reply")
        await s.say(U, *names("c", 7), BAD)
        await s.finish()
        rows = await s.w.connection_fetch("select unconfirmed, count(*) from rejection group by 1 order by 1")
        assert [tuple(row) for row in rows] == [(False, 1), (True, 7)]
        assert await s.hours_pass() == 1
        s.sim.faults.disarm()
        await s.finish()
        assert await s.column("select unconfirmed from rejection order by batch_id desc limit 1") == [True]
        assert s.there() == {*names("c", 7), BAD}


# -- it is not the lines ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", [U, D])
async def test_a_vendor_that_answers_nobody_rejects_no_line(
    database: str, tmp_path: Path, operation: Operation
) -> None:
    """Three lines in a row are taken back, the operation waits 30 min, then 2 h; nothing pauses, all is delivered."""
    others = names("c", 12)
    # It answers at once. A busy machine's login that timed out would be a failed attempt, with a wait of its own.
    async with scene(database, tmp_path, upload_timeout_s=10) as s:
        if operation is D:
            await s.say(U, *others, occurred=0)
            await s.finish()
        s.sim.faults.add(fault="status", times=None)
        before = s.uploads
        await s.say(operation, *others)
        await s.flush()
        long_waits: list[float] = []
        while len(long_waits) < 2:
            waits_s = await s.pass_delays()
            assert waits_s > 0, "it waits for its next try"
            long_waits += [waits_s] if waits_s > 60 else []
            await s.flush()
        assert [round(waits_s / 1800) for waits_s in long_waits] == [1, 4]
        assert s.uploads - before <= 2 + 4 + 9 + 1 + 4 + 8 + 1
        assert await s.rejected() == []
        assert await s.value("select count(*) from lane where pause_reason is not null") == 0
        s.sim.faults.disarm()
        await s.finish(uploads_max=100)
        assert s.there() == (set(others) if operation is U else set())
        assert await s.value("select max(rounds) from cursor") == 0


async def test_upserts_end_as_dead_letters_and_opt_outs_never(database: str, tmp_path: Path) -> None:
    """A vendor that breaks down at everything of an account for ever gets `attempts_max` whole files of upserts."""
    async with scene(database, tmp_path, attempts_max=4) as s:
        s.sim.faults.add(fault="status", times=None)
        await s.say(U, *names("c", 9))
        await s.finish(uploads_max=100)
        assert await s.column("select state || ' ' || rows from batch where state <> 'replaced'") == ["failed 9"]
        assert await s.rejected() == []
        assert await s.hours_pass(1000) == 0, "a whole file that was given up is an operator's"
        await s.say(D, *names("c", 9), occurred=2)
        for _ in range(30):
            await s.flush()
            assert await s.pass_delays() > 0, "it waits for its next try, always"
        s.sim.faults.disarm()
        await s.finish(uploads_max=300)
        await s.hours_pass()
        await s.finish(uploads_max=300)
        assert await s.rejected() == []


# -- opt-outs are never given up -------------------------------------------------------------------------------------


async def rejected_opt_out(s: Scene, operation: Operation = S) -> Event:
    """Reject an opt-out because the vendor breaks down at it, with one behind it."""
    await s.say(U, BAD, "c1", occurred=0)
    await s.finish()
    s.breaks_at(BAD)
    (event, _) = await s.say(operation, BAD, "c1")
    await s.finish()
    assert await s.rejected() == [BAD]
    return event


async def test_a_rejected_opt_out_is_appended_again_until_it_is_delivered(database: str, tmp_path: Path) -> None:
    """After 5 and 30 minutes, then every 2 h, with its times; its event reads `retried`, the last copy `delivered`."""
    async with scene(database, tmp_path) as s:
        event = await rejected_opt_out(s)
        for number in range(5):
            delay_s = AGAIN_DELAYS_S[min(number, 2)]
            assert await s.hours_pass((delay_s - 30) / 3600) == 0, "not before its time"
            assert await s.hours_pass(60 / 3600) == 1
            assert await s.hours_pass(0) == 0, "only once"
            await s.finish(uploads_max=100)
            assert await s.rejected() == [BAD]
        s.sim.faults.disarm()
        assert await s.hours_pass() == 1
        await s.finish(uploads_max=100)
        assert not s.sim.readers("relay")[f"{BAD}@example.jp"].mailable
        assert (await s.rejected(), await s.hours_pass(1000)) == ([], 0)
        found = await s.w.store.find_webhook("crm", event.message_id)
        told = await s.w.store.tell_events(found)
        assert sorted(one.state for one in told) == ["delivered", "retried"]
        copies = await s.w.connection_fetch("select occurred_at, received_at from event where again_of is not null")
        assert {tuple(row) for row in copies} == {(event.occurred_at, event.received_at)}
        assert len(copies) == 6


async def test_two_replicas_append_it_once(database: str, tmp_path: Path) -> None:
    """And so does an operator who presses `retry` at the same moment."""
    async with scene(database, tmp_path) as s, Store.open(database) as other:
        await rejected_opt_out(s)
        for _ in range(5):
            await s.w.connection_execute("update batch set ended_at = ended_at - interval '1 day'")
            (batch_id,) = await s.column("select batch_id from rejection where retried_at is null")
            appended = await asyncio.gather(
                s.w.store.retry_unanswered(),
                other.retry_unanswered(),
                s.w.store.retry_batch(NEWS, batch_id),
                other.retry_unanswered(),
                s.w.store.retry_unanswered(),
            )
            counts = [one if isinstance(one, int) else sum(one.values()) for one in appended]
            assert sum(counts) == 1, counts
            await s.finish(uploads_max=200)
        assert await s.value("select count(*) from event where again_of is not null") == 5


async def test_a_dismissal_at_the_same_moment_counts(database: str, tmp_path: Path) -> None:
    """Who is second sees what the first did: what an operator has just dismissed is not appended again."""
    async with scene(database, tmp_path) as s, Store.open(database) as other:
        await rejected_opt_out(s)
        await s.w.connection_execute("update batch set ended_at = ended_at - interval '1 day'")
        (batch_id,) = await s.column("select batch_id from rejection")
        async with s.w.store.transaction() as connection:
            await connection.execute(sql("hold_batch"), NEWS, batch_id)
            again = asyncio.create_task(other.retry_unanswered())
            while not await s.value("select count(*) from pg_locks where not granted"):  # noqa: ASYNC110 - Postgres
                await asyncio.sleep(0.01)
            assert await connection.fetchval(sql("dismiss_batch"), NEWS, batch_id) == 1
        assert await again == {}
        assert await s.value("select count(*) from event where again_of is not null") == 0


async def test_what_is_not_appended_again(database: str, tmp_path: Path) -> None:
    """What an operator dismissed, what the vendor refused by word, and what a later word has replaced is not sent."""
    async with scene(database, tmp_path) as s:
        await rejected_opt_out(s, D)
        (batch_id,) = await s.column("select batch_id from rejection")
        assert await s.w.store.dismiss_batch(NEWS, batch_id) == 1
        assert await s.hours_pass(1000) == 0
        s.sim.faults.disarm()
        s.sim.faults.add(fault="refuse_file", address=f"{BAD}@example.jp")
        await s.say(S, BAD, occurred=2)
        await s.finish()
        assert await s.hours_pass(1000) == 0
        s.sim.faults.disarm()
        s.breaks_at(BAD)
        await s.say(S, BAD, occurred=3)
        await s.finish()
        s.sim.faults.disarm()
        await s.say(A, BAD, occurred=4)
        await s.finish(uploads_max=100)
        before = s.uploads
        assert await s.hours_pass() == 1
        await s.finish(uploads_max=100)
        assert s.uploads == before, "the allow is the later word"
        assert s.sim.readers("relay")[f"{BAD}@example.jp"].mailable


async def test_a_rejected_upsert_is_appended_again_some_times(database: str, tmp_path: Path) -> None:
    """A vendor that was unwell for some minutes makes no dead letters; one that always breaks at a line makes one."""
    async with scene(database, tmp_path) as s:
        s.breaks_at(BAD)
        await s.say(U, BAD, "c1")
        await s.finish()
        for _ in range(UPSERTS_AGAIN_MAX):
            assert await s.hours_pass() == 1
            await s.finish(uploads_max=100)
        assert await s.hours_pass(1000) == 0
        assert await s.w.store.tell_dead_letters([NEWS]) == {NEWS: DeadLetters(data=1)}
        assert await s.rejected() == [BAD]


async def test_an_opt_out_that_waits_to_be_appended_again_counts_as_unsettled(database: str, tmp_path: Path) -> None:
    """Nobody has confirmed it: its age goes on being told, until it is delivered or dismissed."""
    async with scene(database, tmp_path) as s:
        await rejected_opt_out(s)

        async def oldest_s() -> float:
            unsettled = await s.w.store.tell_unsettled()
            return max((one.oldest_s or 0.0) for one in unsettled if (one.account, one.operation) == (NEWS, S))

        assert await oldest_s() > 24 * 3600
        assert await s.hours_pass() == 1
        assert await oldest_s() > 24 * 3600
        s.sim.faults.disarm()
        await s.finish()
        assert await oldest_s() == 0


REJECTED = """
insert into cursor (account, operation, position) values ('letter', 'stop', 1000);
with said as (
    insert into event (account, source, message_id, digest, operation, customer, layout, line, occurred_at, received_at)
    values ('letter', 'crm', 'msg_1', 'd', 'stop', 'c', 1, e'"a@example.jp"\\r\\n', '2026-01-01', '2026-01-01')
    returning account, id
), filed as (
    insert into batch (account, id, login, operation, layout, header, cut_from, cut_to, rows, bytes, state, refused,
                       oldest_received_at, ended_at)
    select account, 1, 'hai', 'stop', 1, '{E-Mail}', id - 1, id, 1, 30, 'failed', true, '2026-01-01', '2026-01-01'
    from said
    returning account, id, cut_to
), sent as (
    insert into upload (account, batch_id, number, ended_at, outcome) select account, id, 1, now(), 'unknown' from filed
)
insert into rejection (account, batch_id, line, event_id, message)
select account, id, 2, cut_to, 'no answer' from filed;
"""


async def test_the_service_looks_after_them(database: str, tmp_path: Path) -> None:
    """A running replica appends what is to be appended again, by itself, and counts it."""
    async with Store.open(database) as store, store.connection() as connection:
        await connection.execute(REJECTED)
    async with served(database, tmp_path, {"crm": {}}) as service:
        async with asyncio.timeout(20):
            while (  # noqa: ASYNC110 - the service sets no asyncio.Event
                await service.metric("relay_events_total", vendor="haihai", operation="stop") == 0
            ):
                await asyncio.sleep(0.02)
        (row,) = await service.rows(
            "select message_id, again_of is not null as again from event where source = 'relay'"
        )
        assert (row["message_id"].endswith(":retry-1"), row["again"]) == (True, True)
        assert await service.rows("select from batch where retried_at is null and state = 'failed'") == []


# -- poison never holds up opt-outs ----------------------------------------------------------------------------------


async def test_innocents_behind_a_poisoned_file_are_delivered_in_minutes(database: str, tmp_path: Path) -> None:
    """Opt-outs of the same account and operation, in the same file and behind it: within the steps of one narrowing."""
    innocents, late = names("c", 31), names("late", 10)
    async with scene(database, tmp_path) as s:
        await s.say(U, *innocents, *late, BAD, occurred=0)
        await s.finish()
        s.breaks_at(BAD)
        s.waited_s, before = 0, s.uploads
        await s.say(D, *innocents[:20], BAD, *innocents[20:])
        for name in late:
            await s.flush()
            await s.say(D, name)
            await s.pass_delays()
        await s.finish(uploads_max=100)
        assert s.there() == {BAD}
        assert s.uploads - before <= 2 * math.log2(42) + 8
        assert s.waited_s <= 11 * STEP_S, "under 3 minutes"


async def test_a_copy_that_is_poison_holds_up_innocents_no_longer_than_the_first(database: str, tmp_path: Path) -> None:
    """Each time it comes back it is in a file with others: found again at the same cost, and they are delivered."""
    async with scene(database, tmp_path) as s:
        await rejected_opt_out(s, D)
        for number in range(3):
            innocents = names(f"n{number}-", 15)
            await s.say(U, *innocents, occurred=0)
            await s.finish(uploads_max=100)
            assert await s.hours_pass() == 1
            await s.say(D, *innocents, occurred=1)
            before, s.waited_s = s.uploads, 0
            await s.finish(uploads_max=100)
            assert s.there() == {BAD}
            assert await s.rejected() == [BAD]
            assert s.uploads - before <= 2 * math.log2(16) + 8
            assert s.waited_s <= (math.log2(16) + 5) * STEP_S


async def test_the_same_line_three_times_in_a_row_is_not_the_vendor(database: str, tmp_path: Path) -> None:
    """However often it comes back with nothing delivered between: it counts as one, and innocents wait for no round."""
    async with scene(database, tmp_path) as s:
        await s.say(U, "c1", BAD, occurred=0)
        await s.finish()
        s.breaks_at(BAD)
        await s.say(D, BAD)
        await s.finish()
        for _ in range(4):
            assert await s.hours_pass() == 1
            assert await s.value("select sum(refused_lines) from cursor") == 0
            await s.finish(uploads_max=100)
            assert await s.rejected() == [BAD]
        s.waited_s = 0
        await s.say(D, "c1")
        await s.finish(uploads_max=100)
        assert (s.waited_s, s.there()) == (0, {BAD})
        assert await s.value("select max(rounds) from cursor") == 0


@pytest.mark.parametrize("breakdown", ["answers 500", "hangs", "imports, but does not answer"])
async def test_other_opt_outs_of_the_login_wait_for_none_of_it(database: str, tmp_path: Path, breakdown: str) -> None:
    """At every step of the narrowing: another account's and another operation's opt-outs go first, and at once.

    The poisoned file is due for its next try, too, and its events are older.
    """
    others = names("s", 40)
    async with scene(database, tmp_path) as s:
        await s.say(U, *names("c", 7), BAD, *others, occurred=0)
        await s.finish()
        s.breaks_at(BAD, **BREAKDOWNS[breakdown])
        await s.say(D, *names("c", 4), BAD, *names("c", 7)[4:])
        outcomes = await s.flush()
        for number, name in enumerate(others):
            waits_s = await s.pass_delays()
            await (s.say(D, name, account=SHOP) if number % 2 else s.say(S, name))
            worked = await s.worker.work(s.plan, await s.w.fence())
            assert worked.outcome == "delivered", (number, worked, outcomes)
            seen = s.sim.readers("relay").get(f"{name}@example.jp")
            assert seen is None or not seen.mailable, number
            outcomes = await s.flush()
            if not waits_s:
                break
        assert await s.rejected() == [BAD]


POISON_OF_DATA: dict[str, dict[str, object]] = BREAKDOWNS | {
    "refuses": {"fault": "refuse_file"},
    "finds it too large": {"fault": "too_large"},
}


@pytest.mark.parametrize("breakdown", POISON_OF_DATA)
async def test_upserts_that_fail_in_any_way_delay_no_opt_out(database: str, tmp_path: Path, breakdown: str) -> None:
    """At every step of what becomes of a poisoned file of upserts, an opt-out said meanwhile goes up next, at once."""
    rows = 4 if breakdown == "hangs" else 8
    async with scene(database, tmp_path) as s:
        await s.say(U, *names("o", 30), occurred=0)
        await s.finish()
        s.breaks_at(BAD, **POISON_OF_DATA[breakdown])
        await s.say(U, *names("c", rows - 2), BAD, names("c", rows)[-1])
        for name in names("o", 30):
            await s.worker.work(s.plan, await s.w.fence())
            await s.say(D, name, account=SHOP)
            worked = await s.worker.work(s.plan, await s.w.fence())
            assert worked.outcome == "delivered", name
            assert name not in s.there()
            if not await s.pass_delays() and not await s.worker.survey([s.plan], await s.w.fence()):
                break
        await s.finish(uploads_max=200)
        assert await s.rejected() == [BAD]
        assert s.there() & {*names("c", rows)} == {*names("c", rows - 2), names("c", rows)[-1]}
