"""The whole service in this process, on a database: for tests of what it answers, counts, logs and keeps."""

import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
from aiohttp import ClientResponse, ClientSession, TCPConnector
from prometheus_client.parser import text_string_to_metric_families

from relay import app
from relay.settings import Settings, process

TOKEN = "the token of these tests"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
SCOPES: Mapping[str, list[str]] = {"reader": ["read"], "operator": ["operate"], "auditor": ["pii"]}
"""API tokens by name, each with its scopes; the token itself is `<name>-token`."""

LETTER = {"login": "hai", "columns": {"メール": "email", "名前": "name"}, "flush_after_s": 3600}
HAI = {
    "vendor": "haihai",
    "base_url": "http://127.0.0.1:9",  # nobody listens, and nothing is due while a test runs
    "aid": 1,
    "login_id": "l",
    "transport_password": "p",
}


def settings(sources: Mapping[str, Mapping[str, object]]) -> Settings:
    """Make settings with these sources; each sends to one account, and has the token unless it names its own proof."""
    return Settings.model_validate(
        {
            "sources": {
                name: {"bearer_tokens": [TOKEN], "accounts": ["letter"], **source} for name, source in sources.items()
            },
            "logins": {"hai": HAI},
            "accounts": {
                "letter": {**LETTER, "flush_opt_outs_after_s": 3600, "operations": {"customer.banned": "stop"}}
            },
            "api": {
                "tokens": {
                    name: {"sha256": hashlib.sha256(f"{name}-token".encode()).hexdigest(), "scopes": scopes}
                    for name, scopes in SCOPES.items()
                }
            },
        }
    )


def webhook(message_id: str, kind: str = "customer.created", **data: object) -> dict[str, object]:
    """Make a webhook's body."""
    return {"id": message_id, "type": kind, "data": {"email": "taro@example.jp", "name": "髙橋 太郎", **data}}


@dataclass
class Served:
    """The running service: where it listens, a client, and where its log is."""

    url: str
    ops_url: str
    database: str
    client: ClientSession

    async def post(
        self, body: object, path: str = "crm", headers: Mapping[str, str] = BEARER, client: ClientSession | None = None
    ) -> ClientResponse:
        """Post a body (bytes as they are, anything else as JSON) to /v1/webhooks/<path>, and read the answer."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        url = f"{self.url}/v1/webhooks/{path}"
        response = await (client or self.client).post(
            url, data=raw, headers={"Content-Type": "application/json", **headers}
        )
        await response.read()
        return response

    async def metric(self, name: str, **labels: str) -> float:
        """Read one series from /metrics."""
        async with self.client.get(f"{self.ops_url}/metrics") as response:
            families = text_string_to_metric_families(await response.text())
            [value] = [
                sample.value
                for family in families
                for sample in family.samples
                if sample.name == name and sample.labels == labels
            ]
        return value

    async def rows(self, query: str, *args: object) -> list[asyncpg.Record]:
        """Ask the database, or change it, over a connection of its own."""
        connection = await asyncpg.connect(self.database)
        try:
            found: list[asyncpg.Record] = await connection.fetch(query, *args)
            return found
        finally:
            await connection.close()

    async def in_log(self) -> list[str]:
        """Name the webhooks in the log, each as often as it is there."""
        return sorted(row["message_id"] for row in await self.rows("select message_id from event"))


def as_seen_from(address: str) -> ClientSession:
    """Make a client whose connections come from an address of the loopback network."""
    return ClientSession(connector=TCPConnector(local_addr=(address, 0)))


@asynccontextmanager
async def served(
    database: str, directory: Path, sources: Mapping[str, Mapping[str, object]], **env: str
) -> AsyncIterator[Served]:
    """Run the service on a database; `env` is what else its environment says."""
    own = {
        "RELAY_DATABASE_URL": database,
        "RELAY_SECRET_KEY": "the secret of this deployment",
        "RELAY_SPOOL_DIR": str(directory),
        "RELAY_HOST": "127.0.0.1",
        "RELAY_PORT": "0",
        "RELAY_OPS_HOST": "127.0.0.1",
        "RELAY_OPS_PORT": "0",
    }
    async with app.running(process({**own, **env}), settings(sources)) as addresses, ClientSession() as client:
        yield Served(addresses.url, addresses.ops_url, database, client)


def problem(response: ClientResponse, body: Any) -> list[dict[str, str]]:  # noqa: ANN401 - JSON
    """Check that an answer is a problem; return the errors that it names."""
    assert response.content_type == "application/problem+json"
    assert body["status"] == response.status
    errors: list[dict[str, str]] = body["errors"]
    return errors
