"""Retention: what is old and settled goes, and nothing that is asked for or that a late repeat is held against."""

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from relay.batches import (
    Accepted,
    BatchState,
    Delivered,
    LineRejection,
    Manifest,
    Refused,
    Settlement,
    Terms,
    Transient,
    settle,
)
from relay.demo.postgres import VERSION_MIN
from relay.errors import ConservationBroken, Unavailable
from relay.events import LEAVING_SUFFIXES, Event, Operation
from relay.flush import LoginPlan
from relay.flush.pruning import Pruner
from relay.flush.recounting import Finding, Recounter
from relay.metrics import Metrics
from relay.status.proof import opt_outs, proof
from relay.status.standing import order, standing
from relay.store import Lease, Pruned, PrunedBatches, Store, TakenRecord
from relay.store.append import _known
from relay.store.database import sql
from relay.store.pruning import BATCHES_LONGER_S
from tests.integration.model import KEYS, Answering, World, settings, world
from tests.integration.store.made import ACCOUNT, Bench, raw_connection
from tests.integration.test_random_walk import Walk
from tests.waiting import until

U, D, S, B, A = Operation.UPSERT, Operation.DELETE, Operation.STOP, Operation.BAN, Operation.ALLOW
TERMS = Terms(attempts_max=3, file_bytes_max=10_000_000, settle_after_s=0)
WALKS = int(os.environ.get("PRUNING_WALKS", "6"))
SEED = int(os.environ.get("PRUNING_SEED", "1"))
SIDE_BY_SIDE = 8
DAY_S = 86_400.0


BOTH = pytest.mark.parametrize(
    "postgres_version", [None, VERSION_MIN], ids=["newest", f"postgres{VERSION_MIN}"], indirect=True
)
"""What runs on the oldest Postgres, too: the statements are the same in all tests."""


@pytest.fixture
def postgres_version(request: pytest.FixtureRequest, wanted_version: int | None) -> int | None:
    """Return the version that a test asks for by `BOTH`, else the one that everything runs on."""
    version: int | None = getattr(request, "param", None)
    if version is not None and wanted_version is not None:
        pytest.skip(f"RELAY_TEST_POSTGRES={wanted_version} asks for one version only")
    return version if version is not None else wanted_version


async def prune(
    store: Store, account: str = ACCOUNT, *, keep_s: float = 0, part_events: int = 1000, deletes_records: bool = False
) -> int:
    """Pass over an account until nothing more goes; return how many events went. Batches go with their events."""
    gone = 0
    while True:
        before = gone
        for operation in Operation:
            part = Pruned(0, 0, 0, 0)
            while part.until is not None:
                found = await store.prune(account, operation, part.until, keep_s=keep_s, events_max=part_events)
                if found is not None:  # else another walk prunes in this moment
                    part = found
                    gone += part.deleted
            while (
                await store.prune_batches(
                    account, 0, keep_s=keep_s - BATCHES_LONGER_S, batches_max=1000, deletes_records=deletes_records
                )
                is None
            ):
                pass
        if gone == before:
            return gone


async def findings(store: Store) -> list[Finding]:
    """What a recount finds."""
    return (await Recounter(store, Metrics(), part_events=3, share_max=1).walk()).findings


# -- walks through faults --------------------------------------------------------------------------------------------


@dataclass(slots=True)
class PrunedWalk(Walk):
    """A walk in which retention keeps nothing longer than it has to, and webhooks come again at any time."""

    again: int = 0
    pruned: int = 0
    moments: list[float] = field(default_factory=list)

    async def receive(self) -> None:
        """Append an event. No two occur at the same time: which of them is the later would be told by their receipt."""
        address = self.rng.choice(list(self.words))
        event = self.w.event(self.account, self.rng.choice(list(Operation)), address, occurred=8 * self.rng.random())
        self.words[address].append(event)
        self.log.append(f"event {event.operation} {address[0]} at {event.occurred_at:%S.%f}")
        await self.w.store.append([event])
        self.fences.append(await self.w.fence())

    async def repeat(self) -> None:
        """Receive a webhook once more, perhaps after it was deleted."""
        said = [event for events in self.words.values() for event in events]
        if not said:
            return
        event = self.rng.choice(said)
        new = self.w.event(self.account, event.operation, "nobody@example.jp", 0)
        [appended] = await self.w.store.append([replace(event, received_at=new.received_at)])
        self.again += appended.status == "new"
        self.log.append(f"again {event.operation} {event.message_id}: {appended.status} {appended.event_id}")

    async def prune(self) -> None:
        """Delete all that may go, and hold what is told before against what is told after."""
        before = await told(self.w, self.account, self.words)
        gone = await prune(self.w.store, self.account, part_events=self.rng.choice((1, 2, 5, 1000)))
        self.pruned += gone
        self.log.append(f"pruned {gone}")
        after = await told(self.w, self.account, self.words)
        assert after.dead_letters == before.dead_letters
        assert after.pending == before.pending
        assert after.standings == before.standings
        assert after.proofs.keys() <= before.proofs.keys()
        for word, (proven, by_allow) in after.proofs.items():
            assert proven == before.proofs[word][0], word
            assert by_allow >= before.proofs[word][1], word

    async def go(self) -> None:
        """Walk, then let everything heal, as the walk that it is does; retention goes on all the time."""
        steps = (self.receive, self.flush, self.pass_time, self.keep_house, self.retry, self.prune, self.repeat)
        for _ in range(24):
            await self.rng.choices(steps, (5, 7, 3, 1, 0.5, 2, 2))[0]()
        self.faulty = False
        for _ in range(400):
            await self.pass_time()
            await self.keep_house()
            done = await self.w.flush(self.w.worker(answering(self)), self.plan)
            await self.prune()
            if not done and not await self.retry():
                break
        else:
            raise AssertionError("no end of it")
        for _ in range(4):
            await self.repeat()
        await self.pass_time()
        await self.w.flush(self.w.worker(answering(self)), self.plan)
        self.import_queue()


def answering(one: Walk) -> Answering:
    """The walk's vendor."""
    return Answering(one.answer)


@dataclass(frozen=True, slots=True)
class Told:
    """What operators are told of some customers: how they stand, what proves their opt-outs, what waits."""

    standings: Sequence[str]
    proofs: Mapping[int, tuple[str, bool]]
    dead_letters: object
    pending: Mapping[Operation, int]


async def told(w: World, account: str, addresses: Iterable[str]) -> Told:
    """Ask for all of it."""
    standings, proofs = [], {}
    for address in addresses:
        customer = KEYS.customer(address)
        found = [event for event in await w.store.find_words(customer) if event.account == account]
        words = sorted(await w.store.tell_events(found), key=order)
        standings += [standing(words, None).model_dump_json()] if words else []
        events = await w.store.tell_events(await w.store.find_customer(customer, 10_000))
        last = {event.again_of or event.event_id: event for event in sorted(events, key=lambda event: event.event_id)}
        for key, chain in (await w.store.tell_proofs(opt_outs(events))).items():
            proven = proof(chain, last[key[1]], None, {})
            # an allow that has ended an opt-out stays with it; the record of who came back after a deletion may go
            by = proven.lifted_by.operation if proven.lifted_by is not None else None
            proofs[key[1]] = (proven.model_copy(update={"lifted_by": None}).model_dump_json(), by is A)
    unsettled = [one for one in await w.store.tell_unsettled() if one.account == account]
    return Told(
        standings=standings,
        proofs=proofs,
        dead_letters=(await w.store.tell_dead_letters([account]))[account],
        pending={one.operation: one.pending for one in unsettled},
    )


async def walk(w: World, plan: LoginPlan, seed: int) -> PrunedWalk:
    """Do one walk."""
    one = PrunedWalk(w, plan, random.Random(seed), later=plan.login.settle_after_s > 0)
    try:
        await one.go()
        assert not one.wrong(), f"wrong: {one.wrong()}"
    except Exception as error:
        error.add_note(f"seed {seed}: " + "\n".join(one.log))
        raise
    return one


@BOTH
@pytest.mark.parametrize("settle_wait_s", [0, 60], ids=["at once", "later"])
async def test_no_walk_with_retention_ends_with_a_wrong_reader(
    database: str, tmp_path: Path, settle_wait_s: float
) -> None:
    """Whatever is deleted whenever, by two replicas' passes at once, each customer's last word holds in the end.

    Also where webhooks come again after they were deleted. No dead letter is lost, how customers stand and what proves
    their opt-outs is told as before, and no recount finds anything.
    """
    chosen = settings(WALKS, settle_wait_s=settle_wait_s, rows_max=random.Random(SEED).choice((1, 2)), attempts_max=3)
    async with world(database, tmp_path, chosen) as w:
        turns = asyncio.Semaphore(SIDE_BY_SIDE)

        async def one(number: int, plan: LoginPlan) -> PrunedWalk:
            async with turns:
                return await walk(w, plan, SEED + number)

        walks = asyncio.gather(*(one(number, plan) for number, plan in enumerate(w.plans.values())))

        async def recount() -> None:
            while not walks.done():
                assert await findings(w.store) == []

        done, _ = await asyncio.gather(walks, recount())
        assert await findings(w.store) == []
    assert sum(one.pruned for one in done) > WALKS, "retention has deleted something"
    assert sum(one.again for one in done) > 0, "a webhook came again after it was deleted"


# -- what stays, rule by rule ----------------------------------------------------------------------------------------


@dataclass(slots=True)
class Said:
    """An account of which words are said and sent, one file for each."""

    bench: Bench
    lease: Lease
    ids: dict[str, int] = field(default_factory=dict)

    async def say(self, name: str, operation: Operation, occurred: float, customer: str = "a") -> int:
        """Say something, by a name that is only for the test."""
        self.ids[name] = await self.bench.say(operation, customer, occurred)
        return self.ids[name]

    async def send(self, operation: Operation, *refused: int, rows_max: int = 10**6) -> Manifest:
        """Cut a file and deliver it, but for refused lines."""
        batch = await self.bench.uploading(self.lease, operation, rows_max=rows_max)
        outcome = Delivered(tuple(LineRejection(line, "refused") for line in refused))
        await self.bench.settle(self.lease, batch, settle(batch, outcome, TERMS))
        return batch

    async def sent(self, *words: tuple[str, Operation, float]) -> None:
        """Say words and send each at once."""
        for name, operation, occurred in words:
            await self.say(name, operation, occurred)
            await self.send_if_any(operation)

    async def send_if_any(self, operation: Operation) -> bool:
        """Deliver what waits; False if all of it was superseded."""
        cut = await self.bench.cut(self.lease, operation)
        if cut.batch_id is None:
            return False
        batch = await self.bench.store.manifest(ACCOUNT, cut.batch_id)
        assert await self.bench.store.begin_upload(self.lease, batch, None) == 1
        await self.bench.settle(self.lease, batch, settle(batch, Delivered(), TERMS))
        return True

    async def left(self, *, keep_s: float = 0, part_events: int = 1000) -> set[str]:
        """Prune; which of the words are still there."""
        await prune(self.bench.store, keep_s=keep_s, part_events=part_events)
        assert await findings(self.bench.store) == []
        for table in ("superseded", "rejection"):
            gone = f"select event_id from {table} where event_id not in (select id from event)"  # noqa: S608 (our own)
            assert await self.bench.column(gone) == [], table
        ids = set(await self.bench.column("select id from event"))
        return {name for name, event_id in self.ids.items() if event_id in ids}


@pytest.fixture
async def said(bench: Bench) -> Said:
    """Give an account of which nothing was said."""
    return Said(bench, await bench.lease())


KINDS: dict[str, tuple[Sequence[tuple[str, Operation, float]], set[str]]] = {
    # what was said and sent, in this order, and what stays
    "records": ([("first", U, 1), ("second", U, 2), ("third", U, 3)], {"third"}),
    "a late record": ([("second", U, 2), ("first", U, 1)], {"second"}),
    "a customer who was deleted": ([("record", U, 1), ("delete", D, 2)], {"delete"}),
    "one who came back": ([("record", U, 1), ("delete", D, 2), ("back", U, 3)], {"delete", "back"}),
    "a stop": ([("record", U, 1), ("stop", S, 2), ("later", U, 3)], {"stop", "later"}),
    "a stop and an allow": ([("stop", S, 1), ("allow", A, 2)], {"allow"}),
    "a ban behind a stop": ([("stop", S, 1), ("ban", B, 2)], {"ban"}),
    # a late stop from before the delete is still held against the delete, one from after it against the stop
    "a stop behind a delete": ([("delete", D, 1), ("stop", S, 2), ("record", U, 3)], {"delete", "stop", "record"}),
    "two deletes": ([("first", D, 1), ("back", U, 2), ("second", D, 3)], {"second"}),
    "a stop before two deletes": (
        [("stop", S, 1), ("first", D, 2), ("back", U, 3), ("second", D, 4), ("again", U, 5)],
        {"stop", "second", "again"},
    ),
}


@pytest.mark.parametrize("what", KINDS)
async def test_the_last_words_stay(said: Said, what: str) -> None:
    """The last of each kind, whatever was received last; what they replaced goes."""
    words, stays = KINDS[what]
    await said.sent(*words)
    assert await said.left() == stays


@pytest.mark.parametrize("part_events", [1, 2, 1000])
async def test_parts_make_no_difference(said: Said, part_events: int) -> None:
    """Nor does where they end, also between an original and its copies."""
    await said.sent(("stop", S, 1))
    for n in range(4):
        await said.sent((f"record {n}", U, 2 + n))
        await said.send(S)
    assert await said.left(part_events=part_events) == {"stop", "record 3"}
    await said.sent(("allow", A, 100))
    assert await said.left(part_events=part_events) == {"allow", "record 3"}
    assert await said.bench.column("select count(*) from event where again_of is not null") == [0]


async def test_a_late_repeat_is_held_against_what_stays(said: Said) -> None:
    """Each of a customer's words, received once more after it was deleted, is superseded at its cut."""
    words = [
        ("stop", S, 1),
        ("record", U, 2),
        ("delete", D, 3),
        ("back", U, 4),
        ("ban", B, 5),
        ("allow", A, 6),
        ("last", U, 7),
    ]
    await said.sent(*words)
    assert (await said.bench.cut(said.lease, S)).superseded == 1, "the stop was said again behind the record"
    kept = await said.left()
    assert kept == {"delete", "allow", "last"}
    for name, operation, occurred in words:
        if name not in kept:
            await said.say(f"{name} again", operation, occurred)
            cut = await said.bench.cut(said.lease, operation)
            assert (cut.batch_id, cut.superseded) == (None, 1), name
    assert await said.left() == kept


async def test_the_last_delete_that_was_sent_stays(said: Said) -> None:
    """By it a stop from before it holds no more, which a later one that was never sent does not say."""
    await said.sent(("stop", S, 1), ("sent", D, 2), ("record", U, 3))
    await said.say("replaced", D, 4)
    await said.say("last", U, 5)
    assert (await said.bench.cut(said.lease, D)).batch_id is None
    await said.send(U)
    assert await said.left() == {"stop", "sent", "replaced", "last"}
    await said.sent(("third", D, 6))
    assert await said.left() == {"stop", "third"}


async def test_a_word_counts_as_the_last_once_its_upload_has_ended(said: Said) -> None:
    """What waits, or goes up, may do so for long: until then the vendor has what was said before."""
    await said.sent(("first", U, 1), ("second", U, 2))
    await said.say("waits", U, 3)
    assert await said.left() == {"second", "waits"}
    batch = await said.bench.uploading(said.lease, U)
    assert await said.left() == {"second", "waits"}
    await said.bench.settle(said.lease, batch, settle(batch, Delivered(), TERMS))
    assert await said.left() == {"waits"}


async def test_what_is_young_stays(said: Said) -> None:
    """By its receipt, and by when it was settled: what waited for a year is told for as long as anything else."""
    await said.sent(("first", U, 1), ("second", U, 2), ("third", U, 3))
    assert await said.left(keep_s=3600) == {"first", "second", "third"}
    await said.bench.execute("update batch set ended_at = ended_at - interval '2 hours'")
    assert await said.left(keep_s=3600) == {"third"}
    now = datetime.now(UTC)
    young = replace(said.bench.event(U, "b", 1), received_at=now - timedelta(minutes=50))
    [said.ids["young"]] = await said.bench.append(young)
    await said.say("later", U, 2, "b")
    await said.send(U)
    await said.bench.execute("update batch set ended_at = ended_at - interval '2 hours'")
    assert await said.left(keep_s=3600) == {"third", "young", "later"}
    assert await said.left(keep_s=1800) == {"third", "later"}


async def test_dead_letters_stay_until_somebody_has_acted(said: Said) -> None:
    """Refused lines and given up files, though a later word has come, for an operator to look at; then they go."""
    await said.say("refused", U, 1, "a")
    await said.say("delivered", U, 1, "b")
    await said.say("stays", U, 1, "d")
    refused = await said.send(U, 2)
    await said.say("failed", U, 1, "c")
    failed = await said.bench.uploading(said.lease, U)
    await said.bench.settle(
        said.lease, failed, settle(failed, Transient("gone"), replace(TERMS, attempts_max=1)), outcome="transient"
    )
    for customer in "abc":
        await said.say(f"later {customer}", U, 2, customer)
    await said.send(U)
    later = {"stays", "later a", "later b", "later c"}
    assert await said.left() == {"refused", "failed"} | later
    assert await said.bench.store.dismiss_batch(ACCOUNT, refused.id) == 1
    assert await said.left(keep_s=3600) == {"refused", "failed"} | later
    await said.bench.execute("update batch set ended_at = ended_at - interval '2 hours'")
    assert await said.left() == {"failed"} | later
    assert await said.bench.store.retry_batch(ACCOUNT, failed.id) == 1
    assert await said.left() == {"failed"} | later, "its copy waits"
    assert (await said.bench.cut(said.lease, U)).superseded == 1
    assert await said.left(keep_s=3600) == {"failed"} | later, "somebody has just acted on it"
    assert await said.left() == later
    assert await said.bench.column("select count(*) from event") == [len(later)]


async def test_an_allow_that_may_have_arrived_stays(said: Said) -> None:
    """It is an operator's to decide on."""
    await said.say("unconfirmed", A, 1)
    batch = await said.bench.uploading(said.lease, A)
    await said.bench.settle(said.lease, batch, settled_as(batch, "unconfirmed"), outcome="unknown")
    await said.sent(("stop", S, 2))
    assert await said.left() == {"unconfirmed", "stop"}
    assert await said.bench.store.dismiss_batch(ACCOUNT, batch.id) == 1
    assert await said.left() == {"stop"}


async def test_what_a_cursor_may_be_set_back_to_stays(said: Said) -> None:
    """An open file, and single lines refused in a row: they may be cut once more."""
    for customer in "abcd":
        await said.say(f"first {customer}", U, 1, customer)
        await said.say(f"late {customer}", U, 0, customer)
    await said.send(U, rows_max=1)
    for _ in range(2):
        batch = await said.bench.uploading(said.lease, U, rows_max=1)
        await said.bench.settle(said.lease, batch, settle(batch, Refused("no"), TERMS), outcome="refused")
    batch = await said.bench.uploading(said.lease, U, rows_max=1)
    for customer in "abcd":
        await said.say(f"second {customer}", U, 2, customer)
    assert await said.left() == set(said.ids) - {"late a"}, "the others may be cut once more, and the later words wait"
    cursor = await said.bench.cursor(U)
    assert 0 < cursor["pruned_to"] <= cursor["refused_from"]
    await said.bench.settle(said.lease, batch, settle(batch, Refused("no"), TERMS), outcome="refused")
    assert (await said.bench.cursor(U))["position"] == cursor["refused_from"]
    await said.send(U)
    assert await said.left() == {f"second {customer}" for customer in "abcd"}


async def test_an_uncut_behind_retention_goes_through(said: Said) -> None:
    """`pruned_to` never stands in the way of a cursor that is set back."""
    await said.sent(("first", U, 1), ("second", U, 2), ("third", U, 3))
    assert await said.left() == {"third"}
    await said.say("fourth", U, 4)
    batch = await said.bench.filed(said.lease, U)
    assert await said.left() == {"third", "fourth"}
    assert await said.bench.store.uncut(said.lease, ACCOUNT, batch.id, "headers")
    assert await said.left() == {"third", "fourth"}
    await said.send(U)
    assert await said.left() == {"fourth"}


async def test_an_opt_out_keeps_the_copies_that_are_told(said: Said) -> None:
    """A stop of a customer whose record changes daily: the last 20 uploads are told, and that there were more."""
    await said.sent(("stop", S, 1))
    for n in range(25):
        await said.sent((f"record {n}", U, 2 + n))
        await said.send(S)
    key = (ACCOUNT, said.ids["stop"])
    copies = "select count(*) from event where again_of is not null"
    assert await said.bench.connection.fetchval(copies) == 25
    before = await said.bench.store.tell_proofs([key])
    await said.left()
    assert await said.bench.connection.fetchval(copies) == 21
    assert await said.bench.store.tell_proofs([key]) == before
    assert before[key][0].truncated


async def test_an_original_stays_as_long_as_its_copy_waits(said: Said) -> None:
    """The copy tells what becomes of it, and is found by it."""
    await said.sent(("stop", S, 1), ("record", U, 2))
    await said.say("allow", A, 3)
    await said.send(A)
    assert await said.left() == {"stop", "record", "allow"}
    assert (await said.bench.cut(said.lease, S)).superseded == 1
    assert await said.left() == {"record", "allow"}


async def test_what_replaced_an_opt_out_that_stays_stays_with_it(said: Said) -> None:
    """A stop that came late, for which an older word stands: its proof is that word's."""
    await said.sent(("allow", A, 5))
    late = replace(said.bench.event(S, "a", 1), received_at=datetime.now(UTC) - timedelta(minutes=50))
    [said.ids["late"]] = await said.bench.append(late)
    assert (await said.bench.cut(said.lease, S)).superseded == 1
    await said.sent(("last", A, 9))
    await said.bench.execute("update batch set ended_at = ended_at - interval '2 hours'")
    assert await said.left(keep_s=3600) == {"allow", "late", "last"}
    [_, by] = (await said.bench.store.tell_proofs([(ACCOUNT, said.ids["late"])]))[ACCOUNT, said.ids["late"]]
    assert by.word.event_id == said.ids["allow"]
    assert await said.left() == {"last"}


async def test_the_line_of_an_opt_out_is_told_when_others_of_its_file_are_gone(said: Said) -> None:
    """It is what the vendor has, and could not be counted any more; in every file that held it."""
    for customer in "abcd":
        await said.say(f"stop {customer}", S, 1, customer)
    lost = await said.bench.uploading(said.lease, S)
    await said.bench.settle(said.lease, lost, settle(lost, Refused("no"), TERMS), outcome="refused")
    while await said.send_if_any(S):
        pass
    keys = [(ACCOUNT, said.ids[f"stop {customer}"]) for customer in "bd"]
    before = await said.bench.store.tell_proofs(keys)
    assert [[carrier.line for carrier in before[key][0].carriers] for key in keys] == [[3, 3], [5, 2]]
    for number, customer in enumerate("ca"):
        await said.say(f"allow {customer}", A, 2 + number, customer)
        await said.send(A)
        await said.left()
        assert await said.bench.store.tell_proofs(keys) == before
    assert await said.left() == {"stop b", "stop d", "allow c", "allow a"}
    lines = "select line from proven_line order by event_id, batch_id"
    assert await said.bench.column(lines) == [3, 3, 5]
    for customer in "bd":
        await said.say(f"allow {customer}", A, 9, customer)
    await said.send(A)
    await said.left()
    assert await said.bench.column(lines) == []


async def test_an_allow_stays_with_the_opt_out_that_it_ended(said: Said) -> None:
    """A refused stop that nobody has looked at is told as ended, however many words came since."""
    await said.say("stop", S, 1)
    refused = await said.send(S, 2)
    await said.sent(("allow", A, 2), ("second", S, 3))
    assert await said.left() == {"stop", "allow", "second"}
    [own] = (await said.bench.store.tell_proofs([(ACCOUNT, said.ids["stop"])]))[ACCOUNT, said.ids["stop"]]
    assert own.lifted_by is not None
    assert own.lifted_by.event_id == said.ids["allow"]
    assert await said.bench.store.dismiss_batch(ACCOUNT, refused.id) == 1
    assert await said.left() == {"second"}


def settled_as(batch: Manifest, state: str) -> Settlement:
    """Settle a batch in a state."""
    return replace(settle(batch, Accepted(), TERMS), state=BatchState(state))


@pytest.mark.parametrize("seed", range(3))
async def test_what_following_asks_for_stays(said: Said, seed: int) -> None:
    """Where customers are followed, their words are read by kind: all that is read was there before, and is after.

    But the record of a customer who has asked to be deleted since, unless somebody had left the place before it: then
    it decides on who has come back there.
    """
    rng = random.Random(seed)
    events = []
    for number in range(40):
        for operation in rng.choices((U, D, S, A), (4, 3, 2, 2), k=8):
            event = said.bench.event(operation, f"{number}", round(8 * rng.random(), 3))
            leaves = operation in (D, S) and rng.random() < 0.5
            added = rng.choice(LEAVING_SUFFIXES) if leaves else ""
            events.append(replace(event, message_id=f"{event.message_id}{added}"))
    for part in range(4):
        await said.bench.append(*events[part::4])
        for operation in (D, S, A, U, S):
            await said.send_if_any(operation)
    await said.bench.execute(
        "insert into known_address (account, source, customer_id, address, customer, occurred_at, received_at)"
        " values ($1, 'crm', '\\x00', 'somebody@example.jp', '\\x00', now(), now())",
        ACCOUNT,
    )
    customers = [KEYS.customer(f"{number}@example.jp") for number in range(40)]
    # the first ten places were left before all that was said there, the next ten after, or not for sure
    for number, left_at in [(number, "-infinity" if number % 2 else "2000-01-01") for number in range(10)] + [
        (number, "infinity") for number in range(10, 20)
    ]:
        await said.bench.execute(
            "insert into former_address (account, customer, source, customer_id, left_at)"
            " values ($1, $2, 'crm', '\\x00', $3::text::timestamptz)",
            ACCOUNT,
            customers[number],
            left_at,
        )
    asked = ([ACCOUNT] * 40, customers, [f"%{suffix}" for suffix in LEAVING_SUFFIXES])

    async def read() -> dict[tuple[bytes, str], tuple[object, ...]]:
        words: dict[tuple[bytes, str], tuple[object, ...]] = {}
        for row in await said.bench.connection.fetch(sql("read_words"), *asked):
            leaves = str(row["message_id"]).endswith(LEAVING_SUFFIXES)
            kind = "left" if leaves else "stop" if row["operation"] == "ban" else str(row["operation"])
            words[row["customer"], kind] = (
                row["occurred_at"],
                row["operation"] in ("delete", "stop"),
                row["message_id"],
            )
        return words

    before = await read()
    assert await prune(said.bench.store) > 0
    after = await read()
    assert await findings(said.bench.store) == []
    deleted = {
        (customer, "upsert")
        for customer in customers[10:]
        if before.get((customer, "delete"), ()) > before.get((customer, "upsert"), ())
    }
    assert {key: word for key, word in before.items() if key not in deleted} == {
        key: word for key, word in after.items() if key not in deleted
    }
    assert any(key in before and key not in after for key in deleted), "records of the deleted go"


# -- what happened when it arrived -----------------------------------------------------------------------------------


@dataclass(slots=True)
class Arriving:
    """An account of which all is said without a time of its own, and sent at once."""

    said: Said
    webhooks: dict[str, Event] = field(default_factory=dict)

    async def say(self, *words: tuple[str, Operation], ahead_s: float = 0) -> None:
        """Say words; by a clock that is ahead Postgres takes its own time for when they happened."""
        for name, operation in words:
            now = datetime.now(UTC) + timedelta(seconds=ahead_s)
            event = replace(self.said.bench.event(operation, "a"), occurred_at=now, received_at=now)
            [self.said.ids[name]] = await self.said.bench.append(event)
            self.webhooks[name] = event
            await self.said.send_if_any(operation)

    async def repeat(self, name: str) -> tuple[str, bool]:
        """Receive a webhook again; what it is taken for, and whether it goes up."""
        now = datetime.now(UTC)
        event = self.webhooks[name]
        [again] = await self.said.bench.store.append([replace(event, occurred_at=now, received_at=now)])
        return again.status, await self.said.send_if_any(event.operation)


@pytest.mark.parametrize("ahead_s", [0, 0.05])
@pytest.mark.parametrize(
    ("words", "repeated"),
    [
        ([("record", U), ("deleted", D)], "record"),
        ([("record", U), ("deleted", D), ("stopped", S)], "record"),
        ([("first", U), ("deleted", D), ("second", U), ("again", D)], "first"),
        ([("allow", A), ("stopped", S)], "allow"),
        ([("allow", A), ("record", U), ("banned", B)], "allow"),
        ([("allow", A), ("allowed", A), ("deleted", D)], "allow"),
    ],
    ids=lambda what: "-".join(name for name, _ in what) if isinstance(what, list) else "",
)
@BOTH
async def test_nobody_comes_back_by_a_repeat_of_what_has_no_time_of_its_own(
    said: Said, words: Sequence[tuple[str, Operation]], repeated: str, ahead_s: float
) -> None:
    """It would be the later word: while the last is an opt-out, it is known by its id however old it is."""
    arriving = Arriving(said)
    await arriving.say(*words, ahead_s=ahead_s)
    last = max(event.received_at for event in arriving.webhooks.values())
    await until(lambda: datetime.now(UTC) > last)
    await said.left()
    assert await arriving.repeat(repeated) == ("duplicate", False)


async def test_what_has_no_time_of_its_own_goes_while_the_customer_is_welcome(said: Said) -> None:
    """A repeat of an old record changes data only, and one of an old deletion deletes: the safe side."""
    arriving = Arriving(said)
    await arriving.say(("first", U), ("second", U), ("deleted", D), ("back", U), ("again", D), ("here", U))
    await arriving.say(("allowed", A), ("allowed again", A))
    assert await said.left() == {"again", "here", "allowed again"}
    for name in ("first", "deleted", "allowed"):
        assert await arriving.repeat(name) == ("new", True)


async def test_records_of_the_stopped_go_as_a_stop_outlives_them(said: Said) -> None:
    """Whoever repeats them; not where customers are followed, as a record from where one had left ends that leave."""
    arriving = Arriving(said)
    await arriving.say(("first", U), ("second", U), ("stopped", S))
    await said.bench.execute(
        "insert into known_address (account, source, customer_id, address, customer, occurred_at, received_at)"
        " values ($1, 'crm', '\\x00', 'somebody@example.jp', '\\x00', now(), now())",
        ACCOUNT,
    )
    assert await said.left() == {"first", "second", "stopped"}
    await said.bench.execute("delete from known_address")
    assert await said.left() == {"second", "stopped"}
    assert await arriving.repeat("first") == ("new", True)
    assert await said.send_if_any(S), "and the stop behind it"


# -- batches ---------------------------------------------------------------------------------------------------------


@BOTH
async def test_batches_go_with_their_last_event(said: Said) -> None:
    """With uploads, refused lines and what was taken over from the vendor; one that proves a word stays."""
    await said.sent(("stop", S, 1))
    await said.say("refused", U, 1, "x")
    await said.say("first", U, 1)
    first = await said.send(U, 2)
    record = TakenRecord("create", "20260101T000000", 1, ACCOUNT, first.id, 1)
    await said.bench.store.take_record(said.lease.login, record)
    await said.bench.store.dismiss_batch(ACCOUNT, first.id)
    await said.sent(("second", U, 2))
    await said.say("later", U, 2, "x")
    await said.send(U)
    assert await said.left() == {"stop", "second", "later"}
    batches = "select operation || ' ' || rows from batch order by id"
    assert await said.bench.column(batches) == ["stop 1", "upsert 1", "upsert 1"]
    for table in ("rejection", "error_record"):
        assert await said.bench.column(f"select count(*) from {table}") == [0]  # noqa: S608
    assert await said.bench.column("select count(*) from upload") == [3]
    assert await said.bench.column("select count(*) from superseded") == [0]
    assert await said.bench.store.tell_batch(first.id) is None


@BOTH
async def test_a_batch_stays_while_relay_is_to_delete_the_vendors_record_of_it(said: Said) -> None:
    """Where the account says so: forgotten, it would stay at the vendor, with the addresses of its refused lines."""
    await said.say("refused", U, 1)
    refused = await said.send(U, 1)
    record = TakenRecord("create", "20260101T000000", 1, ACCOUNT, refused.id, 1)
    await said.bench.store.take_record(said.lease.login, record)
    await said.bench.store.dismiss_batch(ACCOUNT, refused.id)
    await said.sent(("second", U, 2))
    await prune(said.bench.store, deletes_records=True)
    assert await said.bench.column("select id from event") == [said.ids["second"]]
    assert await said.bench.store.list_undeleted(said.lease.login, [ACCOUNT]) == [record]
    for deletes_records in ([ACCOUNT], []):
        kept = refused.id in await said.bench.column("select id from batch")
        assert kept, "kept so far"
        await pruner(said, keep_s=-BATCHES_LONGER_S, deletes_records=deletes_records).prune()
        assert (refused.id in await said.bench.column("select id from batch")) == bool(deletes_records)


async def test_a_batch_goes_once_the_vendors_record_of_it_is_deleted(said: Said) -> None:
    """Then there is nothing left to do."""
    await said.say("refused", U, 1)
    refused = await said.send(U, 1)
    record = TakenRecord("create", "20260101T000000", 1, ACCOUNT, refused.id, 1)
    await said.bench.store.take_record(said.lease.login, record)
    await said.bench.store.dismiss_batch(ACCOUNT, refused.id)
    await said.sent(("second", U, 2))
    await said.bench.store.record_deleted(said.lease.login, record.kind, record.date)
    await prune(said.bench.store, deletes_records=True)
    assert refused.id not in await said.bench.column("select id from batch")


async def test_batches_stay_a_day_longer(said: Said) -> None:
    """What looks for the vendor's records of their uploads does so for as long as events may be kept at the least."""
    await said.sent(("first", U, 1), ("second", U, 2))
    await said.bench.execute("update batch set ended_at = ended_at - interval '10 hours'")
    gone = await said.bench.store.prune(ACCOUNT, U, 0, keep_s=3600, events_max=10)
    assert gone is not None
    assert gone.deleted == 1
    found = [
        await said.bench.store.prune_batches(ACCOUNT, 0, keep_s=hours * 3600, batches_max=10, deletes_records=False)
        for hours in (1, -13, -15)
    ]
    assert [part and (part.looked_at, part.deleted) for part in found] == [(2, 0), (2, 0), (2, 1)]


async def test_the_file_of_a_replaced_batch_proves_until_its_words_go(said: Said) -> None:
    """An opt-out file that went up without an answer and was cut anew may have arrived: it stays with what it held."""
    await said.say("stop", S, 1)
    await said.say("other", S, 1, "b")
    lost = await said.bench.uploading(said.lease, S)
    await said.bench.settle(said.lease, lost, settle(lost, Refused("no"), TERMS), outcome="refused")
    await said.send(S, rows_max=1)
    await said.send(S, rows_max=1)
    key = (ACCOUNT, said.ids["stop"])
    before = await said.bench.store.tell_proofs([key])
    assert len(before[key][0].carriers) == 2
    await said.sent(("allowed", A, 2))
    await said.say("other allowed", A, 2, "b")
    assert await said.left() == {"other", "allowed", "other allowed"}
    assert lost.id in await said.bench.column("select id from batch")
    await said.send(A)
    assert await said.left() == {"allowed", "other allowed"}
    assert lost.id not in await said.bench.column("select id from batch")


async def test_a_file_of_which_lines_are_gone_is_known(said: Said) -> None:
    """So that nobody is given half of it."""
    for customer in "ab":
        await said.say(f"first {customer}", U, 1, customer)
    first = await said.send(U)
    await said.sent(("second a", U, 2))
    assert not await said.bench.store.is_pruned(ACCOUNT, first.id)
    assert await said.left() == {"first b", "second a"}
    assert await said.bench.store.is_pruned(ACCOUNT, first.id)
    second = max(await said.bench.column("select id from batch"))
    assert not await said.bench.store.is_pruned(ACCOUNT, second)


# -- beside others ---------------------------------------------------------------------------------------------------


async def test_one_replica_prunes_at_a_time(said: Said) -> None:
    """Another one passes its turn; nothing is deleted twice, or waits."""
    await said.sent(*((f"{n}", U, n) for n in range(6)))
    async with raw_connection(said.bench.url) as connection, connection.transaction():
        assert await connection.fetchval(sql("lock_pruning"))
        assert await said.bench.store.prune(ACCOUNT, U, 0, keep_s=0, events_max=10) is None
        assert await said.bench.store.prune_batches(ACCOUNT, 0, keep_s=0, batches_max=10, deletes_records=False) is None
        assert not (await pruner(said).prune()).whole
    passes = await asyncio.gather(*(pruner(said).prune() for _ in range(3)))
    assert sum(one.events[ACCOUNT] for one in passes) <= 5
    assert await said.left() == {"5"}


def pruner(
    said: Said,
    metrics: Metrics | None = None,
    keep_s: float = 0,
    *,
    deletes_records: Collection[str] = (),
    clock: Callable[[], float] = time.monotonic,
) -> Pruner:
    """A pruner that does not rest."""
    return Pruner(
        said.bench.store,
        metrics or Metrics(),
        keep_s,
        deletes_records=deletes_records,
        part_events=2,
        share_max=1,
        pass_every_s=0,
        clock=clock,
    )


@pytest.mark.parametrize("met_at", ["the first part", "the batches"])
async def test_a_pass_ends_where_another_replica_is_met(said: Said, met_at: str) -> None:
    """At the first part whose lock is not to be had: two side by side would look at everything twice, all the time."""
    await said.sent(("first", U, 1), ("stop", S, 1))
    metrics, now, asked = Metrics(), 0.0, list[str]()
    store = said.bench.store
    prune_part, prune_batches = store.prune, store.prune_batches

    async def part(account: str, operation: Operation, behind: int, **how: Any) -> Pruned | None:  # noqa: ANN401 - handed on
        asked.append(operation)
        return None if met_at == "the first part" else await prune_part(account, operation, behind, **how)

    async def batches(account: str, behind: int, **how: Any) -> PrunedBatches | None:  # noqa: ANN401 - passed on
        asked.append("batches")
        return None if met_at == "the batches" else await prune_batches(account, behind, **how)

    async def operations() -> list[tuple[str, Operation]]:
        return [(ACCOUNT, U), (ACCOUNT, S), ("another", U)]

    def age() -> float | None:
        return metrics.registry.get_sample_value("relay_retention_pass_age_seconds")

    one = pruner(said, metrics, clock=lambda: now)
    now = 5
    assert (await one.prune()).whole
    now = 7
    assert age() == 2, "since the last whole pass began"
    store.list_operations = operations  # type: ignore[method-assign] # of two accounts
    store.prune, store.prune_batches = part, batches  # type: ignore[method-assign] # as if another one held the lock
    assert not (await one.prune()).whole
    assert len(asked) == (1 if met_at == "the first part" else 4), asked
    assert age() == 2


async def test_a_pass_that_was_cut_off_leaves_nothing_wrong(said: Said) -> None:
    """Each part is a transaction of its own; the next pass does the rest."""
    await said.sent(*((f"{n}", U, n) for n in range(8)))
    prune_part, parts = said.bench.store.prune, 0

    async def dies(account: str, operation: Operation, behind: int, *, keep_s: float, events_max: int) -> Pruned | None:
        nonlocal parts
        parts += 1
        if parts > 6:
            raise Unavailable("killed")
        return await prune_part(account, operation, behind, keep_s=keep_s, events_max=events_max)

    said.bench.store.prune = dies  # type: ignore[method-assign] # dies after the real thing
    with pytest.raises(Unavailable):
        await pruner(said).prune()
    said.bench.store.prune = prune_part  # type: ignore[method-assign] # as it was
    assert await findings(said.bench.store) == []
    assert 1 < await said.bench.connection.fetchval("select count(*) from event") < 8
    assert await said.left() == {"7"}


async def test_a_pass_counts_what_it_deletes(said: Said) -> None:
    """And how long everything is kept is told."""
    await said.sent(*((f"{n}", U, n) for n in range(5)))
    metrics = Metrics()
    passed = await pruner(said, metrics).prune()
    assert (passed.events, passed.whole) == (Counter({ACCOUNT: 4}), True)
    assert metrics.registry.get_sample_value("relay_retention_deleted_events_total") == 4
    pruner(said, metrics, keep_s=7 * DAY_S)
    assert metrics.registry.get_sample_value("relay_retention_seconds") == 7 * DAY_S


async def test_the_pruner_goes_on(said: Said, caplog: pytest.LogCaptureFixture) -> None:
    """It passes again and again, and without Postgres tries again later."""
    await said.sent(("first", U, 1), ("second", U, 2))
    metrics = Metrics()
    task = asyncio.create_task(pruner(said, metrics).run())

    def deleted() -> float:
        return metrics.registry.get_sample_value("relay_retention_deleted_events_total") or 0

    await until(lambda: deleted() == 1)
    await said.sent(("third", U, 3))
    await until(lambda: deleted() == 2)
    await said.bench.execute("alter table cursor rename to gone")
    await until(lambda: any("not_pruned" in str(record.msg) for record in caplog.records))
    assert not task.done()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    await said.bench.execute("alter table gone rename to cursor")


async def test_what_is_asked_for_in_the_moment_of_its_end_is_left_out(said: Said) -> None:
    """Found, deleted, then asked what became of it: no broken conservation, but nothing to tell."""
    await said.sent(("first", U, 1), ("second", U, 2))
    found = await said.bench.store.find_customer(KEYS.customer("a@example.jp"), 10)
    assert await said.left() == {"second"}
    assert [event.event_id for event in await said.bench.store.tell_events(found)] == [said.ids["second"]]
    await said.bench.execute("update batch set state = 'replaced'")
    with pytest.raises(ConservationBroken):
        await said.bench.store.tell_events(found)


async def test_appends_go_on_beside_it(said: Said) -> None:
    """Retention takes no lock that an append, a fence or a cut waits for."""
    await said.sent(*((f"{n}", U, n) for n in range(6)))
    async with raw_connection(said.bench.url) as connection, connection.transaction():
        row = await connection.fetchrow(sql("prune"), ACCOUNT, U, 0, 10, 0, 21, [], 200)
        assert row is not None
        assert row["deleted"] == 5
        await said.say("late", U, 0)
        assert await said.bench.store.fence() is not None
        await said.say("other", S, 1, "b")
        await said.send(S)
    assert (await said.bench.cut(said.lease, U)).superseded == 1
    assert await said.left() == {"5", "other"}


async def test_a_webhook_that_comes_again_is_known_until_its_event_is_gone(said: Said) -> None:
    """A duplicate as long as its event is in the log, and new afterwards, which changes nothing."""
    event = said.bench.event(U, "a", 1)
    [said.ids["first"]] = await said.bench.append(event)
    await said.send(U)
    await said.sent(("second", U, 2))
    async with raw_connection(said.bench.url) as connection, connection.transaction():
        await connection.fetchrow(sql("prune"), ACCOUNT, U, 0, 10, 0, 21, [], 200)
        [known] = await said.bench.store.append([event])
        assert (known.status, known.event_id) == ("duplicate", said.ids["first"])
    [new] = await said.bench.store.append([event])
    assert new.status == "new"
    assert (await said.bench.cut(said.lease, U)).superseded == 1
    with pytest.raises(Unavailable):  # left out as known, and then deleted before its event was read
        _known(event, {})
