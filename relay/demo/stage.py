"""The stage of the demo: Postgres, the simulated vendors and relay itself, on loopback and free ports."""

import os
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from relay import app
from relay.demo.customers import PLANS
from relay.demo.databases import databases
from relay.demo.names import PASSWORD, SIGNING_SECRET
from relay.demo.parts import simulated
from relay.demo.sim_bme import BmeSim
from relay.demo.sim_readers import NOT_THERE
from relay.demo.sim_server import Sim
from relay.migrate import migrate
from relay.settings import load, process

SETTINGS = """\
# What `relay demo` runs with. The addresses are the simulated vendors'.
[sources.crm]
signing_secrets = [{{ env = "DEMO_SIGNING_SECRET" }}]
accounts = [{names}]

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

VENDORS = {"haihai": (HAIHAI, "メールアドレス"), "blastmail": (BME, "E-Mail"), "blaynmail": (BME, "E-Mail")}
"""What the settings say of each vendor's login, and the header of its addresses."""

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
    sims: Mapping[str, tuple[Sim, str, str]]
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
        sims: dict[str, tuple[Sim, str, str]] = {}
        for name, (sim, contract) in simulated(PASSWORD).items():
            url = await stack.enter_async_context(sim.serve())
            sims[name] = (sim, contract, sim.base_url if isinstance(sim, BmeSim) else url)
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
            "DEMO_PASSWORD": PASSWORD,
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


def _write_settings(directory: Path, sims: Mapping[str, tuple[Sim, str, str]], token: str) -> Path:
    plans = ", ".join(f'{key} = "{value}"' for key, value in PLANS.items())
    logins = "".join(
        VENDORS[name][0].format(name=name, url=url, unknown=NOT_THERE) for name, (_, _, url) in sims.items()
    )
    accounts = "".join(ACCOUNT.format(name=name, address=VENDORS[name][1], plans=plans) for name in sims)
    path = directory / "relay.toml"
    names = ", ".join(f'"{name}"' for name in sims)
    token_hash = sha256(token.encode()).hexdigest()
    text = SETTINGS.format(names=names, token_hash=token_hash, logins=logins, accounts=accounts)
    path.write_text(text, encoding="utf-8")
    return path
