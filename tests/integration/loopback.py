"""A server on loopback that does what a test says, byte by byte, also what no HTTP library would do."""

import asyncio
import re
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

FORM = re.compile(rb'name="([^"]*)"\r\n\r\n(.*?)\r\n--', re.DOTALL)


@dataclass(slots=True)
class Connection:
    """One connection: what the client sent, and what to do with it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    head: bytes = b""
    body: bytearray = field(default_factory=bytearray)
    broken: bool = False
    done: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def path(self) -> str:
        """The request's path with its query."""
        return self.head.split(b" ")[1].decode("ascii")

    @property
    def headers(self) -> dict[str, str]:
        """The request's headers, by name in lower case."""
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}

    @property
    def length(self) -> int:
        """The Content-Length."""
        return int(self.headers["content-length"])

    @property
    def fields(self) -> dict[str, str]:
        """The text parts of a multipart body that arrived so far."""
        return {name.decode(): value.decode() for name, value in FORM.findall(bytes(self.body))}

    async def read(self, size: int | None = None) -> None:
        """Read so much of the body, or all of it; `broken` tells that it ended before."""
        wanted = self.length if size is None else size
        try:
            while len(self.body) < wanted and (chunk := await self.reader.read(65_536)):
                self.body += chunk
        except ConnectionError:
            self.broken = True
        self.broken = self.broken or len(self.body) < wanted

    async def answer(self, status: int, body: str | bytes = b"", *headers: str, cut: int = 0) -> None:
        """Answer; with `cut`, promise so many bytes more than come."""
        content = body.encode() if isinstance(body, str) else body
        lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(content) + cut}", "Connection: close", *headers]
        self.writer.write("\r\n".join([*lines, "", ""]).encode() + content)
        await self.writer.drain()

    def reset(self) -> None:
        """Break the connection with RST."""
        connection = self.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = Callable[[Connection], Awaitable[None]]


@dataclass(slots=True)
class Server:
    """Where it is and what it heard, in order."""

    url: str = ""
    heard: list[Connection] = field(default_factory=list)

    @property
    def paths(self) -> list[str]:
        """The paths asked for, in order."""
        return [connection.path for connection in self.heard]


@asynccontextmanager
async def serving(script: Script, greeting: bytes = b"", *, narrow: bool = False) -> AsyncIterator[Server]:
    """Serve each request by the script, then close its connection. What a script raises fails the test.

    With a `greeting` the server speaks first, as no HTTP server does. A `narrow` one takes little before it is read, so
    that the rest stays in the client's system.
    """
    server = Server()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(reader, writer)
        writer.write(greeting)
        try:
            connection.head = await reader.readuntil(b"\r\n\r\n")
            server.heard.append(connection)
            await script(connection)
        except (ConnectionError, asyncio.IncompleteReadError):
            connection.broken = True
        finally:
            connection.done.set()
            writer.close()

    async with asyncio.TaskGroup() as tasks:
        running: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            running.add(tasks.create_task(serve(reader, writer)))

        socket_ = socket.create_server(("127.0.0.1", 0))
        if narrow:
            socket_.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listening = await asyncio.start_server(accept, sock=socket_, limit=4096 if narrow else 65_536)
        server.url = f"http://127.0.0.1:{socket_.getsockname()[1]}"
        try:
            yield server
        finally:
            listening.close()
            for task in running:
                task.cancel()
