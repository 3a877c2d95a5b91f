"""Work on a lane: wherever a replica dies, another goes on, nothing is lost, and the file comes out the same."""

from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from relay.batches import Accepted, Busy, Delivered, Outcome, Quota, Transient, Unauthorized, Unknown
from relay.client import UploadJob
from relay.errors import ConservationBroken
from relay.events import Operation
from relay.flush import LaneWorker, Worked, login_plans
from relay.metrics import Metrics
from relay.settings import Account, Settings
from relay.spool import Spool
from tests.integration.faults import (
    STEPS,
    Death,
    Died,
    MortalSpool,
    MortalStore,
    MortalVendor,
    delays_pass,
    finish,
    lease_runs_out,
    replica,
    work_until_death,
)
from tests.integration.model import KEYS, Answering, Readers, World, delivering, settings, world

U, D, S, A = Operation.UPSERT, Operation.DELETE, Operation.STOP, Operation.ALLOW
ACCOUNT, LOGIN = "account-0", "login-0"


async def say(w: World, *words: tuple[Operation, str]) -> None:
    """Append events, each later than all before."""
    said = await w.connection.fetchval("select count(*) from event")
    await w.store.append(
        [w.event(ACCOUNT, o, f"{who}@example.jp", occurred=n) for n, (o, who) in enumerate(words, said)]
    )


@pytest.mark.parametrize("undoes", [True, False])
async def test_a_replica_that_dies_anywhere_is_taken_over(database: str, tmp_path: Path, undoes: bool) -> None:  # noqa: FBT001
    """Between any two steps: another replica, with a disk of its own, ends the work, and the vendor's list is right."""
    readers = Readers(undoes)
    async with world(database, tmp_path / "first", settings(1)) as w, MortalStore.open(database) as store:
        plan = w.plans[LOGIN]
        sane = LaneWorker(w.store, Spool(tmp_path / "second"), delivering(readers), Metrics(), uuid4(), 60)
        for number, step in enumerate(STEPS):
            new, gone, stopped = (f"{name}{number}" for name in ("new", "gone", "stopped"))
            await say(w, (U, new), (U, gone), (U, stopped), (S, stopped), (D, gone))
            store.death = Death(step)
            spool = MortalSpool(tmp_path / "first")
            spool.death = store.death
            mortal = LaneWorker(store, spool, MortalVendor(readers, store.death), Metrics(), uuid4(), 60)
            with pytest.raises(Died):
                await work_until_death(w, mortal, plan)
            assert await sane.work(plan, await w.fence()) == Worked(), "the lane is not free yet"
            await lease_runs_out(w)
            await finish(w, sane, plan)
            states = await w.connection.fetch(
                "select distinct state from batch where state not in ('delivered', 'replaced')"
            )
            assert states == [], step
            there = {name: readers.mailable(f"{name}@example.jp") for name in (new, gone, stopped)}
            assert there == {new: True, gone: False, stopped: False}, step
        lost = await w.connection.fetchval(
            "select count(*) from event e join cursor c using (account, operation) where id > position"
        )
        assert lost == 0


async def test_an_upload_that_nobody_settled_counts_as_unknown(database: str, tmp_path: Path) -> None:
    """The take-over sends nothing itself: the file may still be on its way; it waits as after any failed attempt."""
    async with world(database, tmp_path, settings(1)) as w, MortalStore.open(database) as store:
        plan, readers = w.plans[LOGIN], Readers()
        await say(w, (U, "a"))
        store.death = Death("after upload")
        with pytest.raises(Died):
            await replica(w, MortalVendor(readers, store.death), store=store).work(plan, await w.fence())
        await lease_runs_out(w)
        answering = delivering(readers)
        assert await w.worker(answering).work(plan, await w.fence()) == Worked(
            leased=True, taken_over=True, outcome="unknown"
        )
        assert answering.uploads == 0
        (row,) = await w.connection.fetch(
            "select state, attempts, sent_to, cut_to from batch join cursor using (account, operation)"
        )
        assert (row["state"], row["attempts"], row["sent_to"]) == ("waiting", 1, row["cut_to"])
        (upload,) = await w.connection.fetch("select outcome, reason from upload")
        assert upload["outcome"] == "unknown"
        assert "taken over" in upload["reason"]
        assert await w.flush(w.worker(answering), plan) == [], "not before its time"


async def test_a_spoolfile_that_is_intact_goes_up_again_as_it_is(database: str, tmp_path: Path) -> None:
    """Nothing is rendered for the next try, however large the batch."""
    sent: list[int] = []

    def answer(job: UploadJob, _: list[str]) -> Outcome:
        sent.append(job.file.path.stat().st_ino)
        return Transient("refused connection")

    async with world(database, tmp_path, settings(1)) as w:
        await say(w, (U, "a"))
        for _ in range(3):
            await delays_pass(w)
            await w.flush(w.worker(Answering(answer)), w.plans[LOGIN])
    assert len(sent) == 3
    assert len(set(sent)) == 1


@pytest.mark.parametrize("harm", ["gone", "shorter", "longer", "one byte differs", "another's disk"])
async def test_a_spoolfile_that_is_gone_or_damaged_is_rendered_again_the_same(
    database: str, tmp_path: Path, harm: str
) -> None:
    """What goes up at the next try has the same bytes and the same hash, which was committed with the first."""
    sent: list[tuple[bytes, str]] = []

    def answer(job: UploadJob, _: list[str]) -> Outcome:
        content = job.file.path.read_bytes()
        sent.append((content, job.file.sha256))
        return Transient("refused connection") if len(sent) == 1 else Delivered()

    async with world(database, tmp_path / "one", settings(1)) as w:
        plan = w.plans[LOGIN]
        await say(w, *((U, f"c{n % 70}") for n in range(100)))
        await w.flush(w.worker(Answering(answer)), plan)
        (path,) = (tmp_path / "one").iterdir()
        content = path.read_bytes()
        match harm:
            case "gone":
                path.unlink()
            case "shorter":
                path.write_bytes(content[:-1])
            case "longer":
                path.write_bytes(content + b"x")
            case "one byte differs":
                path.write_bytes(content[:50] + b"#" + content[51:])
            case _:
                w.spool = Spool(tmp_path / "two")
        await say(w, (U, "c5"), (D, "c6"))  # replace what the file holds, but not its lines
        await w.connection_execute("update cursor set not_before = '-infinity'")
        only_upserts = replace(plan, targets=tuple(t for t in plan.targets if t.operation is U))
        await w.worker(Answering(answer)).work(only_upserts, await w.fence())
        assert len(sent) == 2
        assert sent[1] == sent[0]
        hashes = await w.connection.fetch("select sha256 from batch where state = 'delivered'")
        assert [row["sha256"] for row in hashes] == [sent[0][1]]
        assert list(w.spool.directory.iterdir()) == [], "a batch that has ended needs no file"


async def test_a_file_that_comes_out_otherwise_is_not_sent(database: str, tmp_path: Path) -> None:
    """Where the log does not render what was committed there is a bug: nothing goes up, and the lane is free again."""
    async with world(database, tmp_path, settings(1)) as w:
        plan, answering = w.plans[LOGIN], Answering(lambda *_: Transient("refused connection"))
        await say(w, (U, "a"), (U, "a"), (U, "b"))
        await w.flush(w.worker(answering), plan)
        await w.connection_execute("delete from superseded")
        (path,) = tmp_path.iterdir()
        path.unlink()
        await delays_pass(w)
        for _ in range(2):
            with pytest.raises(ConservationBroken, match="came out with"):
                await w.worker(answering).work(plan, await w.fence())
        assert answering.uploads == 1


def with_columns(given: Settings, columns: dict[str, object]) -> Settings:
    """The settings with other columns."""
    account = given.accounts[ACCOUNT]
    changed = Account.model_validate(account.model_dump() | {"columns": columns})
    return given.model_copy(update={"accounts": {ACCOUNT: changed}})


async def test_a_corrected_header_applies_to_lines_that_wait(database: str, tmp_path: Path) -> None:
    """A batch with the wrong header is taken apart and cut anew with the right one; its attempts are not forgotten."""
    headers: list[str] = []

    def answer(job: UploadJob, _: list[str]) -> Outcome:
        headers.append(job.file.path.read_bytes().decode("cp932").splitlines()[0])
        return Transient("refused connection") if len(headers) == 1 else Delivered()

    given = settings(1)
    async with world(database, tmp_path, given) as w:
        plan, worker = w.plans[LOGIN], w.worker(Answering(answer))
        await say(w, (U, "a"))
        await w.flush(worker, plan)
        await say(w, (U, "b"))
        corrected = login_plans(with_columns(given, {"E-Mail": "email"}), KEYS)[LOGIN]
        await delays_pass(w)
        assert (await worker.work(corrected, await w.fence())).uncut == 1
        assert await w.connection.fetchval("select attempts from cursor where operation = 'upsert'") == 1
        await worker.work(corrected, await w.fence())
        assert headers == ['"メールアドレス"', '"E-Mail"']
        rows = await w.connection.fetch("select state, rows from batch order by id")
        assert [tuple(row) for row in rows] == [("replaced", 1), ("delivered", 2)]


async def test_an_opt_out_overtakes_what_the_vendor_refuses_to_take(database: str, tmp_path: Path) -> None:
    """Upserts that wait for their next try are taken apart, the opt-out goes up, and what it replaced is never sent."""
    async with world(database, tmp_path, settings(1)) as w:
        plan, readers = w.plans[LOGIN], Readers()
        await say(w, (U, "a"), (U, "b"))
        await w.flush(w.worker(Answering(lambda *_: Unknown("reset"))), plan)
        await say(w, (D, "a"))
        done = await w.flush(w.worker(delivering(readers)), plan)
        assert done[0] == Worked(leased=True, cut=True, uncut=1, outcome="delivered")
        assert readers.readers == {}
        await finish(w, w.worker(delivering(readers)), plan)
        assert readers.mailable("b@example.jp")


async def test_the_day_s_calls_are_counted_before_they_are_made(database: str, tmp_path: Path) -> None:
    """With the quota spent nothing is cut or sent, and opt-outs wait; where the vendor says so, the whole lane."""
    given = settings(1)
    login = given.logins[LOGIN].model_copy(update={"calls_per_day_limit": 1})
    async with world(database, tmp_path, given.model_copy(update={"logins": {LOGIN: login}})) as w:
        plan, answering = w.plans[LOGIN], Answering(lambda *_: Busy("busy", 1))
        await say(w, (S, "a"), (D, "b"))
        await w.flush(w.worker(answering), plan)
        await delays_pass(w)
        done = await w.flush(w.worker(answering), plan)
        assert done == [Worked(leased=True, outcome="quota")], "asked once for all opt-outs of the login"
        assert answering.uploads == 1
        assert await w.connection.fetchval("select count(*) from batch") == 1
        kept = await w.connection.fetch(
            "select operation, attempts from cursor where wait_reason = 'quota' and not_before > now()"
        )
        assert sorted(row["operation"] for row in kept) == ["ban", "delete", "stop"]
        assert {row["attempts"] for row in kept} == {0}
        assert await w.connection.fetchval("select not_before <= now() from lane")
        await w.connection_execute("update lane set calls_day = calls_day - 1")
        await delays_pass(w)
        done = await w.flush(w.worker(Answering(lambda *_: Quota("81404"))), plan)
        assert [worked.outcome for worked in done] == ["quota"]
        reasons = await w.connection.fetch("select wait_reason, not_before > now() as waits from lane")
        assert [tuple(row) for row in reasons] == [("quota", True)]
        assert await w.connection.fetchval("select max(attempts) from cursor") == 0


async def test_what_is_done_is_counted(database: str, tmp_path: Path) -> None:
    """Uploads by outcome, batches by state, superseded and repeated events: one for one."""
    async with world(database, tmp_path, settings(1)) as w:
        plan = w.plans[LOGIN]
        outcomes: list[Outcome] = [Delivered(), Unauthorized("81401"), Accepted(), Delivered()]
        worker = w.worker(Answering(lambda *_: outcomes.pop(0)))
        await say(w, (S, "a"), (U, "a"), (U, "a"))
        for _ in range(3):
            await w.flush(worker, plan)
            await w.connection_execute(
                "update lane set paused_at = null, pause_reason = null, paused_fingerprint = null"
            )
            await delays_pass(w)

        def count(name: str, **labels: str) -> float | None:
            return w.metrics.registry.get_sample_value(name, labels)

        for outcome, expected in {"delivered": 2, "unauthorized": 1, "accepted": 1}.items():
            assert count("relay_uploads_total", vendor="haihai", outcome=outcome) == expected
        states = {"ready": 1, "uploading": 2, "waiting": 1, "accepted": 1}
        for state, expected in states.items():
            assert count("relay_batches_total", vendor="haihai", operation="upsert", state=state) == expected
        assert count("relay_superseded_events_total", vendor="haihai", operation="upsert") == 1
        assert count("relay_events_total", vendor="haihai", operation="stop") == 1


async def test_an_upload_of_an_account_that_is_no_longer_named_blocks_nobody(database: str, tmp_path: Path) -> None:
    """A replica died in an upload, and the settings no longer name its account: the login's others go on.

    The upload counts as unknown, and the batch waits for its account to come back.
    """
    given = settings(2)
    both = given.accounts["account-1"].model_copy(update={"login": LOGIN})
    shared = given.model_copy(update={"accounts": {ACCOUNT: given.accounts[ACCOUNT], "account-1": both}})
    async with world(database, tmp_path, shared) as w, MortalStore.open(database) as store:
        readers = Readers()
        await w.store.append([w.event("account-1", U, "a@example.jp", 0)])
        store.death = Death("after upload")
        with pytest.raises(Died):
            await replica(w, MortalVendor(readers, store.death), store=store).work(w.plans[LOGIN], await w.fence())
        await lease_runs_out(w)
        await say(w, (S, "b"))
        alone = login_plans(given.model_copy(update={"accounts": {ACCOUNT: given.accounts[ACCOUNT]}}), KEYS)[LOGIN]
        worker = w.worker(delivering(readers))
        done = await w.flush(worker, alone)
        assert [one.outcome for one in done] == ["unknown", "delivered"]
        rows = await w.connection.fetch("select account, state from batch order by id")
        assert [tuple(row) for row in rows] == [("account-1", "waiting"), (ACCOUNT, "delivered")]
        await finish(w, worker, w.plans[LOGIN])
        assert await w.connection.fetchval("select count(*) from batch where state <> 'delivered'") == 0
