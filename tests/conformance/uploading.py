"""Uploads to a candidate's simulator, over HTTP, with relay's own client."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from relay import csvline
from relay.batches import Busy
from relay.client import Client, Uploaded, UploadJob
from relay.columns import Plan
from relay.demo.sim_control import seen
from relay.demo.sim_server import Sim
from relay.events import Operation
from relay.metrics import Metrics
from relay.settings import Login
from relay.spool import Spool, SpoolFile, file_name
from relay.vendors import vendor_of
from tests.conformance.candidates import Candidate

CUSTOMERS = [{"email": f"c{number}@example.jp", "name": "表㈱", "birthday": "2013-01-01"} for number in range(3)]
ADDRESSES = {customer["email"] for customer in CUSTOMERS}


@dataclass(frozen=True, slots=True)
class Uploading:
    """A simulator that is served, and a client to upload to it."""

    candidate: Candidate
    sim: Sim
    login: Login
    client: Client
    files: dict[Operation, SpoolFile]

    async def load(self, operation: Operation = Operation.UPSERT, login: Login | None = None) -> Uploaded:
        """Upload the file of an operation once."""
        login = login or self.login
        job = UploadJob(login, self.candidate.to(login), operation, self.files[operation], lambda: 60.0)
        return await self.client.upload(job)

    async def patiently(self, operation: Operation) -> Uploaded:
        """Upload until the vendor is no longer busy with what it took before."""
        async with asyncio.timeout(10):
            while isinstance((uploaded := await self.load(operation)).outcome, Busy):  # noqa: ASYNC110 - over HTTP
                await asyncio.sleep(0.01)
        return uploaded

    async def mailable(self) -> dict[str, bool]:
        """Who is on the vendor's lists when every import has been done, and whether mail would go there."""
        await self.sim.settled()
        lists = [readers for _, _, readers in self.sim.lists()]
        return {r.address: seen(readers, r).mailable for readers in lists for r in readers.everyone()}


@asynccontextmanager
async def uploading(candidate: Candidate, folder: Path, **settings: object) -> AsyncIterator[Uploading]:
    """Serve a candidate's simulator for the length of the block, with the files of all its operations spooled."""
    sim, spool = candidate.sim(), Spool(folder)
    async with sim.serve() as url, Client(Metrics(), spool) as client:
        login = candidate.login(base_url=url + candidate.base_path, **settings)
        files = {}
        for number, operation in enumerate(map(Operation, login.operations)):
            files[operation] = await _spooled(spool, file_name(number), candidate, operation, login)
        yield Uploading(candidate, sim, login, client, files)


async def _spooled(spool: Spool, name: str, candidate: Candidate, operation: Operation, login: Login) -> SpoolFile:
    to = candidate.to(login)
    columns = vendor_of(login).columns(login, to, operation)
    plan = Plan(columns, to.address)

    async def lines() -> AsyncIterator[bytes]:
        yield csvline.record(list(columns))
        for data in CUSTOMERS:
            yield csvline.record(plan.render(data, to.unencodable).cells)

    return await spool.write(name, lines(), len(CUSTOMERS))
