"""The last word: whatever the order of arrival and whenever relay cuts, the vendor never mails whom it must not."""

import itertools
import random
from dataclasses import replace
from pathlib import Path

import pytest

from relay.events import Event, Operation
from relay.flush import LoginPlan
from tests.integration.model import Readers, World, delivering, settings, truth, world

LENGTH_MAX = 4


def sequences() -> list[tuple[tuple[Operation, ...], tuple[int, ...]]]:
    """Every sequence of up to four operations in every order of arrival."""
    return [
        (operations, order)
        for length in range(1, LENGTH_MAX + 1)
        for operations in itertools.product(Operation, repeat=length)
        for order in itertools.permutations(range(length))
    ]


def only(plan: LoginPlan, operations: set[Operation]) -> LoginPlan:
    """The plan, with nothing but these operations due."""
    return replace(
        plan,
        targets=tuple(t if t.operation in operations else replace(t, flush_after_s=1e9) for t in plan.targets),
    )


async def arrive(w: World, arrival: int, words: dict[str, list[Event]]) -> None:
    """Append every sequence's next event, each sequence a customer of its own."""
    events = []
    for number, (operations, order) in enumerate(sequences()):
        if arrival < len(order):
            address = f"c{number}@example.jp"
            place = order[arrival]
            event = w.event("account-0", operations[place], address, occurred=place)
            words.setdefault(address, []).append(event)
            events.append(event)
    assert {done.status for done in await w.store.append(events)} == {"new"}


@pytest.mark.parametrize("vendor", ["upserts undo stops", "upserts keep stops"])
@pytest.mark.parametrize("cuts", ["after each arrival", "at the end", "at random"])
async def test_every_sequence_in_every_order_ends_with_its_last_word(
    database: str, tmp_path: Path, cuts: str, vendor: str
) -> None:
    """No customer is mailable where the true order says otherwise, and who exists is whom the true order left."""
    rng = random.Random(f"{cuts} {vendor}")
    readers = Readers(undoes=vendor == "upserts undo stops")
    words: dict[str, list[Event]] = {}
    async with world(database, tmp_path, settings(1)) as w:
        plan, worker = w.plans["login-0"], w.worker(delivering(readers))
        for arrival in range(LENGTH_MAX):
            await arrive(w, arrival, words)
            if cuts == "after each arrival":
                await w.flush(worker, plan)
            elif cuts == "at random":
                await w.flush(worker, only(plan, {o for o in Operation if rng.random() < 0.5}))
        await w.flush(worker, plan)
        pending = await w.connection.fetchval(
            "select count(*) from event e join cursor c using (account, operation) where e.id > c.position"
        )
    assert pending == 0
    wrong = [
        (address, [(word.operation.value, word.occurred_at.second) for word in said])
        for address, said in words.items()
        if readers.mailable(address) > truth(said)[1] or (address in readers.readers) != truth(said)[0]
    ]
    assert not wrong, wrong[:5]
