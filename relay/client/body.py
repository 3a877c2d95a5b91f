"""The body of an upload: a multipart form framed by hand, the file streamed from disk, let go when the lane is lost.

Framed by hand so that its size is known to the byte before a byte is sent, and so that it is what the vendors' own
samples send: text parts with nothing but a name, in their order, then the file.
"""

import asyncio
import errno
import secrets
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import aiohttp
from aiofiles.threadpool.binary import AsyncBufferedReader
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_writer import StreamWriter

from relay.errors import LaneLost
from relay.vendors import Form

CHUNK_BYTES: Final = 65_536
"""Read from disk and handed to the connection at once: memory does not grow with the file."""

LEASE_CHECK_S: Final = 1.0
"""How often the lease is looked at where no chunk asks. Short, because sleeping does not count a suspension."""


def _boundary() -> str:
    """A fresh boundary, always of the same length; no file can be made to hold it."""
    return f"relay-{secrets.token_hex(16)}"


def frame(form: Form, boundary: str) -> tuple[bytes, bytes]:
    """Give what stands before and after the file in a multipart body: the text parts in their order, the file last.

    Names are escaped as browsers do. Text is UTF-8; a text part has no Content-Type, as browsers and PHP expect.
    """
    head = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{_escaped(name)}"\r\n\r\n{value}\r\n'
        for name, value in form.fields
    ]
    head.append(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{_escaped(form.file_field)}"; '
        f'filename="{_escaped(form.file_name)}"\r\nContent-Type: {form.file_type}\r\n\r\n'
    )
    return "".join(head).encode("utf-8"), f"\r\n--{boundary}--\r\n".encode("ascii")


def _escaped(name: str) -> str:
    return name.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")


def body_bytes(form: Form, file_bytes: int) -> int:
    """Predict the size in bytes of the whole multipart body for a file of that size."""
    head, tail = frame(form, _boundary())
    return len(head) + file_bytes + len(tail)


class Body(aiohttp.Payload):
    """A multipart body that streams a spooled file, counts what it hands over, and lets go when the lane is lost."""

    def __init__(
        self, form: Form, file: AsyncBufferedReader, file_bytes: int, lease_left_s: Callable[[], float]
    ) -> None:
        boundary = _boundary()
        super().__init__(file, content_type=f"multipart/form-data; boundary={boundary}")
        self._head, self._tail = frame(form, boundary)
        self._file = file
        self._file_bytes = file_bytes
        self._lease_left_s = lease_left_s
        self._transport: asyncio.Transport | None = None
        self._total = len(self._head) + file_bytes + len(self._tail)
        self.sent = 0
        self.begun = False
        self.lane_lost = False
        self.broken = ""

    @property
    def size(self) -> int:
        """The Content-Length."""
        return self._total

    @property
    def whole(self) -> bool:
        """Whether the last byte has been handed to the connection."""
        return self.sent == self._total

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Never called: the body is not text."""
        raise NotImplementedError

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Hand the body to the connection, chunk by chunk, as long as the lane is ours."""
        self.begun = True
        if isinstance(writer, StreamWriter):
            self._transport = writer.transport
        await self._hand_over(writer, self._head)
        left = self._file_bytes
        while left:
            chunk = await self._next(min(left, CHUNK_BYTES))
            left -= len(chunk)
            await self._hand_over(writer, chunk)
        await self._hand_over(writer, self._tail)

    async def watch(self) -> None:
        """Reset the connection when the lease runs out, also while a chunk or the answer is waited for."""
        while not self.lane_lost and (left := self._lease_left_s()) > 0:  # noqa: ASYNC110 - a clock, not an event
            await asyncio.sleep(min(left, LEASE_CHECK_S))
        self.lane_lost = True
        self.reset()

    async def _next(self, size: int) -> bytes:
        try:
            chunk = await self._file.read(size)
        except OSError as error:
            self.broken = f"the spooled file cannot be read: {cause(error)}"
            chunk = b""
        if not chunk:
            self.broken = self.broken or "the spooled file is shorter than it was"
            raise ConnectionAbortedError
        return chunk

    async def _hand_over(self, writer: AbstractStreamWriter, chunk: bytes) -> None:
        # An answer that is here already is read first: a write that meets a closed connection would lose it.
        await asyncio.sleep(0)
        if self.lane_lost or self._lease_left_s() <= 0:
            self.lane_lost = True
            raise LaneLost("the lease ran out during an upload")
        self.sent += len(chunk)  # before it is handed over: from here on it may arrive
        await writer.write(chunk)

    def reset(self) -> None:
        """Close with RST, so that what lies in the system's buffer is not delivered either."""
        if self._transport is None:
            return
        connection = self._transport.get_extra_info("socket")
        if connection is not None:
            with suppress(OSError):  # closed already
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()


_DNS_CODES = {number: name for name, number in vars(socket).items() if name.startswith("EAI_")}


def cause(error: BaseException) -> str:
    """Name an error without its message, which may hold a URL: its class and the system's name for its number."""
    number = getattr(getattr(error, "os_error", error), "errno", None)
    name = errno.errorcode.get(number) or _DNS_CODES.get(number) if isinstance(number, int) else None
    return type(error).__name__ + (f" {name}" if name else "")
