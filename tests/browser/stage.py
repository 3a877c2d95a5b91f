"""A relay with simulated vendors that the page is looked at with: two contracts at the vendors, four accounts.

`blast` (newsletter, members) and `hai` (shop, campaign) work; what goes wrong there, tests make go wrong: at the
simulated vendors, by webhooks, or by letting time pass.
"""

import hashlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg

from relay import app
from relay.demo.sim_bme import BmeContract, BmeSim
from relay.demo.sim_haihai import HaihaiContract, HaihaiSim
from relay.settings import Settings, process
from tests.acceptance.processes import free_port, until

SOURCE_TOKEN = "the token of the crm"
TOKENS: Mapping[str, Sequence[str]] = {
    "oncall": ("read", "operate", "pii"),
    "reader": ("read",),
    "operator": ("read", "operate"),
    "button": ("operate",),
    "auditor": ("pii",),
}
"""API tokens by name, each with its scopes; the token itself is `relay_<name>_token`."""

COLUMNS = ("氏名", "会員種別")

LEFT = """
select exists (select from cursor c join event e on e.account = c.account and e.operation = c.operation
               where e.id > c.position)
    or exists (select from batch where state in ('ready', 'uploading', 'waiting'))
"""

PASS = {
    "event": ("received_at",),
    "batch": ("oldest_received_at", "created_at", "ended_at"),
    "upload": ("started_at", "ended_at"),
}
"""What is older when time has passed: tables and their columns."""


def token(name: str) -> str:
    """The token of a name."""
    return f"relay_{name}_token"


@dataclass
class Stage:
    """What runs: relay, the vendors, and the database to look into."""

    directory: Path
    database: str
    blast: BmeSim
    hai: HaihaiSim
    session: aiohttp.ClientSession
    port: int
    settings: Settings
    sent: int = 0
    running: AsyncExitStack = field(default_factory=AsyncExitStack)

    @property
    def url(self) -> str:
        """Where relay listens."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start relay, on its own port also when it comes back."""
        env = {
            "RELAY_DATABASE_URL": self.database,
            "RELAY_SECRET_KEY": "the secret of this deployment",
            "RELAY_SPOOL_DIR": str(self.directory / "spool"),
            "RELAY_HOST": "127.0.0.1",
            "RELAY_PORT": str(self.port),
            "RELAY_OPS_HOST": "127.0.0.1",
            "RELAY_OPS_PORT": "0",
            "RELAY_ROUND_S": "0.1",
        }
        await self.running.enter_async_context(app.running(process(env), self.settings))

    async def stop(self) -> None:
        """Stop relay."""
        await self.running.aclose()

    async def say(self, kind: str, *emails: str, webhook_id: str = "", source: str = "crm", **data: object) -> None:
        """Send webhooks of one type, one for each address."""
        many = []
        for email in emails:
            self.sent += 1
            body = {"email": email, "name": "山田 太郎", "plan": "free", "id": email, **data}
            many.append({"id": webhook_id or f"msg_{self.sent:04}", "type": f"customer.{kind}", "data": body})
        await self.post(many, source)

    async def post(self, many: Sequence[Mapping[str, Any]], source: str = "crm") -> None:
        """Send webhooks; all must be taken."""
        headers = {"Authorization": f"Bearer {SOURCE_TOKEN}", "Content-Type": "application/json"}
        url = f"{self.url}/v1/webhooks/{source}/batch"
        async with self.session.post(url, data=json.dumps(many), headers=headers) as response:
            told = await response.json()
            assert response.status == 202, told
            assert told["refused"] == 0, told

    async def api(self, method: str, path: str, body: object = None, by: str = "oncall") -> Any:  # noqa: ANN401 - JSON
        """Ask the status API."""
        headers = {"Authorization": f"Bearer {token(by)}"}
        async with self.session.request(method, f"{self.url}/v1/{path}", json=body, headers=headers) as response:
            told = await response.json()
            assert response.ok, told
            return told

    async def sql(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        """Ask the database, or change it."""
        connection = await asyncpg.connect(self.database)
        try:
            found: list[asyncpg.Record] = await connection.fetch(statement, *arguments)
            return found
        finally:
            await connection.close()

    async def settled(self) -> None:
        """Wait until nothing waits at all."""

        async def nothing_left() -> bool:
            return not (await self.sql(LEFT))[0][0]

        await until("all is settled", nothing_left)

    async def minutes_pass(self, minutes: int) -> None:
        """Make everything that has happened so much older, which the log itself lets nobody do."""
        connection = await asyncpg.connect(self.database)
        try:
            await connection.execute("set session_replication_role = replica")
            for table, columns in PASS.items():
                older = ", ".join(f"{column} = {column} - $1::interval" for column in columns)
                await connection.execute(f"update {table} set {older}", timedelta(minutes=minutes))  # noqa: S608 - names
        finally:
            await connection.close()


@asynccontextmanager
async def stage(
    database: str, directory: Path, more: Mapping[str, Mapping[str, Any]] | None = None
) -> AsyncIterator[Stage]:
    """Run relay and the vendors; `more` are further parts of the settings (`logins`, `accounts`, `sources`)."""
    blast = BmeSim(BmeContract("user", "password", "key", columns=COLUMNS))
    hai = HaihaiSim(HaihaiContract(1, "user", "password", columns=("メールアドレス", *COLUMNS), calls_per_day=None))
    async with blast.serve(), hai.serve() as hai_url, aiohttp.ClientSession() as session:
        made_of = _settings(blast.base_url, hai_url, more or {})
        made = Stage(directory, database, blast, hai, session, free_port(), made_of)
        await made.start()
        try:
            yield made
        finally:
            await made.stop()


def _settings(blast_url: str, hai_url: str, more: Mapping[str, Mapping[str, Any]]) -> Settings:
    def account(login: str, header: str) -> dict[str, Any]:
        columns = {header: "email", "氏名": "name", "会員種別": "plan"}
        operations = {"customer.banned": "stop"}
        quick = {"flush_after_s": 0.2, "flush_opt_outs_after_s": 0.2}
        return {"login": login, "columns": columns, "operations": operations, **quick}

    accounts = {
        "newsletter": account("blast", "E-Mail"),
        "members": account("blast", "E-Mail"),
        "shop": account("hai", "メールアドレス"),
        "campaign": account("hai", "メールアドレス"),
    }
    logins = {
        "blast": {
            "vendor": "blastmail",
            "base_url": blast_url,
            "username": "user",
            "password": "password",
            "api_key": "key",
            "template_check": "off",
        },
        "hai": {
            "vendor": "haihai",
            "base_url": hai_url,
            "aid": 1,
            "login_id": "user",
            "transport_password": "password",
            "settle_wait_s": 0,
            "calls_per_day_limit": 86_400,
        },
    }
    proof = {"bearer_tokens": [SOURCE_TOKEN]}
    sources = {
        "crm": {**proof, "accounts": ["newsletter", "members"]},
        "store": {**proof, "accounts": ["shop"], "customer_id": "id"},
    }
    tokens = {
        name: {"sha256": hashlib.sha256(token(name).encode()).hexdigest(), "scopes": scopes}
        for name, scopes in TOKENS.items()
    }
    parts: dict[str, dict[str, Any]] = {"sources": sources, "logins": logins, "accounts": accounts}
    return Settings.model_validate(
        {**{name: {**part, **more.get(name, {})} for name, part in parts.items()}, "api": {"tokens": tokens}}
    )
