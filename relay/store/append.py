"""Appending to the log: one statement for a group of webhooks, each kept wholly or not at all.

Rows go in sorted by their unique key, so that two appends cannot wait for each other in a circle; where Postgres
finds a deadlock all the same, the group is tried again. A row that Postgres refuses never fails its neighbours: the
group is split until the webhook at fault stands alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import asyncpg

from relay.errors import Unavailable
from relay.events import Event
from relay.store.database import BadArgument, Connection, Database, sql

DEADLOCK_TRIES_MAX = 3

REFUSED = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,  # an id that is too long for the index
    BadArgument,  # a text that has no form in UTF-8
)
"""What Postgres says of a row that it will never take."""

_COLUMNS = (
    "account",
    "source",
    "message_id",
    "digest",
    "operation",
    "customer",
    "layout",
    "line",
    "occurred_at",
    "received_at",
)


@dataclass(frozen=True, slots=True)
class Appended:
    """What became of one event of an append.

    `new`: committed now. `duplicate`: the same webhook was committed before, `event_id` is its event. `conflict`: the
    webhook's id was used for something else. `foreign`: the webhook is known, but was never meant for this account.
    `invalid`: Postgres refuses the row.
    """

    event_id: int
    status: Literal["new", "duplicate", "conflict", "foreign", "invalid"]


@dataclass(frozen=True, slots=True)
class Known:
    """An event of a webhook that was appended before, and the digest that the webhook had."""

    account: str
    event_id: int
    digest: bytes


class Append(Database):
    """Appends events."""

    async def known(self, source: str, message_ids: Sequence[str]) -> dict[str, list[Known]]:
        """Find webhooks of a source that were appended before, with their events by account."""
        known: dict[str, list[Known]] = {}
        for row in await self.fetch("find_known", [source] * len(message_ids), message_ids):
            known.setdefault(row["message_id"], []).append(Known(row["account"], row["id"], row["digest"]))
        return known

    async def append(self, events: Sequence[Event]) -> list[Appended]:
        """Append events and say of each, in the order given, what became of it; they are committed on return.

        A webhook (source and message id) may not occur twice among the events but for its several accounts.
        Raises Unavailable when Postgres is gone: then nothing is known, and trying again does no harm.
        """
        places = sorted(range(len(events)), key=lambda place: events[place].unique_key)
        ordered = [events[place] for place in places]
        async with self.connection() as connection:
            done = await _append_split(connection, ordered)
        appended: list[Appended | None] = [None] * len(events)
        for place, one in zip(places, done, strict=True):
            appended[place] = one
        return [one for one in appended if one is not None]


async def _append_split(connection: Connection, events: list[Event]) -> list[Appended]:
    """Append sorted events; split at a webhook's boundary where Postgres refuses the data."""
    try:
        return await _append_group(connection, events)
    except REFUSED:
        webhooks = [list(group) for _, group in groupby(events, key=lambda event: event.unique_key[:2])]
        if len(webhooks) == 1:
            return [Appended(0, "invalid")] * len(events)
        half = sum(len(webhook) for webhook in webhooks[: len(webhooks) // 2])
        first = await _append_split(connection, events[:half])
        return first + await _append_split(connection, events[half:])


async def _append_group(connection: Connection, events: list[Event]) -> list[Appended]:
    for _ in range(DEADLOCK_TRIES_MAX):
        try:
            rows = await connection.fetch(sql("append"), *arrays(events), False)
            break
        except asyncpg.DeadlockDetectedError:
            continue
    else:
        raise Unavailable("deadlock")
    ids = {(row["source"], row["message_id"], row["account"]): row["id"] for row in rows}
    known = await _find_known(connection, [event for event in events if event.unique_key not in ids])
    return [
        Appended(ids[event.unique_key], "new") if event.unique_key in ids else _known(event, known) for event in events
    ]


async def _find_known(
    connection: Connection, events: list[Event]
) -> dict[tuple[str, str], dict[str, tuple[int, bytes]]]:
    """For each webhook that was left out: its accounts with event id and digest."""
    known: dict[tuple[str, str], dict[str, tuple[int, bytes]]] = {}
    webhooks = sorted({event.unique_key[:2] for event in events})
    if webhooks:
        sources, message_ids = zip(*webhooks, strict=True)
        for row in await connection.fetch(sql("find_known"), sources, message_ids):
            accounts = known.setdefault((row["source"], row["message_id"]), {})
            accounts[row["account"]] = (row["id"], row["digest"])
    return known


def _known(event: Event, known: dict[tuple[str, str], dict[str, tuple[int, bytes]]]) -> Appended:
    accounts = known.get(event.unique_key[:2])
    if accounts is None:  # it was known a moment ago: retention has deleted it since
        raise Unavailable("pruned meanwhile")
    if any(digest != event.digest for _, digest in accounts.values()):
        return Appended(0, "conflict")
    if event.account not in accounts:
        return Appended(0, "foreign")
    return Appended(accounts[event.account][0], "duplicate")


def arrays(events: Sequence[Event]) -> list[list[object]]:
    """Give the columns of events, as the appending query takes them."""
    return [[getattr(event, column) for event in events] for column in _COLUMNS]
