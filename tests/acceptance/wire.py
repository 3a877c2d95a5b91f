"""HTTP by hand: bytes out, bytes back, so that nothing is mended on the way that a client library would mend."""

import asyncio
import contextlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

ANSWER_TIMEOUT_S = 15.0

_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)\r\n", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answer:
    """Everything that came back, as it came."""

    raw: bytes

    @property
    def status(self) -> int | None:
        """The status; None where the connection was closed without an answer."""
        words = self.raw.partition(b"\r\n")[0].split(b" ")
        return int(words[1]) if len(words) > 1 and words[1].isdigit() else None

    @property
    def body(self) -> bytes:
        """What stands behind the head."""
        return self.raw.partition(b"\r\n\r\n")[2]

    @property
    def whole(self) -> bool:
        """Whether all has come that the head announces."""
        head, end, body = self.raw.partition(b"\r\n\r\n")
        length = _LENGTH.search(head + b"\r\n")
        return bool(end and length) and len(body) >= int(length[1] if length else 0)

    def json(self) -> Any:  # noqa: ANN401 - JSON
        """Read the body as JSON."""
        return json.loads(self.body)


def request(
    method: str | bytes, target: str | bytes, headers: Mapping[str, str | bytes] | None = None, body: bytes = b""
) -> bytes:
    """Write a request that asks for the connection to be closed; text is UTF-8, whether HTTP allows it or not.

    A header without a value is left out.
    """
    given = {"Host": "relay.example.com", "Connection": "close", "Content-Length": str(len(body)), **(headers or {})}
    lines = [b" ".join((_bytes(method), _bytes(target), b"HTTP/1.1"))]
    lines += [_bytes(name) + b": " + _bytes(value) for name, value in given.items() if value != ""]
    return b"\r\n".join([*lines, b"", body])


async def exchange(url: str, sent: bytes) -> Answer:
    """Send bytes, and read until the answer is whole or the other side closes. Fails where neither comes in time."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    answer = Answer(b"")
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            with contextlib.suppress(ConnectionError):  # it was refused before it was read
                writer.write(sent)
                await writer.drain()
            with contextlib.suppress(ConnectionError):
                while not answer.whole and (piece := await reader.read(65_536)):
                    answer = Answer(answer.raw + piece)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    return answer


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()
