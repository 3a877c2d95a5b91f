"""How fast relay receives, as a share of what aiohttp does with a bare POST in the same, interleaved run.

    .venv/bin/python -m tests.bench.receive [--rounds 5] [--requests 4000]

Three servers run in processes of their own: a bare aiohttp handler that reads and parses the JSON, relay with a bearer
token, and relay with Standard Webhooks signatures; relay appends to a durable embedded Postgres. Rounds take turns, so
that a noisy machine disturbs all alike; the medians are compared.
"""

import argparse
import asyncio
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path

from aiohttp import web

from relay import app
from relay.demo.customers import generate
from relay.demo.postgres import Cluster, find_binaries
from relay.migrate import migrate
from relay.receive.auth import sign, signing_key
from relay.settings import load, process

CONNECTIONS = 64
"""Requests under way at the same time: what group commit lives on."""

SECRET = "whsec_YmVuY2htYXJrIHNlY3JldA=="
TOKEN = "bench-token-0123456789"

SETTINGS = f"""
[sources.crm]
signing_secrets = ["{SECRET}"]
bearer_tokens = ["{TOKEN}"]
accounts = ["news"]
[logins.blast]
vendor = "blastmail"
base_url = "http://127.0.0.1:1"
username = "bench"
password = "bench"
api_key = "bench"
[accounts.news]
login = "blast"
flush_after_s = 86400
flush_opt_outs_after_s = 86400
operations = {{ "customer.banned" = "stop" }}
[accounts.news.columns]
"E-Mail" = "email"
"氏名" = "name"
"フリガナ" = "kana"
"生年月日" = {{ path = "birthday", type = "date" }}
"都道府県" = "prefecture"
"""

Headers = Callable[[str, bytes], Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Contender:
    """A server under load: where it is, and the headers that its requests carry."""

    name: str
    port: int
    path: str
    headers: Headers


def serve_bare(pipe: Connection) -> None:
    """Serve a bare aiohttp POST."""

    async def post(request: web.Request) -> web.Response:
        webhook = json.loads(await request.read())
        return web.json_response({"webhook_id": request.headers["webhook-id"], "type": webhook["type"]}, status=202)

    async def main() -> None:
        bare = web.Application()
        bare.router.add_post("/v1/webhooks/{source}", post)
        runner = web.AppRunner(bare, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        pipe.send(runner.addresses[0][1])
        await asyncio.to_thread(pipe.recv)

    asyncio.run(main())


def serve_relay(pipe: Connection, database: str, directory: str) -> None:
    """Serve relay."""

    async def main() -> None:
        config = Path(directory) / "relay.toml"
        await asyncio.to_thread(config.write_text, SETTINGS, encoding="utf-8")
        env = {
            "RELAY_DATABASE_URL": database,
            "RELAY_SECRET_KEY": "the benchmark's own secret",
            "RELAY_SPOOL_DIR": directory,
            "RELAY_HOST": "127.0.0.1",
            "RELAY_PORT": "0",
            "RELAY_OPS_HOST": "127.0.0.1",
            "RELAY_OPS_PORT": "0",
        }
        async with app.running(process(env), load(config, env)) as addresses:
            app.spare_collector()  # as `relay serve` does
            pipe.send(int(addresses.url.rpartition(":")[2]))
            await asyncio.to_thread(pipe.recv)

    asyncio.run(main())


def requests(contender: Contender, number: int, run: str) -> Iterator[bytes]:
    """Render whole HTTP requests beforehand, each a webhook of its own."""
    moment = datetime.now(UTC).isoformat()
    for place, customer in enumerate(generate(number, seed=1)):
        body = json.dumps({"type": "customer.created", "timestamp": moment, "data": customer.data()}).encode()
        message_id = f"{run}_{place}"
        headers = {"Host": "x", "Content-Type": "application/json", "webhook-id": message_id}
        headers |= {"Content-Length": str(len(body)), **contender.headers(message_id, body)}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        yield f"POST {contender.path} HTTP/1.1\r\n{head}\r\n".encode() + body


async def load_once(contender: Contender, number: int, run: str) -> float:
    """Send so many requests over some connections; return requests for each second."""
    waiting = list(requests(contender, number, run))

    async def connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", contender.port)
        while waiting:
            writer.write(waiting.pop())
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 202"):
                raise RuntimeError(head.decode())
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
        writer.close()

    begin = time.perf_counter()
    await asyncio.gather(*(connection() for _ in range(CONNECTIONS)))
    return number / (time.perf_counter() - begin)


def bearer(_: str, __: bytes) -> Mapping[str, str]:
    """Carry the source's token."""
    return {"Authorization": f"Bearer {TOKEN}"}


def signed(message_id: str, body: bytes) -> Mapping[str, str]:
    """Sign as Standard Webhooks says."""
    timestamp = str(int(time.time()))
    signature = sign(signing_key(SECRET), message_id, timestamp, body)
    return {"webhook-timestamp": timestamp, "webhook-signature": signature}


async def contend(rounds: int, number: int) -> None:
    """Run all rounds and print medians and ratios."""
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(Cluster.start(binaries=find_binaries(), durable=True))
        await cluster.create_database("bench")
        await migrate(cluster.url("bench"))
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="relay-bench-"))
        bare = _start(stack, serve_bare)
        relay = _start(stack, serve_relay, cluster.url("bench"), directory)
        path = "/v1/webhooks/crm"
        contenders = [
            Contender("bare aiohttp POST", bare, path, bearer),
            Contender("relay, bearer token", relay, path, bearer),
            Contender("relay, signed", relay, path, signed),
        ]
        rates: dict[str, list[float]] = {contender.name: [] for contender in contenders}
        for turn in range(rounds + 1):
            for contender in contenders:
                rate = await load_once(contender, number, f"{turn}_{contender.name[-4:].strip()}")
                if turn:  # the first turn warms up
                    rates[contender.name].append(rate)
    medians = {name: statistics.median(found) for name, found in rates.items()}
    reference = medians[contenders[0].name]
    for name, median in medians.items():
        low, high = min(rates[name]), max(rates[name])
        print(f"{name:22} {median:8.0f} requests/s ({low:.0f} to {high:.0f})  {median / reference:.2f} of bare")  # noqa: T201


def _start(stack: AsyncExitStack, serve: Callable[..., None], *args: str) -> int:
    here, there = multiprocessing.Pipe()
    server = multiprocessing.Process(target=serve, args=(there, *args), daemon=True)
    server.start()
    stack.callback(server.kill)
    stack.callback(here.close)  # the server ends when nobody holds the other end
    port: int = here.recv()
    return port


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=4000)
    options = parser.parse_args()
    multiprocessing.set_start_method("spawn")
    asyncio.run(contend(options.rounds, options.requests))


if __name__ == "__main__":
    main()
