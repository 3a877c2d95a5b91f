"""The files that go up, on disk: written once, read back as a stream, gone when their batch has ended.

A file appears under its name whole or not at all: it is written beside its place, flushed to the disk, renamed, and the
directory flushed. The log in Postgres is the truth all the same; a file that is missing or differs is written again.
"""

import asyncio
import hashlib
import os
import re
import secrets
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiofiles
import aiofiles.os

from relay.errors import RelayError

PART_OLD_S: Final = 3600.0
"""A half-written file that was not touched for this long belongs to a process that has ended."""

BLOCK_BYTES: Final = 1_048_576
"""Read and written at once: each call is a hop to a thread, and memory must not grow with the file."""

_NAME = re.compile(r"batch-[A-Za-z0-9_-]+\.csv")
_PART = re.compile(_NAME.pattern + r"\.[0-9a-f]{8}\.part")


def file_name(batch_id: int) -> str:
    """Name a batch's file."""
    return f"batch-{batch_id}.csv"


@dataclass(frozen=True, slots=True)
class SpoolFile:
    """A file as it lies there: `rows` without the header, its size in `bytes`, its `sha256` as 64 hex digits."""

    path: Path
    rows: int
    bytes: int
    sha256: str


class Spool:
    """A directory of one process's own. Names are like `batch-123.csv`; nothing else in the directory is touched."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._parts: set[str] = set()

    async def write(self, name: str, chunks: AsyncIterable[bytes], rows: int) -> SpoolFile:
        """Write a file from its chunks, durably, readable by this user only; it replaces one of the same name.

        Raises:
            OSError: the disk is full or broken; nothing is left behind.
        """
        path = self._path(name)
        part = path.with_name(f"{name}.{secrets.token_hex(4)}.part")
        await aiofiles.os.makedirs(self.directory, mode=0o700, exist_ok=True)
        digest, size = hashlib.sha256(), 0
        self._parts.add(part.name)
        try:
            async with aiofiles.open(part, "xb", opener=_private) as file:
                async for block in _blocks(chunks):
                    digest.update(block)
                    size += len(block)
                    await file.write(block)
                await file.flush()
                await asyncio.to_thread(os.fsync, file.fileno())
            await aiofiles.os.replace(part, path)
        except BaseException:
            with suppress(FileNotFoundError):
                await aiofiles.os.unlink(part)
            raise
        finally:
            self._parts.discard(part.name)
        await asyncio.to_thread(_sync_directory, self.directory)
        return SpoolFile(path, rows, size, digest.hexdigest())

    async def intact(self, name: str, rows: int, bytes: int, sha256: str) -> SpoolFile | None:  # noqa: A002 - a field's name
        """Read a file again and give it back if it is as it was written, byte for byte; None if it is gone or differs.

        `bytes` and `sha256` are what `write` told.
        """
        path = self._path(name)
        digest, found = hashlib.sha256(), 0
        try:
            async with aiofiles.open(path, "rb") as file:
                while block := await file.read(BLOCK_BYTES):
                    digest.update(block)
                    found += len(block)
        except OSError:
            return None
        return SpoolFile(path, rows, bytes, sha256) if (found, digest.hexdigest()) == (bytes, sha256) else None

    async def lines(self, file: SpoolFile, numbers: Collection[int]) -> dict[int, bytes]:
        """Fetch physical lines by number, the header being 1, without their CR LF; a number not there is left out.

        One pass that ends at the last wanted line; one block and the wanted lines are in memory.

        Raises:
            OSError: the file cannot be read.
        """
        wanted = set(numbers)
        found: dict[int, bytes] = {}
        last, number, rest = max(wanted, default=0), 0, b""
        async with aiofiles.open(file.path, "rb") as opened:
            while number < last and (block := await opened.read(BLOCK_BYTES)):
                *whole, rest = (rest + block).split(b"\r\n")
                found.update({n: line for n, line in enumerate(whole, number + 1) if n in wanted})
                number += len(whole)
        return found

    async def remove(self, name: str) -> None:
        """Remove a file; it may be gone already."""
        with suppress(FileNotFoundError):
            await aiofiles.os.unlink(self._path(name))

    async def sweep(self, keeping: Callable[[], Awaitable[Collection[str]]]) -> int:
        """Remove all batches' files but those to keep, and what an earlier process left half-written; say how many.

        `keeping` names them and is asked after the folder was read, so that a file written meanwhile is not stale.
        """
        try:
            names = await aiofiles.os.listdir(self.directory)
        except FileNotFoundError:
            return 0
        keep = await keeping()
        stale = [n for n in names if _NAME.fullmatch(n) and n not in keep]
        stale += [n for n in names if _PART.fullmatch(n) and n not in self._parts and await self._old(n)]
        for name in stale:
            with suppress(FileNotFoundError):
                await aiofiles.os.unlink(self.directory / name)
        return len(stale)

    async def _old(self, name: str) -> bool:
        """Whether nobody can be writing a file any more, be it another process that shares the folder by mistake."""
        with suppress(FileNotFoundError):
            return time.time() - (await aiofiles.os.stat(self.directory / name)).st_mtime > PART_OLD_S
        return False

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise RelayError(f"not a name for a batch's file: {name!r}")
        return self.directory / name


async def _blocks(chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """Join small chunks to blocks of at least `BLOCK_BYTES`, but for the last."""
    block = bytearray()
    async for chunk in chunks:
        block += chunk
        if len(block) >= BLOCK_BYTES:
            yield bytes(block)
            block.clear()
    if block:
        yield bytes(block)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _sync_directory(directory: Path) -> None:
    """Make a rename survive a crash of the machine."""
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
