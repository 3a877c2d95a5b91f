"""Simulated vendors and settings with which everything happens at once that relay has a metric for."""

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from relay.demo.sim_bme import BASE_PATH, BmeContract, BmeSim
from relay.demo.sim_haihai import HaihaiContract, HaihaiSim
from tests.acceptance.harness import World
from tests.acceptance.processes import free_port
from tests.acceptance.settings_file import HEADERS, PASSWORD, account, bme, haihai, toml

OUT_OF_REACH = 6
"""Accounts whose vendor is out of reach: one more than the breaker opens at."""

CUSTOMERS_FIELD = "number"
"""Where the data of the source `ids` has the customer's id."""


@dataclass(frozen=True, slots=True)
class Vendors:
    """The three vendors, each with contracts for what goes well and for what does not."""

    blast: BmeSim
    blayn: BmeSim
    hai: HaihaiSim

    @classmethod
    def make(cls) -> "Vendors":
        """Make them. The contract `narrow` lacks a column that relay's settings name."""
        columns = tuple(HEADERS)
        names = ("blast", "resting", "locked", "secure", "lost")
        narrow = BmeContract("narrow", PASSWORD, PASSWORD, columns=columns[:-1])
        return cls(
            BmeSim(*(BmeContract(name, PASSWORD, PASSWORD, columns=columns) for name in names), narrow),
            BmeSim(BmeContract("blayn", PASSWORD, PASSWORD, columns=columns), brand="blaynmail"),
            HaihaiSim(
                *(HaihaiContract(aid, "user", PASSWORD, columns=("メールアドレス", *columns)) for aid in (1, 2)),
            ),
        )

    async def serve(self, stack: AsyncExitStack) -> None:
        """Serve them until the stack ends."""
        for sim in (self.blast, self.blayn, self.hai):
            await stack.enter_async_context(sim.serve())


def write_settings(world: World, vendors: Vendors, secure_url: str) -> Path:
    """Write relay's settings, and beside them those of an older replica, which still knows the account `former`.

    Returns the file of the latter.
    """
    secret = world.directory / "haihai-password"
    secret.write_text(f"{PASSWORD}\n", encoding="utf-8")
    away = f"http://127.0.0.1:{free_port()}{BASE_PATH}"
    logins: dict[str, object] = {
        "blast": bme(vendors.blast.base_url, "blast"),
        "blayn": {**bme(vendors.blayn.base_url, "blayn"), "vendor": "blaynmail"},
        "hai": haihai(vendors.hai.url, 1, calls_per_day_limit=240) | {"transport_password": {"file": str(secret)}},
        "spent": haihai(vendors.hai.url, 2, calls_per_day_limit=1),
        "resting": bme(vendors.blast.base_url, "resting"),
        "locked": bme(vendors.blast.base_url, "locked") | {"password": {"env": "WRONG_PASSWORD"}},
        "narrow": bme(vendors.blast.base_url, "narrow"),
        "secure": bme(secure_url, "secure"),
        "lost": bme(vendors.blast.base_url, "lost"),
        "away": bme(away, "away", attempts_max=1),
    }
    accounts: dict[str, object] = {
        "news": account("blast"),
        "club": account("blast"),
        "members": account("blayn"),
        "shop": account("hai", "メールアドレス"),
        "spent": account("spent", "メールアドレス"),
        **{name: account(name) for name in ("resting", "locked", "narrow", "secure", "lost")},
        **{f"away{number}": account("away") for number in range(OUT_OF_REACH)},
    }
    before = world.directory / "before.toml"
    before.write_text(_settings(logins, accounts | {"former": account("blast")}), encoding="utf-8")
    world.write_settings({}, {})
    tokens = world.config.read_text(encoding="utf-8").partition("api = ")[2]
    for path, text in ((world.config, _settings(logins, accounts)), (before, before.read_text(encoding="utf-8"))):
        path.write_text(f"{text}api = {tokens}", encoding="utf-8")
    return before


def _settings(logins: dict[str, object], accounts: dict[str, object]) -> str:
    def source(*names: str, **more: object) -> dict[str, object]:
        return {"signing_secrets": [{"env": "SIGNING_SECRET"}], "accounts": list(names), **more}

    apart = {"news", "members", "shop", "club", "former", "lost"}
    sources = {
        "crm": source("news", "members", "shop"),
        "ids": source("club", customer_id=CUSTOMERS_FIELD),
        "rest": source(*(name for name in accounts if name not in apart)),
        "lost": source("lost"),
        "impatient": source("news", webhooks_per_s=0.001, webhooks_burst=1),
        "former": source("former" if "former" in accounts else "news"),
    }
    parts = {"sources": sources, "logins": logins, "accounts": accounts}
    return "".join(f"{name} = {toml(value)}\n" for name, value in parts.items())


def make_certificate(directory: Path) -> Path:
    """Make a certificate for 127.0.0.1 that signs itself and ends in 30 days; returns the file, key included."""
    made = directory / "vendor.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "30"]
    subprocess.run([*command, *names, "-keyout", made, "-out", directory / "cert.pem"], check=True, capture_output=True)  # noqa: S603 - nothing in it is given
    with made.open("a", encoding="utf-8") as both:
        both.write((directory / "cert.pem").read_text(encoding="utf-8"))
    return made


@asynccontextmanager
async def tls_before(url: str, certificate: Path) -> AsyncIterator[str]:
    """Serve TLS on a port of its own and hand everything through to a server without it; yields the URL."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    host, _, port = url.removeprefix("http://").partition(":")

    writers: set[asyncio.StreamWriter] = set()

    async def hand_through(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        there_reader, there_writer = await asyncio.open_connection(host, int(port))
        async with asyncio.TaskGroup() as group:
            group.create_task(_pump(reader, there_writer))
            group.create_task(_pump(there_reader, writer))
        writers.discard(writer)

    server = await asyncio.start_server(hand_through, "127.0.0.1", 0, ssl=context)
    try:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in writers:  # which relay keeps open for its next upload
            writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until one side ends."""
    try:
        while chunk := await reader.read(65_536):
            writer.write(chunk)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()
