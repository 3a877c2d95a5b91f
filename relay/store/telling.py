"""Telling: what operators ask of the log. No query here walks over it: each begins at a key or at a cursor."""

from collections.abc import Iterable
from dataclasses import fields
from operator import attrgetter

import asyncpg

from relay.batches import BatchState
from relay.errors import ConservationBroken
from relay.events import EventState, Operation, message_ids
from relay.store.database import Database
from relay.store.lanes import REFUSED_S
from relay.store.proving import proofs
from relay.store.told import (
    DeadLetters,
    FoundEvent,
    ToldBatch,
    ToldCursor,
    ToldEvent,
    ToldLane,
    ToldProof,
    ToldRejection,
    ToldUpload,
    Unsettled,
)

_FOUND = attrgetter(*(field.name for field in fields(FoundEvent)))

_ID_MAX = 2**63 - 1

COPIES_MAX = 20
"""So many of the last events that relay appended again of an opt-out are looked at for its proof. A stop of a customer
whose record changes daily has hundreds."""

CARRIERS_MAX = 20
"""So many of the last uploads that held an opt-out are told. A vendor that is away for days makes one every 2 h."""

REPLACED_MAX = 5
"""So many words in a row are told of which each replaced the one before it."""


class Telling(Database):
    """Reads for the status API and the metrics."""

    async def find_webhook(self, source: str, message_id: str) -> list[FoundEvent]:
        """Find a webhook's events, by account; behind each the last one that relay appended again, if any.

        Those are among them that were added because its customer has another address than before.
        """
        return _found(await self.fetch("find_webhook", source, message_ids(message_id)))

    async def find_customer(self, customer: bytes, limit: int) -> list[FoundEvent]:
        """Find a customer's events in every account that ever was, up to `limit` in each, the latest occurred first."""
        return _found(await self.fetch("find_customer", customer, limit))

    async def find_words(self, customer: bytes) -> list[FoundEvent]:
        """Find what says how a customer stands: by account the last upsert or delete, permission word, and delete."""
        return _found(await self.fetch("find_words", customer))

    async def tell_events(self, events: Iterable[FoundEvent]) -> list[ToldEvent]:
        """Tell what became of events, each once, in no order; without those that retention deletes meanwhile."""
        found = {(event.account, event.event_id): event for event in events}
        asked = [found[key] for key in sorted(found)]  # neighbours share pages, which may have to come from the disk
        columns = attrgetter("account"), attrgetter("event_id"), attrgetter("operation"), attrgetter("again_of")
        rows = await self.fetch("tell_events", *([column(event) for event in asked] for column in columns))
        lost = {(row["account"], row["event_id"]) for row in rows if row["state"] is None}
        gone = await self._gone(lost) if lost else set()
        if lost - gone:
            ids = sorted(event_id for _, event_id in lost - gone)
            raise ConservationBroken(f"events {ids[:10]} are neither waiting nor superseded nor in a batch")
        keys = ((row["account"], row["event_id"]) for row in rows)
        return [_told(found[key], row) for key, row in zip(keys, rows, strict=True) if key not in gone]

    async def _gone(self, events: Iterable[tuple[str, int]]) -> set[tuple[str, int]]:
        """Name those events that retention has deleted since they were found."""
        accounts, ids = zip(*events, strict=True)
        return {(row["account"], row["id"]) for row in await self.fetch("find_gone", accounts, ids)}

    async def tell_proofs(self, opt_outs: Iterable[tuple[str, int]]) -> dict[tuple[str, int], list[ToldProof]]:
        """Tell what proves opt-outs, by account and id of the event that their webhooks made.

        Of each: the opt-out itself, then the word that replaced it before it was sent, if any, then what replaced that.
        """
        asked = sorted(set(opt_outs))
        if not asked:
            return {}
        accounts, ids = [account for account, _ in asked], [event_id for _, event_id in asked]
        rows = await self.fetch("tell_proofs", accounts, ids, COPIES_MAX, CARRIERS_MAX, REPLACED_MAX)
        return proofs(rows)

    async def tell_batches(
        self,
        account: str | None = None,
        state: BatchState | None = None,
        operation: Operation | None = None,
        *,
        below: int = _ID_MAX,
        limit: int,
    ) -> list[ToldBatch]:
        """Tell up to `limit` batches with an id below `below`, the newest first."""
        rows = await self.fetch("tell_batches", account, state, operation, below, limit)
        return [
            ToldBatch(
                **{
                    **row,
                    "operation": Operation(row["operation"]),
                    "header": tuple(row["header"]),
                    "state": BatchState(row["state"]),
                }
            )
            for row in rows
        ]

    async def tell_batch(self, batch_id: int) -> ToldBatch | None:
        """Tell one batch; None if there is none."""
        found = await self.tell_batches(below=batch_id + 1, limit=1)
        return found[0] if found and found[0].id == batch_id else None

    async def tell_uploads(self, account: str, batch_id: int) -> list[ToldUpload]:
        """Tell a batch's uploads in their order."""
        return [ToldUpload(**row) for row in await self.fetch("tell_uploads", account, batch_id)]

    async def tell_rejections(self, account: str, batch_id: int, *, behind: int, limit: int) -> list[ToldRejection]:
        """Tell up to `limit` of a batch's refused lines behind line `behind`, in their order."""
        rows = await self.fetch("tell_rejections", account, batch_id, behind, limit)
        return [ToldRejection(**row) for row in rows]

    async def tell_cursors(self, accounts: Iterable[str]) -> list[ToldCursor]:
        """Tell what each cursor of some accounts has to do."""
        rows = await self.fetch("tell_cursors", list(accounts))
        return [
            ToldCursor(
                **{
                    **row,
                    "operation": Operation(row["operation"]),
                    "batch_state": BatchState(row["batch_state"]) if row["batch_state"] else None,
                }
            )
            for row in rows
        ]

    async def tell_lanes(self, logins: Iterable[str]) -> dict[str, ToldLane]:
        """Tell the lanes of some logins, by login; one that was never made is missing."""
        rows = await self.fetch("tell_lanes", list(logins), REFUSED_S)
        lists = ("refused_fingerprints", "refused_data_fingerprints")
        told = ({**row, **{name: tuple(row[name]) for name in lists}} for row in rows)
        return {row["login"]: ToldLane(**row) for row in told}

    async def tell_unsettled(self) -> list[Unsettled]:
        """Tell for every cursor how many events wait and how old the oldest is that is not settled.

        It counts the events beyond the cursors, so that its time grows with what waits, not with the log.
        """
        rows = await self.fetch("tell_unsettled")
        return [Unsettled(**{**row, "operation": Operation(row["operation"])}) for row in rows]

    async def tell_dead_letters(self, accounts: Iterable[str]) -> dict[str, DeadLetters]:
        """Count the dead letters of some accounts: what a failed or unconfirmed batch holds, and refused lines."""
        rows = await self.fetch("tell_dead_letters", list(accounts))
        return {row["account"]: DeadLetters(row["opt_outs"], row["data"]) for row in rows}


def _found(rows: Iterable[asyncpg.Record]) -> list[FoundEvent]:
    return [FoundEvent(**{**row, "operation": Operation(row["operation"])}) for row in rows]


def _told(event: FoundEvent, row: asyncpg.Record) -> ToldEvent:
    became = {name: value for name, value in row.items() if name not in ("account", "event_id")}
    return ToldEvent(*_FOUND(event), **{**became, "state": EventState(row["state"])})
