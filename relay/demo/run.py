"""`relay demo`: a stream of webhooks for generated customers, and the proof that each reader list is right."""

import asyncio
import signal
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
from rich.console import Console
from rich.live import Live
from rich.table import Table

from relay.demo.customers import PLANS
from relay.demo.names import COLUMNS, SIGNING_SECRET
from relay.demo.signing import signed
from relay.demo.stage import Stage, staged
from relay.demo.traffic import Expected, Sent, as_mailed, stream
from relay.receive.auth import signing_key

SENDERS = 16
SETTLED_WITHIN_S = 300.0
"""A demo that has not come to an end by then has failed."""


async def demo(*, customers: int, seed: int, once: bool) -> int:
    """Run the demo, and without `once` stay up until Ctrl-C; 1 if a reader list is not what the webhooks said."""
    console = Console()
    with tempfile.TemporaryDirectory(prefix="relay-demo-") as directory:
        async with staged(Path(directory)) as stage, aiohttp.ClientSession() as session:
            console.print(f"relay     {stage.relay.url}")
            console.print(f"ops page  {stage.relay.url}/  with the token {stage.token}", soft_wrap=True)
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
    while True:
        body, headers = signed(webhook, key)
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
        console.print(f"[red]not everything was settled within {SETTLED_WITHIN_S:.0f} s")
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
Simulated vendors (make them fail: POST /_sim/faults, look: GET /_sim/readers):""",
        soft_wrap=True,
    )
    for account, (_, contract, url) in stage.sims.items():
        console.print(f"  {account}: {url}  contract {contract}")
    console.print("Ctrl-C ends the demo; its database goes with it.")
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
