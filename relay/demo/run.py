"""`relay demo`: embedded Postgres, three simulated vendors, relay, a stream of webhooks, and the proof at the end."""

import asyncio
import json
import os
import secrets
import signal
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import aiohttp
from rich.console import Console
from rich.live import Live
from rich.table import Table

from relay import app
from relay.demo.customers import PLANS
from relay.demo.databases import databases
from relay.demo.sim_bme import BmeContract, BmeSim
from relay.demo.sim_haihai import HaihaiContract, HaihaiSim
from relay.demo.sim_readers import NOT_THERE
from relay.demo.traffic import Expected, Sent, as_mailed, stream
from relay.migrate import migrate
from relay.receive.auth import sign, signing_key
from relay.settings import load, process

SIGNING_SECRET = "whsec_ZGVtbyBzZWNyZXQgb2YgdGhlIGNybSBzb3VyY2U="  # noqa: S105 - the demo's own, on loopback
SENDERS = 16
SETTLED_WITHIN_S = 300.0
"""A demo that has not come to an end by then has failed."""

COLUMNS = {"氏名": "name", "フリガナ": "kana", "生年月日": "birthday", "都道府県": "prefecture", "会員種別": "plan"}
"""The vendors' headers, and the field of a customer that each holds."""

SETTINGS = """\
# What `relay demo` runs with. The addresses are the simulated vendors'.
[sources.crm]
signing_secrets = [{{ env = "DEMO_SIGNING_SECRET" }}]
accounts = ["haihai", "blastmail", "blaynmail"]

[api.tokens.demo]
sha256 = "{token_hash}"
scopes = ["read", "operate", "pii"]
{logins}{accounts}"""

HAIHAI = """
[logins.haihai]
vendor = "haihai"
base_url = "{url}"
aid = 1
login_id = "demo"
transport_password = {{ env = "DEMO_PASSWORD" }}
settle_wait_s = 2
calls_per_day_limit = 100000
unknown_address_messages = ["{unknown}"]
"""

BME = """
[logins.{name}]
vendor = "{name}"
base_url = "{url}"
username = "demo"
password = {{ env = "DEMO_PASSWORD" }}
api_key = {{ env = "DEMO_PASSWORD" }}
unknown_address_messages = ["{unknown}"]
"""

ACCOUNT = """
[accounts.{name}]
login = "{name}"
flush_after_s = 3
flush_opt_outs_after_s = 1
operations = {{ "customer.banned" = "stop" }}
[accounts.{name}.columns]
"{address}" = "email"
"氏名" = "name"
"フリガナ" = "kana"
"生年月日" = {{ path = "birthday", type = "date" }}
"都道府県" = "prefecture"
"会員種別" = {{ path = "plan", type = "choice", values = {{ {plans} }} }}
"""


@dataclass(frozen=True, slots=True)
class Stage:
    """What is running: relay's URLs, the simulators by account, the token, and where the settings are."""

    relay: app.Addresses
    sims: Mapping[str, tuple[HaihaiSim | BmeSim, str, str]]
    token: str
    settings: Path

    def readers(self, account: str) -> dict[str, tuple[bool, dict[str, str]]]:
        """The reader list of an account's vendor as it now stands, by case-folded address."""
        sim, contract, _ = self.sims[account]
        return {a.casefold(): (seen.mailable, seen.fields) for a, seen in sim.readers(contract).items()}


@asynccontextmanager
async def staged(directory: Path) -> AsyncIterator[Stage]:
    """Start everything in a directory of its own, on loopback and free ports."""
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(_database())
        await migrate(database)
        columns = tuple(COLUMNS)
        haihai = HaihaiSim(
            HaihaiContract(
                1,
                "demo",
                "demo-password",
                columns=("メールアドレス", *columns),
                calls_per_day=None,
                import_delay_s=(0.2, 1),
            )
        )
        sims: dict[str, tuple[HaihaiSim | BmeSim, str, str]] = {}
        sims["haihai"] = (haihai, "1", await stack.enter_async_context(haihai.serve()))
        for brand in ("blastmail", "blaynmail"):
            contract = BmeContract("demo", "demo-password", "demo-password", columns=columns)
            sim = BmeSim(contract, brand=brand)
            await stack.enter_async_context(sim.serve())
            sims[brand] = (sim, "demo", sim.base_url)
        token = f"relay_{secrets.token_urlsafe(24)}"
        settings = _write_settings(directory, sims, token)
        env = {
            **{name: value for name, value in os.environ.items() if name in {"PATH", "HOME"}},
            "RELAY_DATABASE_URL": database,
            "RELAY_SECRET_KEY": "the demo's own secret",
            "RELAY_SPOOL_DIR": str(directory / "spool"),
            "RELAY_HOST": "127.0.0.1",
            "RELAY_PORT": "0",
            "RELAY_OPS_HOST": "127.0.0.1",
            "RELAY_OPS_PORT": "0",
            "RELAY_ROUND_S": "0.5",
            "DEMO_SIGNING_SECRET": SIGNING_SECRET,
            "DEMO_PASSWORD": "demo-password",
        }
        relay = await stack.enter_async_context(app.running(process(env), load(settings, env)))
        yield Stage(relay, sims, token, settings)


@asynccontextmanager
async def _database() -> AsyncIterator[str]:
    """Make a database that goes with the demo; return its URL."""
    name = f"relay_demo_{secrets.token_hex(4)}"
    async with databases(os.environ, durable=True) as server:
        await server.create_database(name)
        try:
            yield server.url(name)
        finally:
            await server.drop_database(name)


def _write_settings(directory: Path, sims: Mapping[str, tuple[HaihaiSim | BmeSim, str, str]], token: str) -> Path:
    plans = ", ".join(f'{key} = "{value}"' for key, value in PLANS.items())
    logins = "".join(
        (HAIHAI if name == "haihai" else BME).format(name=name, url=url, unknown=NOT_THERE)
        for name, (_, _, url) in sims.items()
    )
    accounts = "".join(
        ACCOUNT.format(name=name, address="メールアドレス" if name == "haihai" else "E-Mail", plans=plans)
        for name in sims
    )
    path = directory / "relay.toml"
    text = SETTINGS.format(token_hash=sha256(token.encode()).hexdigest(), logins=logins, accounts=accounts)
    path.write_text(text, encoding="utf-8")
    return path


async def demo(*, customers: int, seed: int, once: bool) -> int:
    """Run the demo, and without `once` stay up until Ctrl-C; 1 if a reader list is not what the webhooks said."""
    console = Console()
    with tempfile.TemporaryDirectory(prefix="relay-demo-") as directory:
        async with staged(Path(directory)) as stage, aiohttp.ClientSession() as session:
            console.print(f"relay     {stage.relay.url}")
            console.print(f"metrics   {stage.relay.ops_url}/metrics")
            console.print(f"settings  {stage.settings}", soft_wrap=True)
            expected = await _send_all(console, session, stage, customers, seed)
            settled = await _settle(console, session, stage)
            await _print_batches(console, session, stage)
            wrong = _prove(console, stage, expected) + (not settled)
            if not once:
                await _stay(console, stage, expected.some_id())
    return 1 if wrong else 0


async def _send_all(
    console: Console, session: aiohttp.ClientSession, stage: Stage, customers: int, seed: int
) -> Expected:
    """Post the whole stream, some webhooks side by side, and show how far it is."""
    expected = Expected()
    webhooks = stream(customers, seed, datetime.now(UTC) - timedelta(hours=1))
    sent = 0
    key = signing_key(SIGNING_SECRET)

    async def post() -> None:
        nonlocal sent
        for webhook in webhooks:
            expected.hear(webhook)
            await _post(session, f"{stage.relay.url}/v1/webhooks/crm", key, webhook)
            sent += 1

    with Live(console=console, refresh_per_second=4, transient=True) as live:
        senders = asyncio.gather(*(post() for _ in range(SENDERS)))
        while not senders.done():
            await asyncio.wait([senders], timeout=0.25)
            live.update(_progress(stage, sent))
        await senders
    console.print(f"sent {sent} webhooks for {customers} customers")
    return expected


async def _post(session: aiohttp.ClientSession, url: str, key: bytes, webhook: Sent) -> None:
    """Post one signed webhook; where relay asks for patience, be patient."""
    body = json.dumps(webhook.body(), ensure_ascii=False).encode("utf-8")
    while True:
        timestamp = str(int(datetime.now(UTC).timestamp()))
        headers = {
            "Content-Type": "application/json",
            "webhook-id": webhook.message_id,
            "webhook-timestamp": timestamp,
            "webhook-signature": sign(key, webhook.message_id, timestamp, body),
        }
        async with session.post(url, data=body, headers=headers) as response:
            if response.status == 202:  # noqa: PLR2004 - Accepted
                return
            if response.status != 503:  # noqa: PLR2004 - Service Unavailable
                raise RuntimeError(f"relay refused a webhook of the demo: {response.status} {await response.text()}")
            await asyncio.sleep(float(response.headers.get("Retry-After", "1")))


def _progress(stage: Stage, sent: int) -> Table:
    table = Table(title=f"{sent} webhooks sent")
    table.add_column("account")
    table.add_column("readers at the vendor", justify="right")
    table.add_column("uploads", justify="right")
    for account, (sim, contract, _) in stage.sims.items():
        table.add_row(account, str(len(stage.readers(account))), str(sim.record.of(contract).uploads))
    return table


async def _get(session: aiohttp.ClientSession, stage: Stage, path: str) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {stage.token}"}
    async with session.get(f"{stage.relay.url}{path}", headers=headers) as response:
        response.raise_for_status()
        answer: dict[str, Any] = await response.json()
        return answer


async def _settle(console: Console, session: aiohttp.ClientSession, stage: Stage) -> bool:
    """Ask for a flush and wait until nothing is pending, open or being imported; False if it takes too long."""
    headers = {"Authorization": f"Bearer {stage.token}"}
    for login in stage.sims:
        async with session.post(f"{stage.relay.url}/v1/logins/{login}/flush", headers=headers) as response:
            response.raise_for_status()
    try:
        async with asyncio.timeout(SETTLED_WITHIN_S):
            with Live(console=console, refresh_per_second=4, transient=True) as live:
                while not await _is_settled(session, stage):
                    live.update(_progress(stage, 0))
                    await asyncio.sleep(0.25)
    except TimeoutError:
        console.print(f"[red]not everything was delivered within {SETTLED_WITHIN_S:.0f} s")
        return False
    return True


async def _is_settled(session: aiohttp.ClientSession, stage: Stage) -> bool:
    accounts = (await _get(session, stage, "/v1/accounts"))["accounts"]
    unsettled = any(
        account["oldest_unsettled"][age] is not None for account in accounts for age in ("opt_out_s", "data_s")
    )
    return not unsettled and not any(sim.pending_imports() for sim, _, _ in stage.sims.values())


async def _print_batches(console: Console, session: aiohttp.ClientSession, stage: Stage) -> None:
    """Show the batches, newest first."""
    table = Table(title="batches")
    columns = ("id", "account", "operation", "rows", "bytes", "rejected", "state", "reason")
    for column in columns:
        table.add_column(column, justify="right" if column in {"id", "rows", "bytes", "rejected"} else "left")
    for batch in (await _get(session, stage, "/v1/batches?limit=40"))["batches"]:
        if batch["state"] in {"delivered", "accepted"}:
            batch["reason"] = ""
        table.add_row(*(str(batch[column]) for column in columns))
    console.print(table)


def _prove(console: Console, stage: Stage, expected: Expected) -> int:
    """Compare each vendor's reader list with what the webhooks said; return how many readers differ."""
    wanted = {
        address: (mailable, {header: _cell(header, data[name]) for header, name in COLUMNS.items()})
        for address, (mailable, data) in expected.readers().items()
    }
    wrong = 0
    for account in stage.sims:
        found = {
            address: (mailable, {header: fields[header] for header in COLUMNS})
            for address, (mailable, fields) in stage.readers(account).items()
        }
        differing = [a for a in wanted.keys() | found.keys() if wanted.get(a) != found.get(a)]
        wrong += len(differing)
        verdict = "[red]differs" if differing else "[green]equals what the webhooks said"
        stopped = sum(not mailable for mailable, _ in found.values())
        console.print(f"{account}: {len(found)} readers, {stopped} of them stopped; {verdict}")
        for address in differing[:5]:
            console.print(f"  wanted {wanted.get(address)}, found {found.get(address)}")
    return wrong


def _cell(header: str, value: str) -> str:
    match header:
        case "生年月日":
            return value.replace("-", "")
        case "会員種別":
            return PLANS[value]
        case _:
            return as_mailed(value)


async def _stay(console: Console, stage: Stage, shown: str) -> None:
    """Stay up until Ctrl-C, and say what to try."""
    console.print(
        f"""
Try this, then look at the batches again:
  curl -s -H 'Authorization: Bearer {stage.token}' '{stage.relay.url}/v1/batches?limit=5'
  curl -s -H 'Authorization: Bearer {stage.token}' {stage.relay.url}/v1/webhooks/crm/{shown}
  curl -s {stage.relay.ops_url}/metrics | grep ^relay_
Simulated vendors (make them fail: POST /_sim/faults, look: GET /_sim/readers):"""
    )
    for account, (_, contract, url) in stage.sims.items():
        console.print(f"  {account}: {url}  contract {contract}")
    console.print("Ctrl-C ends the demo; its database goes with it.")
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
