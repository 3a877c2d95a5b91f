"""One acceptance test's world: a database, settings, relay in processes of its own; what it is sent, and what it holds.

What relay is sent is signed here as Standard Webhooks says, and what it holds is read from its tables, so that these
tests stand on what is promised and not on relay's own code.
"""

import asyncio
import base64
import hmac
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg

import relay
from relay.demo.sim_server import Sim
from relay.demo.traffic import Sent
from tests.acceptance.processes import ENDS_WITHIN_S, Done, Listening, Relay, free_port, relay_command, until
from tests.acceptance.settings_file import PASSWORD, toml

ROOT = Path(relay.__file__).resolve().parent.parent
KEY = b"what the crm of these tests signs with"
SECRET_KEY = "the deployment's own secret of these tests"
TOKEN = "relay_acceptance"
LOG_SHOWN_BYTES = 20_000


@dataclass
class World:
    """One test's database, settings and processes of relay. `measured` takes a figure for the end of the test run."""

    directory: Path
    database_url: str
    session: aiohttp.ClientSession
    database: asyncpg.Pool
    measured: Callable[[str], None]
    relays: list[Relay] = field(default_factory=list)

    @property
    def config(self) -> Path:
        """Where the settings are."""
        return self.directory / "relay.toml"

    def write_settings(
        self,
        logins: Mapping[str, object],
        accounts: Mapping[str, object],
        sources: Mapping[str, list[str]] | None = None,
    ) -> None:
        """Write the settings; `sources` are their accounts by name, without them `crm` sends to all."""
        crm = {"crm": list(accounts)} if sources is None else sources
        settings = {
            "sources": {
                name: {"signing_secrets": [{"env": "SIGNING_SECRET"}], "accounts": named} for name, named in crm.items()
            },
            "logins": logins,
            "accounts": accounts,
            "api": {"tokens": {"test": {"sha256": sha256(TOKEN.encode()).hexdigest(), "scopes": ["read", "operate"]}}},
        }
        lines = [f"{key} = {toml(value)}\n" for key, value in settings.items()]
        self.config.write_text("".join(lines), encoding="utf-8")

    def env(self, **variables: str) -> dict[str, str]:
        """Make a process's environment: nothing of the test's own but where Python finds things."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory),
            "PYTHONPATH": str(ROOT),
            "RELAY_DATABASE_URL": self.database_url,
            "RELAY_CONFIG": str(self.config),
            "RELAY_SECRET_KEY": SECRET_KEY,
            "RELAY_SPOOL_DIR": str(self.directory / "spool"),
            "RELAY_HOST": "127.0.0.1",
            "RELAY_OPS_HOST": "127.0.0.1",
            "RELAY_ROUND_S": "0.2",
            "RELAY_LEASE_S": "5",
            "VENDOR_PASSWORD": PASSWORD,
            "SIGNING_SECRET": "whsec_" + base64.b64encode(KEY).decode(),
            **variables,
        }

    def relay(self, name: str = "relay", **variables: str) -> Relay:
        """Prepare a `relay serve` with ports and a spool of its own; start it with `start`."""
        own = {
            "RELAY_PORT": str(free_port()),
            "RELAY_OPS_PORT": str(free_port()),
            "RELAY_SPOOL_DIR": str(self.directory / f"{name}-spool"),
        }
        made = Relay(name, self.directory / f"{name}.log", self.env(**own, **variables))
        self.relays.append(made)
        return made

    async def command(self, *arguments: str | Path, env: Mapping[str, str] | None = None) -> Done:
        """Run `python -m relay` with these arguments until it ends."""
        process = await asyncio.create_subprocess_exec(
            *relay_command(*arguments),
            env=self.env() if env is None else env,
            cwd=self.directory,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(ENDS_WITHIN_S):
                out, err = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise AssertionError(f"relay {arguments[0]} did not end") from None
        assert process.returncode is not None
        return Done(process.returncode, out.decode(), err.decode())

    # -- what relay is sent ------------------------------------------------------------------------------------------

    async def post(
        self, relay: Listening, path: str, message_id: str, body: bytes
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Post signed bytes once; returns status, headers and body."""
        async with self.session.post(relay.url + path, data=body, headers=signed(message_id, body)) as response:
            return response.status, response.headers, await response.read()

    async def post_many(self, relay: Listening, source: str, webhooks: Iterable[Sent]) -> dict[str, Any]:
        """Post webhooks in one request; returns the answer's members. Fails unless all are taken."""
        lines = [json.dumps({"id": w.message_id, **w.body()}, ensure_ascii=False) for w in webhooks]
        body = f"[{','.join(lines)}]".encode()
        path = f"/v1/webhooks/{source}/batch"
        status, _, answer = await self.post(relay, path, f"many-{sha256(body).hexdigest()}", body)
        assert status == 202, answer.decode()
        members: dict[str, Any] = json.loads(answer)
        assert members["refused"] == 0, members
        return members

    async def api(self, relay: Listening, method: str, path: str) -> Any:  # noqa: ANN401 - JSON
        """Call the status API as an operator; returns its JSON. Fails on an error."""
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with self.session.request(method, relay.url + path, headers=headers) as response:
            text = await response.text()
            assert response.ok, f"{method} {path}: {response.status} {text}"
            return json.loads(text) if text else None

    # -- what relay holds --------------------------------------------------------------------------------------------

    async def rows(self, query: str, *args: object) -> list[asyncpg.Record]:
        """Look into relay's tables."""
        found: list[asyncpg.Record] = await self.database.fetch(query, *args)
        return found

    async def value(self, query: str, *args: object) -> Any:  # noqa: ANN401 - the query says the type
        """Look up one value in relay's tables."""
        return await self.database.fetchval(query, *args)

    async def in_log(self, source: str) -> set[str]:
        """Return the ids of a source's webhooks that are in the log."""
        return {row["message_id"] for row in await self.rows("select message_id from event where source = $1", source)}

    async def settled(self, *sims: Sim, timeout_s: float = 120.0) -> None:
        """Wait until nothing is pending or open, and the vendors have imported all; nothing may be lost or doubled.

        A deletion whose answer was lost waits a minute for the vendor's record of it to be believed.
        """
        told = ""

        async def nothing_is_left() -> bool:
            nonlocal told
            left = await self.rows(LEFT)
            told = "; ".join(str(dict(row)) for row in left)
            return not left

        try:
            await until("all is settled", nothing_is_left, timeout_s)
        except AssertionError as error:
            raise AssertionError(f"{error}: {told}") from None
        for sim in sims:
            await sim.settled()
        assert [dict(row) for row in await self.rows(NOT_CONSERVED)] == []

    # -- the end -----------------------------------------------------------------------------------------------------

    async def end(self) -> None:
        """Kill what is still running."""
        for one in self.relays:
            if one.running:
                await one.kill()

    def check_logs(self) -> None:
        """Fail if relay logged an error (a bug of its own) or an address."""
        for one in self.relays:
            for line in one.said():
                assert line["level"] not in {"error", "critical"}, f"{one.name} logged an error: {line}"
            assert "@" not in one.log.read_text(encoding="utf-8"), f"{one.name} logged an address"

    def shown(self) -> list[tuple[str, str]]:
        """Return the ends of all logs, to be shown when a test fails."""
        logs = [(one.name, one.log.read_text(encoding="utf-8")) for one in self.relays if one.log.exists()]
        return [(f"log of {name}", text[-LOG_SHOWN_BYTES:]) for name, text in logs]


LEFT = """
select account, operation,
       (select count(*) from event e where (e.account, e.operation) = (c.account, c.operation) and e.id > c.position)
           as pending,
       (select string_agg(b.id || ' ' || b.state || ' ' || b.reason, ', ') from batch b
        where (b.account, b.operation) = (c.account, c.operation) and b.state in ('ready', 'waiting', 'uploading'))
           as open
from cursor c
where exists (select from event e where (e.account, e.operation) = (c.account, c.operation) and e.id > c.position)
   or exists (select from batch b where (b.account, b.operation) = (c.account, c.operation)
                and b.state in ('ready', 'waiting', 'uploading'))
"""

NOT_CONSERVED = """
select * from (
    select c.account, c.operation,
           (select count(*) from event e
            where (e.account, e.operation) = (c.account, c.operation) and e.id <= c.position) as events,
           (select coalesce(sum(rows), 0) from batch b
            where (b.account, b.operation) = (c.account, c.operation) and b.state <> 'replaced') as rows,
           (select count(*) from event e join superseded s on (s.account, s.event_id) = (e.account, e.id)
            where (e.account, e.operation) = (c.account, c.operation) and e.id <= c.position) as superseded
    from cursor c
) counted
where events <> rows + superseded
"""


def signed(message_id: str, body: bytes, key: bytes = KEY) -> dict[str, str]:
    """Make the headers of a webhook as Standard Webhooks says."""
    timestamp = str(int(time.time()))
    mac = hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, "sha256")
    return {
        "Content-Type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1,{base64.b64encode(mac).decode()}",
    }
