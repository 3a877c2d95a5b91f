"""A way to a vendor that can be narrowed: after so many bytes of a request the rest never arrives."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

PIECE_BYTES = 4_096


@dataclass(slots=True)
class Narrows:
    """A TCP proxy in front of `server_port`. `bytes_max` is how much of each request it lets through; None is all.

    What is beyond that it takes and swallows, as a network does that has died: neither side is told. When one side
    closes its connection, so does the proxy on the other side. `swallowed` counts requests that were cut short.
    """

    server_port: int
    bytes_max: int | None = None
    port: int = 0
    swallowed: int = 0

    @asynccontextmanager
    async def serve(self) -> AsyncIterator["Narrows"]:
        """Let requests through on `port` as long as the context lasts."""
        listening = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.port = listening.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            listening.close()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, there = await asyncio.open_connection("127.0.0.1", self.server_port)
        ways = {
            asyncio.create_task(self._pass(reader, there, self.bytes_max)),
            asyncio.create_task(self._pass(back, writer, None)),
        }
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        for end in (writer, there):
            end.close()
            with suppress(OSError):
                await end.wait_closed()

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, bytes_max: int | None) -> None:
        passed = 0
        with suppress(OSError):
            while piece := await source.read(PIECE_BYTES):
                if bytes_max is not None and passed + len(piece) > bytes_max:
                    self.swallowed += passed <= bytes_max
                    passed = bytes_max + 1
                    continue
                passed += len(piece)
                sink.write(piece)
                await sink.drain()
