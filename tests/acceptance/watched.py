"""A world in which everything that relay says is kept and searched: its logs, answers, metrics, records and commands.

The customer and the secrets of this world are canaries. Searched is all that is no place for customers' data: the log
of events with its lines, what a vendor says of a refused line, and the answers to who has the scope `pii` are.
"""

import base64
import itertools
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote, urlsplit

import asyncpg

from tests.acceptance import harness
from tests.acceptance.canary import Canary, find
from tests.acceptance.harness import World
from tests.acceptance.processes import Done, Relay
from tests.acceptance.settings_file import toml
from tests.acceptance.wire import Answer, exchange

# -- the customer ----------------------------------------------------------------------------------------------------

LOCAL, DOMAIN = "okame.inko-7q", "sekisei9x4"
EMAIL = f"{LOCAL}@{DOMAIN}.example.jp"
CUSTOMER_ID = "kunde-5521-hiwa"
CUSTOMER: Mapping[str, object] = {
    "id": CUSTOMER_ID,
    "email": EMAIL,
    "name": "鸚鵡谷 金糸雀子",
    "kana": "オウムダニ ｶﾅﾘｱｺ",
    "latin": "Kanariyako",
    "phone": "090-9173-6482",
    "address": {"prefecture": "東京都", "street": "檜原村駒鳥町九一七三"},
    "birthday": "1990-05-31",
    "plan": "free",
}

# -- the secrets -----------------------------------------------------------------------------------------------------

KEY = "mozu-signs-5w8e1r-kisetsu"
SECRETS: Mapping[str, str] = {
    "CRM_WEBHOOK_SECRET": "whsec_" + base64.b64encode(KEY.encode()).decode(),
    "CRM_RAW_SECRET": "hibari raw 3f/7 signing-key",
    "CRM_TOKEN": "tsugumi_bearer_Zq83mW1xKp",
    "SHOP_SECRET": "uguisu+shop=9d2k body-key",
    "VENDOR_PASSWORD": 'yamagara"<&5%2F;pw 8841',
    "VENDOR_API_KEY": "enaga-api-key-6t0pQv55",
    "TRANSPORT_PASSWORD": "shijukara&file?transfer#21",
    "EXTRA_FIELD": "mejiro-extra-Field-77aXc",
    "RELAY_SECRET_KEY": "ooruri-deployment-secret-c41e",
}
VENDOR_TOKEN = "kawasemi51vendor9token"
"""What every token begins with that a simulated vendor hands out."""

API_TOKENS: Mapping[str, tuple[str, list[str]]] = {
    "watcher": ("relay_kibitaki_read_9Yt2LmQ", ["read", "operate"]),
    "support": ("relay_sanshokui_pii_4Hn8RvB", ["read", "operate", "pii"]),
}
DATABASE_PASSWORD = "kakesu:pa/ss@w#rd 63%41"

CANARIES = (
    Canary("address, before the @", LOCAL),
    Canary("address, behind the @", DOMAIN),
    Canary("customer id", CUSTOMER_ID),
    *(Canary(f"name {part}", part) for part in ("鸚鵡谷", "金糸雀子", "オウムダニ", "ｶﾅﾘｱｺ", "Kanariyako")),
    Canary("phone", "090-9173-6482"),
    Canary("phone, digits", "09091736482"),
    Canary("street", "檜原村駒鳥町"),
    Canary("signing key", KEY),
    *(Canary(name, value.removeprefix("whsec_")) for name, value in SECRETS.items()),
    *(Canary(f"API token {name}", token.removeprefix("relay_")) for name, (token, _) in API_TOKENS.items()),
    Canary("vendor's token", VENDOR_TOKEN),
    Canary("database password", DATABASE_PASSWORD),
)
UNMISTAKABLE = " ".join(canary.value for canary in CANARIES)
"""All of them in one text."""

_ROLES = itertools.count(1)

KEPT = (
    "select to_jsonb(t) from upload t",
    "select to_jsonb(t) from lane t",
    "select to_jsonb(t) from batch t",
    "select to_jsonb(t) from cursor t",
    "select to_jsonb(t) from superseded t",
    "select to_jsonb(t) from layout t",
    "select to_jsonb(t) from deployment t",
    "select to_jsonb(t) - 'message' from rejection t",
    "select to_jsonb(t) - 'line' from event t",
    "select to_jsonb(t) - 'address' from known_address t",
    "select to_jsonb(t) from former_address t",
    "select to_jsonb(t) from unresolved t",
    "select to_jsonb(t) from act t",
    "select to_jsonb(t) from pg_stat_activity t where usename like 'relay_canary_%'",
)
"""What relay writes down, but for lines, known addresses and vendors' messages; and what Postgres shows of queries."""


@dataclass
class Watched(World):
    """A world whose relay is told only canaries. `heard` is all that was answered or printed, each with what it was."""

    heard: list[tuple[str, bytes]] = field(default_factory=list)

    def write(
        self, logins: Mapping[str, object], accounts: Mapping[str, object], sources: Mapping[str, object]
    ) -> None:
        """Write the settings; the tokens of the status API are the same everywhere."""
        tokens = {
            name: {"sha256": sha256(token.encode()).hexdigest(), "scopes": scopes}
            for name, (token, scopes) in API_TOKENS.items()
        }
        parts = {"sources": sources, "logins": logins, "accounts": accounts, "api": {"tokens": tokens}}
        self.config.write_text("".join(f"{key} = {toml(value)}\n" for key, value in parts.items()), encoding="utf-8")

    def env(self, **variables: str) -> dict[str, str]:
        """Make a process's environment, in which everything is logged that can be."""
        return super().env(**SECRETS, RELAY_LOG_LEVEL="debug", PYTHONASYNCIODEBUG="1", **variables)

    # -- asking ------------------------------------------------------------------------------------------------------

    async def say(self, what: str, url: str, request: bytes, *, secret: bool = False) -> Answer:
        """Send bytes to a relay and keep the answer, unless it is one that may hold data (`secret`)."""
        answer = await exchange(url, request)
        if not secret:
            self.heard.append((what, answer.raw))
        return answer

    async def run(self, what: str, *arguments: str | Path, env: Mapping[str, str] | None = None) -> Done:
        """Run a command and keep what it prints."""
        done = await self.command(*arguments, env=env)
        self.heard += [(f"{what}, output", done.out.encode()), (f"{what}, errors", done.err.encode())]
        return done

    # -- searching ---------------------------------------------------------------------------------------------------

    async def look(self, relay: Relay) -> None:
        """Keep what a running relay shows of itself, in its tables, its spool and the list of processes."""
        for query in KEPT:
            rows = await self.rows(query)
            self.heard.append((query, "\n".join(row[0] for row in rows).encode()))
        spool = self.directory / f"{relay.name}-spool"
        for path in spool.iterdir() if spool.is_dir() else ():
            self.heard.append(("the name of a spooled file", path.name.encode()))
            assert path.stat().st_mode & 0o777 == 0o600, "who can read a spooled file?"
        if relay.running:
            self.heard.append(("command line", Path(f"/proc/{relay.process.pid}/cmdline").read_bytes()))

    def leaks(self) -> list[str]:
        """Say which canaries were found, and where. A log that is not JSON is one as well."""
        logs = {one.name: one.log.read_bytes() for one in self.relays if one.log.exists()}
        told = [*self.heard, *((f"log of {name}", log) for name, log in logs.items())]
        plain = [line for log in logs.values() for line in log.split(b"\n") if line and not line.startswith(b"{")]
        leaks = [f"{what}: {found}" for what, text in told for found in find(CANARIES, text)]
        return leaks + [f"no line of JSON in a log: {line!r}" for line in plain]


@asynccontextmanager
async def role_with_password(pool: asyncpg.Pool, url: str) -> AsyncIterator[str]:
    """Make a role for the length of the block, and give the URL by which it reaches the database of another one's."""
    role = f"relay_canary_{os.getpid()}_{next(_ROLES)}"
    quoted = await pool.fetchval("select quote_literal($1)", DATABASE_PASSWORD)
    await pool.execute(f"create role {role} login in role current_user password {quoted}")
    parts = urlsplit(url)
    where = parts.netloc.rpartition("@")[2]
    try:
        yield parts._replace(netloc=f"{role}:{quote(DATABASE_PASSWORD, safe='')}@{where}").geturl()
    finally:
        await pool.execute(f"drop role {role}")


def webhook(kind: str = "customer.created", **more: object) -> bytes:
    """Write a webhook about the customer; `more` are members of `data`."""
    return json.dumps({"type": kind, "data": {**CUSTOMER, **more}}, ensure_ascii=False).encode()


def signed(message_id: str, body: bytes, key: bytes = KEY.encode()) -> dict[str, str]:
    """Make the headers of a webhook of this world's crm."""
    return harness.signed(message_id, body, key)
