"""A large customer list goes up in as few files as the vendor's limit allows, and in little memory."""

import asyncio
import time
import unicodedata
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime

from relay.client import body_bytes
from relay.demo.customers import PLANS, Customer, generate
from relay.demo.sim_haihai import HaihaiContract, HaihaiSim
from relay.demo.sim_record import Upload
from relay.demo.traffic import Sent
from relay.events import Operation
from relay.settings import load
from relay.vendors import vendor_of
from tests.acceptance.harness import World
from tests.acceptance.processes import Relay, until
from tests.acceptance.settings_file import HEADERS, PASSWORD, account, haihai

CUSTOMERS = 200_000
FILE_BYTES_MAX = 10_000_000
"""What a shared server takes (its API document)."""

PER_REQUEST = 1_000
COLUMNS = ("メールアドレス", *HEADERS, "備考")

PEAK_BYTES_MAX = 250_000_000
"""Of a process that receives everything and of one that uploads everything; a small container has twice as much."""

GROWTH_BYTES_MAX = 12_000_000
"""What a file of 25 MB may add to the peak after files of 10 MB: less than the 15 MB that it is larger by."""

COPY = """
insert into event
    (account, source, message_id, digest, operation, customer, layout, line, occurred_at, received_at)
select 'dedicated', source, message_id, digest, event.operation, customer, layout.id, line, occurred_at, received_at
from event join layout on (layout.account, layout.operation) = ('dedicated', event.operation)
where event.account = 'big' order by event.id
"""
"""The same customers for another account, as if they had been posted for both."""


def note(number: int) -> str:
    """Make a value of varying length."""
    return f"会員番号 {number}" + "様" * (number % 7)


def webhook(number: int, customer: Customer, begin: datetime) -> Sent:
    """Make the webhook that creates a customer; ids sort in the order of their numbers."""
    data = {**customer.data(), "note": note(number)}
    return Sent(f"big-{number:07d}", "customer.created", begin, data)


def cells(number: int, customer: Customer) -> tuple[str, ...]:
    """Say how a customer reads in Shift_JIS, where of all that is generated only 𠮷 and combining marks are missing."""
    texts = (
        customer.email,
        customer.name,
        customer.kana,
        customer.birthday.replace("-", ""),
        customer.prefecture,
        PLANS[customer.plan],
        note(number),
    )
    return tuple(_composed(text).replace("𠮷", "〓") for text in texts)


def _composed(text: str) -> str:
    # Character by character: over a whole text NFC would also change 塚 and 福.
    return unicodedata.normalize("NFC", text) if "\u3099" in text else text


def line_bytes(texts: Sequence[str]) -> int:
    """Return the size of a CSV record: quoted cells, doubled quotes, CRLF."""
    return len(",".join('"' + text.replace('"', '""') + '"' for text in texts).encode("cp932")) + 2


def files_needed(sizes: Iterable[int], header_bytes: int) -> list[tuple[int, int, int]]:
    """Fill files greedily, in order; returns of each its rows, its size, and the line that did not fit any more."""
    files = []
    rows, size = 0, header_bytes
    for line in sizes:
        if size + line > FILE_BYTES_MAX:
            files.append((rows, size, line))
            rows, size = 0, header_bytes
        rows, size = rows + 1, size + line
    return [*files, (rows, size, 0)]


async def test_two_hundred_thousand_customers_go_up_in_as_few_files_as_fit(world: World) -> None:
    """25 MB of lines for an account that takes 10 MB a file go up in three files, each full to the last line that fits.

    Every file arrives at its predicted size, and memory does not grow with the files, nor with the one file that a
    dedicated server takes.
    """
    sim = HaihaiSim(
        HaihaiContract(1, "user", PASSWORD, columns=COLUMNS),
        HaihaiContract(2, "user", PASSWORD, columns=COLUMNS, bytes_max=30_000_000, calls_per_day=86_400),
    )
    customers = list(enumerate(generate(CUSTOMERS, seed=7)))
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(sim.serve())
        columns = {**account("", "メールアドレス")["columns"], "備考": "note"}  # type: ignore[dict-item] # a table
        world.write_settings(
            {
                "big": haihai(url, 1, settle_wait_s=0),
                "dedicated": haihai(url, 2, settle_wait_s=0, server="dedicated"),
            },
            {name: account(name, columns=columns, flush_after_s=3600) for name in ("big", "dedicated")},
            {"crm": ["big"]},
        )
        receiving = world.relay("receiving", RELAY_ROUND_S="1")
        await receiving.start()
        await world.api(receiving, "POST", "/v1/logins/big/pause")
        began = time.monotonic()
        await post_all(world, receiving, customers)
        received_s = time.monotonic() - began
        receiving_peak = receiving.peak_bytes()
        assert await receiving.stop() == 0

        uploading = world.relay("uploading")
        await uploading.start()
        started_peak = uploading.peak_bytes()
        began = time.monotonic()
        await world.api(uploading, "POST", "/v1/logins/big/resume")
        await flush(world, uploading, "big")
        uploaded_s = time.monotonic() - began
        peak = uploading.peak_bytes()
        await world.value(COPY)
        await flush(world, uploading, "dedicated")
        dedicated_peak = uploading.peak_bytes()
        await world.settled(sim)
        assert await uploading.stop() == 0

    uploads = [upload for upload in sim.record.uploads if upload.contract == "1"]
    (whole,) = (upload for upload in sim.record.uploads if upload.contract == "2")
    sizes = ", ".join(f"{upload.file_bytes:,}" for upload in uploads)
    world.measured(
        f"{CUSTOMERS:,} customers received in {received_s:.1f} s, memory at most {receiving_peak / 1e6:.0f} MB; "
        f"cut and uploaded in {uploaded_s:.1f} s as files of {sizes} bytes, {started_peak / 1e6:.0f} MB at start "
        f"and at most {peak / 1e6:.0f} MB; with a file of {whole.file_bytes:,} bytes {dedicated_peak / 1e6:.0f} MB"
    )
    rows = [cells(*customer) for customer in customers]
    await check_files(world, uploads, rows)
    assert whole.file_bytes == sum(upload.file_bytes or 0 for upload in uploads) - 2 * line_bytes(COLUMNS)
    for contract in ("1", "2"):
        check_readers(sim, contract, rows)
    assert max(receiving_peak, peak, dedicated_peak) < PEAK_BYTES_MAX
    assert dedicated_peak - peak < GROWTH_BYTES_MAX


async def post_all(world: World, relay: Relay, customers: Sequence[tuple[int, Customer]]) -> None:
    """Post webhooks for all customers in full requests, a few at once."""
    begin = datetime.now(UTC)
    requests = (customers[place : place + PER_REQUEST] for place in range(0, len(customers), PER_REQUEST))

    async def work() -> None:
        for some in requests:
            answer = await world.post_many(relay, "crm", [webhook(*one, begin) for one in some])
            assert answer["accepted"] == len(some)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(2):
            tasks.create_task(work())


async def flush(world: World, relay: Relay, login: str) -> None:
    """Ask for a flush as an operator does, and wait until all customers have been accepted."""
    await world.api(relay, "POST", f"/v1/logins/{login}/flush")

    async def accepted() -> bool:
        done = await world.value("select sum(rows) from batch where login = $1 and state = 'accepted'", login)
        return bool(done == CUSTOMERS)

    await until(f"{login} has accepted all", accepted, 60)


async def check_files(world: World, uploads: list[Upload], rows: Sequence[Sequence[str]]) -> None:
    """As many files as greedy filling needs, each of exactly its size, in the log's order."""
    ids = await world.rows("select message_id from event where account = 'big' order by id")
    order = [int(row["message_id"].removeprefix("big-")) for row in ids]
    sizes = [line_bytes(rows[number]) for number in order]
    needed = files_needed(sizes, line_bytes(COLUMNS))
    assert [(upload.rows, upload.file_bytes) for upload in uploads] == [(lines, size) for lines, size, _ in needed]
    assert len(needed) == -(-sum(sizes) // FILE_BYTES_MAX) == 3
    for upload, (_, size, next_line) in zip(uploads, needed, strict=True):
        assert size <= FILE_BYTES_MAX
        assert upload is uploads[-1] or size + next_line > FILE_BYTES_MAX
    settings = load(world.config, world.env())
    login, news = settings.logins["big"], settings.accounts["big"]
    form = vendor_of(login).upload_form(login, news, Operation.UPSERT, None)
    assert [upload.content_length for upload in uploads] == [body_bytes(form, size) for _, size, _ in needed]
    told = await world.rows(
        "select b.rows, b.bytes, u.bytes_sent from batch b "
        "join upload u on (u.account, u.batch_id) = (b.account, b.id) where b.account = 'big' order by b.id"
    )
    assert [tuple(row) for row in told] == [(u.rows, u.file_bytes, u.content_length) for u in uploads]


def check_readers(sim: HaihaiSim, contract: str, rows: Sequence[Sequence[str]]) -> None:
    """Every customer is at the vendor, with every cell."""
    readers = {tuple(reader.values) for reader in sim.readers_of(contract).everyone()}
    assert len(readers) == len(rows)
    assert readers == set(rows)
