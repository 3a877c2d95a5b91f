"""`relay demo --part vendors` and `--part traffic`: the demo's ends as processes of their own, as a cluster runs them.

What the vendors are, and what a settings file says to fit them (hosts are wherever this part runs, here `vendors`):

    haihai      http://vendors:9101            aid = 1, login_id = "demo", transport_password = DEMO_PASSWORD
    blastmail   http://vendors:9102/rest/1.0   username = "demo", password and api_key = DEMO_PASSWORD
    blaynmail   http://vendors:9103/rest/1.0   username = "demo", password and api_key = DEMO_PASSWORD

    password    the variable DEMO_PASSWORD, without it `demo-password`
    columns     氏名, フリガナ, 生年月日 (a date), 都道府県, 会員種別
    address     メールアドレス at haihai, E-Mail elsewhere
    haihai      counts no calls (calls_per_day_limit = 100000), imports 0.2 to 1 s after its answer (settle_wait_s = 2)
    /_sim/…     on each port, see `sim_control`: reader lists (contract 1 at haihai, `demo` elsewhere) and faults

What the traffic is: webhooks for generated customers whose `data` has email, name, kana, birthday, prefecture, plan.

    RELAY_URL            where relay listens, without it http://127.0.0.1:8080 (or --url)
    DEMO_SIGNING_SECRET  what the source signs with, without it whsec_ZGVtbyBzZWNyZXQgb2YgdGhlIGNybSBzb3VyY2U=
    --source crm         the source's name
    --rate 5             webhooks a second

Both need nothing that only the development extra installs.
"""

import asyncio
import signal
from collections.abc import Mapping
from contextlib import AsyncExitStack

from rich.console import Console

from relay.demo.names import AID, COLUMNS, PASSWORD, USER
from relay.demo.sim_bme import BmeContract, BmeSim
from relay.demo.sim_haihai import HaihaiContract, HaihaiSim
from relay.demo.sim_server import Sim
from relay.errors import FieldError, SettingsError

IMPORT_DELAY_S = (0.2, 1.0)
"""How long after its answer the simulated 配配メール imports a file, at least and at most."""


def simulated(password: str) -> dict[str, tuple[Sim, str]]:
    """Make the demo's three vendors, not yet serving, each with its contract's name, by the vendor's name."""
    columns = tuple(COLUMNS)
    haihai = HaihaiContract(
        AID,
        USER,
        password,
        columns=("メールアドレス", *columns),
        calls_per_day=None,
        import_delay_s=IMPORT_DELAY_S,
    )
    bme = BmeContract(USER, password, password, columns=columns)
    return {
        "haihai": (HaihaiSim(haihai), haihai.name),
        "blastmail": (BmeSim(bme, brand="blastmail"), bme.name),
        "blaynmail": (BmeSim(bme, brand="blaynmail"), bme.name),
    }


async def serve_vendors(host: str, ports: Mapping[str, int], env: Mapping[str, str]) -> int:
    """Serve the vendors until SIGTERM or SIGINT, and say where. Raises SettingsError where a port is taken."""
    console = Console(highlight=False, markup=False)
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with AsyncExitStack() as stack:
        for vendor, (sim, contract) in simulated(env.get("DEMO_PASSWORD") or PASSWORD).items():
            try:
                await stack.enter_async_context(sim.serve(host, ports[vendor]))
            except OSError as error:
                raise SettingsError(
                    [FieldError(f"--port-{vendor}", f"cannot listen there: {error.strerror}")]
                ) from None
            base_url = sim.base_url if isinstance(sim, BmeSim) else sim.url
            console.print(f"{vendor}: {base_url} contract {contract}", soft_wrap=True)
        console.print("ready; SIGTERM ends them, and the reader lists go with them", soft_wrap=True)
        await ended.wait()
    return 0
