"""Listening: what a connection may cost before any request of it is understood, and what is no request at all.

The limits of a `Guard` hold on either port, whatever comes: how many connections there are, how large a request's head
is, how long it may take. `Connection` is aiohttp's protocol for one connection, held to them.
"""

import asyncio
import socket
from contextlib import AsyncExitStack

from aiohttp import web

from relay.errors import FieldError, SettingsError
from relay.listening.connection import SERVER, Connection
from relay.listening.files import allow_files
from relay.listening.guard import ANSWER_TIMEOUT_S, OPS, Guard, SocketLimits
from relay.problem import unavailable

__all__ = ["OPS", "SERVER", "Guard", "SocketLimits", "allow_files", "bind", "listen", "not_yet", "starting_app"]

BACKLOG = 1024
"""Connections that the system takes for us before we do: a burst of senders that all reconnect."""

SHUTDOWN_TIMEOUT_S = 5.0
"""Requests under way get this long to end after SIGTERM: well within the flusher's grace, after which relay ends."""


def bind(host: str, port: int, variable: str) -> socket.socket:
    """Listen on an address before anything can be served there: who connects waits instead of being refused.

    Raises SettingsError, naming the variable that the port is from, where the address is taken or none of ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        reason = (error.strerror or type(error).__name__).partition(" (")[0]
        raise SettingsError([FieldError(variable, f"cannot listen on port {port} of {host}: {reason}")]) from None
    # Connections inherit it; the system then ends those whose other side takes nothing, which asyncio would never do.
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux alone has it
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, ANSWER_TIMEOUT_S * 1000)
    return listener


async def listen(stack: AsyncExitStack, app: web.Application, listener: socket.socket, guard: Guard) -> str:
    """Serve an app on a socket as long as the stack lives, held to the guard's limits; return its URL."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT_S, handle_signals=False)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    served = runner.server
    if served is None:
        raise RuntimeError("a runner that is set up has a server")
    served.request_handler = Connection.watching(served.request_handler)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(served, loop, guard), sock=listener, backlog=BACKLOG)
    stack.callback(guard.close)
    stack.callback(server.close)
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


async def not_yet(_: web.Request) -> web.Response:
    """Answer that the same is to be asked again."""
    return unavailable()


def starting_app() -> web.Application:
    """Make the app that is served until Postgres is there: whatever is asked, it is to be asked again."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", not_yet)
    return app
