"""The simulated vendors as the model of opt-outs needs them: all that they do happens when they are told to.

They remember every file that they imported, line by line, so that what relay tells can be held against it.
"""

import asyncio
import hashlib
from collections import deque
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field

from aiohttp import web

from relay.demo import sim_csv
from relay.demo.sim_bme import BmeContract, BmeSim
from relay.demo.sim_haihai import HaihaiContract, HaihaiSim
from relay.demo.sim_readers import MAILABLE, NOT_THERE, Import
from relay.demo.sim_server import Sim

PASSWORD = "a vendor's password"
COLUMNS = ("氏名",)
FILES_KEPT = 10_000
HELD_S = 100.0
"""A pause of this length or more lasts until the vendor is told to go on."""


@dataclass(frozen=True, slots=True)
class Imported:
    """One file that was imported, or begun to be: by line its addresses, all its cells, and why it failed."""

    sha256: str
    addresses: dict[int, str]
    cells: dict[int, tuple[str, ...]]
    failures: dict[int, str]

    def has(self, line: int, address: str) -> bool:
        """Whether the line named the address and was done: also where there was nobody to stop or delete."""
        return self.addresses.get(line) == address and self.failures.get(line) in (None, NOT_THERE)


@dataclass
class Told:
    """What a vendor is told. `undoes`: its upserts make stopped readers mailable again, the worst that may be.

    `breaks_at` makes the next import break down after so many rows, once. While `go` is not set, long pauses last;
    `held` counts them.
    """

    undoes: bool = False
    breaks_at: int | None = None
    go: asyncio.Event = field(default_factory=asyncio.Event)
    held: int = 0
    imported: list[Imported] = field(default_factory=list)


async def run_import(told: Told, work: Import) -> None:
    """Apply a file line by line, perhaps not to its end."""
    data, readers = bytes(work._data), work._readers  # noqa: SLF001 - what it imports is nobody's business but ours
    rows = dict(sim_csv.rows(data))
    place = work.sheet.header.index(readers.address_column)
    breaks_at, told.breaks_at = told.breaks_at, None
    done = {}
    for step, _ in enumerate(work.steps(rows_per_step=1), 1):
        line = step + 1
        done[line] = rows[line][place]
        if breaks_at is not None and step >= breaks_at:
            break
    failures = {failure.line: failure.message for failure in work.failures}
    cells = {line: tuple(rows[line]) for line in done}
    told.imported.append(Imported(hashlib.sha256(data).hexdigest(), done, cells, failures))
    registers = work._operation in {"all", "create", "register", "register_new"}  # noqa: SLF001 - as above
    for address in done.values() if told.undoes and registers else ():
        reader = readers.find(address)
        if reader is not None:
            reader.state = MAILABLE
    if breaks_at is not None:
        raise web.HTTPInternalServerError(text="the vendor broke down in the middle of an import")


async def held(told: Told, seconds: float) -> bool:
    """Wait until the vendor is told to go on, if this is a long pause; say whether it is."""
    if seconds < HELD_S:
        return False
    told.held += 1
    await told.go.wait()
    told.held -= 1
    return True


async def go_on(told: Told) -> None:
    """Let all that is held go on."""
    told.go.set()
    while told.held:  # noqa: ASYNC110 - no event tells it
        await asyncio.sleep(0)
    told.go.clear()


class Blast(BmeSim):
    """blastmail, which imports at once."""

    def __init__(self) -> None:
        super().__init__(BmeContract("user", PASSWORD, PASSWORD, columns=COLUMNS))
        self.told = Told()
        self.record.files = deque(maxlen=FILES_KEPT)

    async def run_import(self, work: Import) -> None:
        """Apply a file as told."""
        await run_import(self.told, work)

    async def pause(self, seconds: float) -> None:
        """Wait, or be held."""
        if not await held(self.told, seconds):
            await super().pause(seconds)

    async def import_all(self, order: int = 0) -> None:
        """Let imports that are held go on."""
        del order
        await go_on(self.told)
        while any(office.importing for office in self._offices.values()):  # noqa: ASYNC110 - no event tells it
            await asyncio.sleep(0)


class Hai(HaihaiSim):
    """配配メール, which imports when it is told to, in the order in which it is told."""

    def __init__(self) -> None:
        super().__init__(HaihaiContract(1, "user", PASSWORD, columns=("メールアドレス", *COLUMNS), calls_per_day=None))
        self.told = Told()
        self.record.files = deque(maxlen=FILES_KEPT)
        self.accepted: list[Coroutine[None, None, None]] = []

    async def run_import(self, work: Import) -> None:
        """Apply a file as told."""
        await run_import(self.told, work)

    def later(self, work: Coroutine[None, None, None]) -> None:
        """Keep a file that was accepted."""
        self.accepted.append(work)

    async def pause(self, seconds: float) -> None:
        """Wait, or be held."""
        if not await held(self.told, seconds):
            await super().pause(seconds)

    async def import_all(self, order: int = 0) -> None:
        """Import what was accepted, from the last to the first where `order` is odd."""
        await go_on(self.told)
        accepted, self.accepted = self.accepted, []
        for work in reversed(accepted) if order % 2 else accepted:
            await work


Vendor = Blast | Hai


def mailable(sim: Sim, contract: str, address: str) -> bool:
    """Whether the vendor would send mail there."""
    reader = sim.readers_of(contract).find(address)
    return reader is not None and reader.state == MAILABLE


def done(imported: Iterable[Imported], cell: str) -> bool:
    """Whether the vendor has imported a line with such a cell."""
    return any(cell in cells and line not in one.failures for one in imported for line, cells in one.cells.items())


def carried(imported: Iterable[Imported], sha256: str | None, address: str, line: int | None = None) -> bool:
    """Whether the vendor has imported such a file with the address in that line, or in any."""
    files = (one for one in imported if one.sha256 == sha256)
    return any(one.has(number, address) for one in files for number in ((line,) if line else one.addresses))
