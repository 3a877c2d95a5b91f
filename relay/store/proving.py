"""Putting together what proves an opt-out from the rows in which Postgres tells it. Pure."""

from collections.abc import Iterable
from dataclasses import fields
from itertools import groupby
from operator import itemgetter

import asyncpg

from relay.batches import BatchState
from relay.events import EventState, Operation
from relay.store.told import ToldCarrier, ToldProof, ToldWord

_CARRIER = [field.name for field in fields(ToldCarrier) if field.name != "came_to"]


def proofs(rows: Iterable[asyncpg.Record]) -> dict[tuple[str, int], list[ToldProof]]:
    """Group rows, one for each upload of each word and sorted so, by account and opt-out that was asked for."""
    told: dict[tuple[str, int], list[ToldProof]] = {}
    for (account, root, _), group in groupby(rows, key=itemgetter("account", "root", "depth")):
        told.setdefault((account, root), []).append(_proof(list(group)))
    return told


def _proof(rows: list[asyncpg.Record]) -> ToldProof:
    first = rows[0]
    return ToldProof(
        word=_word(first, first["word_id"], ""),
        state=EventState(first["state"]) if first["state"] else None,
        carriers=tuple(_carrier(row) for row in rows if row["batch_id"] is not None and not row["left_out"]),
        truncated=any(row["truncated"] for row in rows),
        lifted_by=_word(first, first["lifted_id"], "lifted_") if first["lifted_id"] is not None else None,
    )


def _word(row: asyncpg.Record, event_id: int, prefix: str) -> ToldWord:
    return ToldWord(
        event_id=event_id,
        operation=Operation(row[f"{prefix}operation"]),
        source=row[f"{prefix}source"],
        message_id=row[f"{prefix}message_id"],
        occurred_at=row[f"{prefix}occurred_at"],
        received_at=row[f"{prefix}received_at"],
    )


def _carrier(row: asyncpg.Record) -> ToldCarrier:
    came_to = BatchState(row["came_to"]) if row["came_to"] else None
    return ToldCarrier(**{name: row[name] for name in _CARRIER}, came_to=came_to)
