"""Where the demo and the tests get their databases: on the server of RELAY_DATABASE_URL, else on an embedded one."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Protocol
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg

from relay.demo.postgres import Cluster


class Databases(Protocol):
    """A server on which databases can be made."""

    def url(self, database: str) -> str:
        """Return the URL of a database."""

    async def create_database(self, name: str, template: str = "template1") -> None:
        """Make a database as a copy of another one, to which nobody may be connected."""

    async def drop_database(self, name: str) -> None:
        """Remove a database, whoever is still connected to it."""


class Given:
    """A server that somebody else runs. Its role must be allowed to create databases; the named one stays untouched."""

    def __init__(self, url: str) -> None:
        self._url = url

    def url(self, database: str) -> str:
        """Return the URL of a database on this server."""
        return urlunsplit(urlsplit(self._url)._replace(path=f"/{quote(database, safe='')}"))

    async def create_database(self, name: str, template: str = "template1") -> None:
        """Make a database as a copy of another one, to which nobody may be connected."""
        await self._execute(f'create database "{name}" template "{template}"')

    async def drop_database(self, name: str) -> None:
        """Remove a database, whoever is still connected to it."""
        await self._execute(f'drop database "{name}" with (force)')

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self._url, statement_cache_size=0)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


@contextlib.asynccontextmanager
async def databases(env: Mapping[str, str], *, durable: bool) -> AsyncIterator[Databases]:
    """Give the server of RELAY_DATABASE_URL, or run an embedded one for the length of the block."""
    if given := env.get("RELAY_DATABASE_URL"):
        yield Given(given)
        return
    async with Cluster.start(durable=durable) as cluster:
        yield cluster
