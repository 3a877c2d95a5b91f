"""What the spool promises: a file is there whole or not at all, and is what was written."""

import asyncio
import hashlib
import os
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable
from pathlib import Path

import pytest

from relay.errors import RelayError
from relay.spool import BLOCK_BYTES, Spool


async def pieces(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    """Hand chunks out one by one."""
    for chunk in chunks:
        yield chunk


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """Give a spool whose directory is not there yet."""
    return Spool(tmp_path / "spool")


def names(spool: Spool) -> list[str]:
    """List the directory."""
    return sorted(path.name for path in spool.directory.iterdir())


async def test_a_file_is_what_was_written(spool: Spool) -> None:
    """Its bytes in their order, with size and hash to know it by, readable by this user only."""
    file = await spool.write("batch-7.csv", pieces([b"a,", b"", b"b\r\n", b"c,d\r\n"]), 1)
    assert file.path.read_bytes() == b"a,b\r\nc,d\r\n"
    assert (file.rows, file.bytes) == (1, 10)
    assert file.sha256 == hashlib.sha256(b"a,b\r\nc,d\r\n").hexdigest()
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert spool.directory.stat().st_mode & 0o777 == 0o700
    assert names(spool) == ["batch-7.csv"]


async def test_a_file_replaces_one_of_the_same_name(spool: Spool) -> None:
    """A batch that is rendered again has its new file, whole."""
    await spool.write("batch-7.csv", pieces([b"old and longer\r\n"]), 1)
    file = await spool.write("batch-7.csv", pieces([b"new\r\n"]), 1)
    assert file.path.read_bytes() == b"new\r\n"
    assert names(spool) == ["batch-7.csv"]


async def test_a_file_that_was_not_finished_is_not_there(spool: Spool) -> None:
    """Neither under its name nor half-written, and an older one of the same name stays."""

    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * (BLOCK_BYTES + 1)
        raise OSError(28, "no space left on device")

    await spool.write("batch-7.csv", pieces([b"old\r\n"]), 1)
    with pytest.raises(OSError, match="no space"):
        await spool.write("batch-7.csv", broken(), 1)
    with pytest.raises(OSError, match="no space"):
        await spool.write("batch-8.csv", broken(), 1)
    assert names(spool) == ["batch-7.csv"]
    assert (spool.directory / "batch-7.csv").read_bytes() == b"old\r\n"


async def test_a_write_that_is_cancelled_leaves_nothing(spool: Spool) -> None:
    """A relay that is told to stop leaves no half-written file."""
    begun = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield b"x" * (BLOCK_BYTES + 1)
        begun.set()
        await asyncio.Event().wait()
        yield b""

    async with asyncio.TaskGroup() as tasks:
        writing = tasks.create_task(spool.write("batch-7.csv", endless(), 1))
        await begun.wait()
        assert len(names(spool)) == 1
        writing.cancel()
    assert names(spool) == []


async def test_intact_finds_what_was_written(spool: Spool) -> None:
    """A file that is as it was is given back equal."""
    file = await spool.write("batch-7.csv", pieces([b"a\r\n" * 1_000_000]), 999_999)
    assert await spool.intact("batch-7.csv", file.rows, file.bytes, file.sha256) == file


@pytest.mark.parametrize("damage", [b"", b"a\r\nb\r", b"a\r\nb\r\n\r\n", b"a\r\nc\r\n"])
async def test_a_damaged_file_is_not_intact(spool: Spool, damage: bytes) -> None:
    """Cut short, longer or changed: None, and it is rendered again."""
    file = await spool.write("batch-7.csv", pieces([b"a\r\nb\r\n"]), 1)
    file.path.write_bytes(damage)
    assert await spool.intact("batch-7.csv", file.rows, file.bytes, file.sha256) is None


async def test_a_missing_file_is_not_intact(spool: Spool) -> None:
    """Nor is one in a directory that is gone, or a directory of its name."""
    assert await spool.intact("batch-7.csv", 1, 3, "0" * 64) is None
    (spool.directory / "batch-7.csv").mkdir(parents=True)
    assert await spool.intact("batch-7.csv", 1, 3, "0" * 64) is None


async def test_lines_are_fetched_by_number(spool: Spool) -> None:
    """The header is line 1; line ends are cut off; what is not there is left out. A lone CR or LF ends no line."""
    file = await spool.write("batch-7.csv", pieces([b'"E"\r\n"a"\r\n"b\rc\nd"\r\n']), 2)
    assert await spool.lines(file, {1, 3}) == {1: b'"E"', 3: b'"b\rc\nd"'}
    assert await spool.lines(file, [2, 2, 0, -1, 4, 10**12]) == {2: b'"a"'}
    assert await spool.lines(file, ()) == {}


async def test_lines_across_blocks_are_whole(spool: Spool) -> None:
    """A line end or a line that lies across two reads is found all the same."""
    for before in (BLOCK_BYTES - 2, BLOCK_BYTES - 1, BLOCK_BYTES, 3 * BLOCK_BYTES - 1):
        file = await spool.write("batch-7.csv", pieces([b"x" * before + b"\r\n", b"second\r\nthird\r\n"]), 2)
        assert await spool.lines(file, {2, 3}) == {2: b"second", 3: b"third"}
        assert (await spool.lines(file, {1}))[1] == b"x" * before


async def test_memory_does_not_grow_with_the_file(spool: Spool) -> None:
    """Writing, checking and searching 24 MB take a few blocks of memory."""
    line = b'"taro@example.jp","' + b"x" * 1000 + b'"\r\n'
    tracemalloc.start()
    try:
        file = await spool.write("batch-7.csv", pieces(line for _ in range(24_000)), 23_999)
        assert await spool.intact("batch-7.csv", file.rows, file.bytes, file.sha256) is not None
        assert len(await spool.lines(file, {2, 23_999})) == 2
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert file.bytes > 24_000_000
    assert peak < 8 * BLOCK_BYTES


def keeping(*kept: str) -> Callable[[], Awaitable[Collection[str]]]:
    """Answer which files are still needed."""

    async def answer() -> Collection[str]:
        return kept

    return answer


async def test_removing_twice_does_no_harm(spool: Spool) -> None:
    """A file that is gone is what was wanted."""
    await spool.write("batch-7.csv", pieces([b"a\r\n"]), 0)
    await spool.remove("batch-7.csv")
    await spool.remove("batch-7.csv")
    assert names(spool) == []


async def test_a_sweep_takes_what_nobody_needs(spool: Spool) -> None:
    """Other batches' files and what a crash left half-written; never what is not the spool's own."""
    assert await spool.sweep(keeping()) == 0
    for number in (1, 2, 3):
        await spool.write(f"batch-{number}.csv", pieces([b"a\r\n"]), 0)
    (spool.directory / "batch-9.csv.0123abcd.part").touch()
    os.utime(spool.directory / "batch-9.csv.0123abcd.part", (0, 0))
    (spool.directory / "batch-8.csv.0123abcd.part").touch()  # somebody may still be writing it
    for foreign in ("notes.txt", "batch-1.csv.bak", "customers.csv"):
        (spool.directory / foreign).touch()
    assert await spool.sweep(keeping("batch-2.csv")) == 3
    assert names(spool) == [
        "batch-1.csv.bak",
        "batch-2.csv",
        "batch-8.csv.0123abcd.part",
        "customers.csv",
        "notes.txt",
    ]


async def test_a_sweep_asks_after_it_has_looked(spool: Spool) -> None:
    """A file that is written while the sweep asks what is needed is not taken for stale."""

    async def ask_late() -> Collection[str]:
        await spool.write("batch-1.csv", pieces([b"a\r\n"]), 0)
        return ()

    await spool.write("batch-2.csv", pieces([b"a\r\n"]), 0)
    assert await spool.sweep(ask_late) == 1
    assert names(spool) == ["batch-1.csv"]


async def test_a_sweep_leaves_a_file_that_is_being_written(spool: Spool) -> None:
    """A sweep may come while another lane writes."""
    swept = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"a" * (BLOCK_BYTES + 1)
        assert await spool.sweep(keeping()) == 0
        swept.set()
        yield b"\r\n"

    file = await spool.write("batch-7.csv", slow(), 0)
    assert swept.is_set()
    assert file.path.stat().st_size == BLOCK_BYTES + 3


@pytest.mark.parametrize("name", ["", "x.csv", "../batch-1.csv", "batch-1.csv/x", "batch-.csv", "batch-1.csv\n"])
async def test_only_a_batch_s_name_is_a_name(spool: Spool, name: str) -> None:
    """Nothing outside the directory and nothing foreign in it can be written, read or removed."""
    with pytest.raises(RelayError):
        await spool.write(name, pieces([b""]), 0)
    with pytest.raises(RelayError):
        await spool.remove(name)
    with pytest.raises(RelayError):
        await spool.intact(name, 0, 0, "")


async def test_a_directory_that_cannot_be_is_an_error(tmp_path: Path) -> None:
    """The caller learns it; nothing is taken for written."""
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        await Spool(tmp_path / "file" / "spool").write("batch-7.csv", pieces([b"a\r\n"]), 0)
