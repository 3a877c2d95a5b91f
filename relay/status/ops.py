"""The ops port: metrics and probes. Nothing here asks the database."""

import asyncio
from collections.abc import Callable

from aiohttp import web
from prometheus_client.exposition import choose_encoder

from relay.metrics import Metrics
from relay.problem import problem, problems

Ready = Callable[[], str | None]
"""Says why the process cannot be given work; None when it can."""


def ops_app(metrics: Metrics, ready: Ready) -> web.Application:
    """Make the app with `/metrics`, `/healthz` (the process's loop turns) and `/readyz` (it may be given work)."""

    async def tell_metrics(request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        # in a thread: with hundreds of accounts it takes some 50 ms, and webhooks must not wait for it
        body = await asyncio.to_thread(encode, metrics.registry)
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def tell_health(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def tell_readiness(_: web.Request) -> web.Response:
        reason = ready()
        return web.json_response({"status": "ready"}) if reason is None else problem(503, f"Not ready: {reason}.")

    app = web.Application(middlewares=[problems])
    app.add_routes(
        [
            web.get("/metrics", tell_metrics),
            web.get("/healthz", tell_health),
            web.get("/readyz", tell_readiness),
        ]
    )
    return app
