"""What a process makes sure of before it works: the deployment's secret, layouts, cursors and lanes."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from relay.errors import FieldError, SettingsError
from relay.events import Operation
from relay.store.database import Database, one

POSTGRES_MIN = 150_000
"""Postgres 15: older ones are out of support, and the queries are tested from here on."""

LayoutColumns = Sequence[Mapping[str, Any]]
"""A layout's columns in order: each has `header` and what makes its rendering (path, type, …)."""


class Deployment(Database):
    """Makes sure of what the rest relies on."""

    async def check_database(self) -> None:
        """Raise SettingsError unless relay's promises can be kept on this database: version, durability, sequence."""
        async with self.connection() as connection:
            row = await one(connection, "check_database")
        problems = []
        if row["version"] < POSTGRES_MIN:
            problems.append(f"Postgres {row['version'] // 10000} is too old, 15 or newer is needed")
        if row["synchronous_commit"] == "off":
            problems.append("synchronous_commit is off: a crash would lose webhooks that relay has acknowledged")
        if row["cache"] != 1:
            problems.append("the sequence event_id_seq has a CACHE above 1: ids would not be drawn in order")
        if problems:
            raise SettingsError([FieldError("RELAY_DATABASE_URL", problem) for problem in problems])

    async def claim_deployment(self, key_fingerprint: str) -> None:
        """Remember the secret's fingerprint, or raise SettingsError if the database knows another one."""
        _same(await self.fetchval("claim_deployment", key_fingerprint), key_fingerprint)

    async def check_secret(self, key_fingerprint: str) -> None:
        """Raise SettingsError if the database knows another secret's fingerprint; remember nothing."""
        _same(await self.fetchval("read_deployment") or key_fingerprint, key_fingerprint)

    async def ensure_lanes(self, logins: Iterable[str]) -> None:
        """Make the logins' lanes."""
        for login in logins:
            await self.execute("ensure_lane", login)

    async def ensure_cursors(self, account: str, operations: Iterable[Operation]) -> None:
        """Make the cursors of an account's operations."""
        await self.execute("ensure_cursors", account, list(operations))

    async def ensure_layout(self, account: str, operation: Operation, columns: LayoutColumns) -> int:
        """Find or make the layout of an account's operation; headers make no difference."""
        bare = [{key: value for key, value in column.items() if key != "header"} for column in columns]
        fingerprint = hashlib.sha256(json.dumps(bare, sort_keys=True).encode("utf-8")).hexdigest()
        text = json.dumps(list(columns), ensure_ascii=False)
        return int(await self.fetchval("ensure_layout", account, operation, text, fingerprint))

    async def find_layout(self, account: str, layout: int) -> LayoutColumns:
        """Read a layout's columns."""
        text = await self.fetchval("find_layout", account, layout)
        if text is None:
            raise LookupError(f"no layout {layout} of {account}")
        columns: LayoutColumns = json.loads(text)
        return columns

    async def open_batches(self) -> set[int]:
        """Name the batches that are open: their files are still needed."""
        return {row["id"] for row in await self.fetch("open_batches")}

    async def unserved(self, served: Iterable[tuple[str, Operation]]) -> list[tuple[str, Operation]]:
        """Name accounts and operations with something waiting that the settings do not serve: nobody sends it."""
        pairs = list(served)
        rows = await self.fetch("unserved", [account for account, _ in pairs], [o for _, o in pairs])
        return [(row["account"], Operation(row["operation"])) for row in rows]


def _same(known: str, given: str) -> None:
    if known != given:
        message = "another secret than the one this database was begun with: customers would not be recognised"
        raise SettingsError([FieldError("RELAY_SECRET_KEY", message)])
