"""Uploads to a candidate's simulator, over HTTP, with relay's own client."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from relay import csvline
from relay.batches import Busy
from relay.client import Client, Uploaded, UploadJob
from relay.client.body import frame
from relay.client.wire import read, url_of
from relay.columns import Plan
from relay.demo.sim_control import seen
from relay.demo.sim_server import Sim
from relay.events import Operation
from relay.metrics import Metrics
from relay.settings import Account, Login
from relay.spool import Spool, SpoolFile, file_name
from relay.vendors import Reply, vendor_of
from tests.conformance.candidates import Candidate
from tests.conformance.golden import BOUNDARY


def customers(rows: int) -> list[Mapping[str, object]]:
    """Make so many customers."""
    return [{"email": f"c{number}@example.jp", "name": "表㈱", "birthday": "2013-01-01"} for number in range(rows)]


CUSTOMERS = customers(3)
ADDRESSES = {str(customer["email"]) for customer in CUSTOMERS}


@dataclass(frozen=True, slots=True)
class Uploading:
    """A simulator that is served, and a client to upload to it."""

    candidate: Candidate
    sim: Sim
    login: Login
    account: Account
    client: Client
    files: dict[Operation, SpoolFile]

    async def load(self, operation: Operation = Operation.UPSERT, login: Login | None = None) -> Uploaded:
        """Upload the file of an operation once."""
        job = UploadJob(login or self.login, self.account, operation, self.files[operation], lambda: 60.0)
        return await self.client.upload(job)

    async def answer(self, operation: Operation = Operation.UPSERT) -> Reply:
        """Upload the file of an operation once, and give the vendor's answer as it came."""
        adapter = self.candidate.adapter
        async with aiohttp.ClientSession() as session:
            token = None
            if adapter.needs_token:
                call = adapter.login_call(self.login)
                async with session.post(url_of(self.login, call.path), data=dict(call.fields)) as response:
                    said = adapter.read_token(await read(response))
                assert isinstance(said, str)
                token = said
            form = adapter.upload_form(self.login, self.account, operation, token)
            head, tail = frame(form, BOUNDARY)
            body = head + self.files[operation].path.read_bytes() + tail
            kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
            async with session.post(url_of(self.login, form.path), data=body, headers=kind) as response:
                return await read(response)

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
async def uploading(
    candidate: Candidate,
    folder: Path,
    *,
    rows: int = len(CUSTOMERS),
    sim: Sim | None = None,
    columns: Mapping[str, str] | None = None,
    **settings: object,
) -> AsyncIterator[Uploading]:
    """Serve a candidate's simulator for the length of the block, with the files of all its operations spooled.

    The files are of so many customers. `columns` are more than the account's usual ones, `settings` the login's.
    """
    sim, spool = sim or candidate.sim(), Spool(folder)
    async with sim.serve() as url, Client(Metrics(), spool) as client:
        login = candidate.login(base_url=url + candidate.base_path, **settings)
        to = candidate.to(login)
        to = candidate.to(login, columns={**to.columns, **(columns or {})})
        files = {}
        for number, operation in enumerate(map(Operation, login.operations)):
            files[operation] = await _spooled(spool, file_name(number), login, to, operation, rows)
        yield Uploading(candidate, sim, login, to, client, files)


async def _spooled(spool: Spool, name: str, login: Login, to: Account, operation: Operation, rows: int) -> SpoolFile:
    columns = vendor_of(login).columns(login, to, operation)
    plan = Plan(columns, to.address)

    async def lines() -> AsyncIterator[bytes]:
        yield csvline.record(list(columns))
        for data in customers(rows):
            yield csvline.record(plan.render(data, to.unencodable).cells)

    return await spool.write(name, lines(), rows)
