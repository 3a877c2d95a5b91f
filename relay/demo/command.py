"""The command `relay demo`: its arguments, and which of the demo's parts they ask for.

What the demo needs is imported when it runs: no other command pays for it.
"""

import argparse
import asyncio
import math
import os
from typing import get_args

from relay import log
from relay.demo.names import CUSTOMERS, PORTS, RATE, RATE_MAX, Part
from relay.errors import FieldError, SettingsError

CUSTOMERS_MAX = 100_000
"""All customers of `--part traffic` are kept in memory, some 400 bytes each."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `relay demo` understands."""
    parser.add_argument(
        "--once", action="store_true", help="end by itself; exit code 1 if any reader list is not right"
    )
    parser.add_argument(
        "--customers", type=_customers, default=CUSTOMERS, metavar="N", help="customers to generate (default 500)"
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="generate other customers (default 1)")
    parser.add_argument("--part", choices=get_args(Part), help="run only a part, until SIGTERM, as in a cluster")
    vendors = parser.add_argument_group("--part vendors", "the three simulated vendors, each on a port of its own")
    vendors.add_argument("--host", default="0.0.0.0", help="where they listen (default %(default)s)")  # noqa: S104 - told
    for vendor, port in PORTS.items():
        vendors.add_argument(
            f"--port-{vendor}", type=_port, default=port, metavar="PORT", help="(default %(default)s, 0: a free one)"
        )
    traffic = parser.add_argument_group("--part traffic", "webhooks for generated customers, signed, without end")
    traffic.add_argument("--url", help="where relay listens (default: RELAY_URL, or else http://127.0.0.1:8080)")
    traffic.add_argument("--source", default="crm", help="the source that sends them (default %(default)s)")
    traffic.add_argument(
        "--rate", type=_rate, default=RATE, metavar="N", help=f"webhooks a second, {RATE_MAX} at most (default {RATE})"
    )


def run(options: argparse.Namespace) -> int:
    """Run the demo, or the part of it that the arguments ask for."""
    log.configure("warning")
    if options.part is None:
        from relay.demo.run import demo  # noqa: PLC0415 - see above

        return asyncio.run(demo(customers=options.customers, seed=options.seed, once=options.once))
    if options.once:
        raise SettingsError([FieldError("--once", "does not go with --part, which runs until SIGTERM")])
    if options.part == "vendors":
        from relay.demo.parts import serve_vendors  # noqa: PLC0415 - see above

        ports = {vendor: getattr(options, f"port_{vendor}") for vendor in PORTS}
        return asyncio.run(serve_vendors(options.host, ports, os.environ))
    from relay.demo.posting import Wanted, send_traffic  # noqa: PLC0415 - see above

    wanted = Wanted.of(options.url, options.source, options.rate, options.customers, options.seed, env=os.environ)
    return asyncio.run(send_traffic(wanted))


def _rate(text: str) -> float:
    rate = float(text)
    if not (math.isfinite(rate) and 0 < rate <= RATE_MAX):
        raise argparse.ArgumentTypeError(f"expected more than 0 and at most {RATE_MAX}")
    return rate


def _customers(text: str) -> int:
    customers = int(text)
    if not 1 <= customers <= CUSTOMERS_MAX:
        raise argparse.ArgumentTypeError(f"expected 1 to {CUSTOMERS_MAX:,}")
    return customers


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65_535:  # noqa: PLR2004 - the highest port
        raise argparse.ArgumentTypeError("expected 0 to 65535")
    return port
