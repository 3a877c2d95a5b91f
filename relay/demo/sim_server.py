"""What the simulated vendors have in common: a real HTTP server, how an upload is taken, how it goes wrong on demand.

Theory of operation. An upload is read as a vendor's front server reads it: a body of unknown length gets 411, one that
is too large 413 before it is read. Whose it is shows in the text parts, before the file: from then on the upload is
under way for its contract, and a second one meanwhile is an overlap. Only when the body is whole does the vendor look
at it (`judge`). A client that leaves early does not stop an import that has begun, as at the real vendors.
"""

import asyncio
import random
import socket
import struct
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import NoReturn, Protocol

from aiohttp import web
from aiohttp.typedefs import Handler

from relay.demo import sim_control
from relay.demo.sim_faults import Fault, Faults, Kind
from relay.demo.sim_form import HEAD_BYTES_MAX, BadForm, Form, Head
from relay.demo.sim_readers import Import, Readers
from relay.demo.sim_record import Record, Upload

COMMON_FAULTS: frozenset[Kind] = frozenset(
    {
        "status",
        "slow",
        "hang",
        "reset_before_body",
        "reset_during_body",
        "reset_after_body",
        "lost_reply",
        "html",
        "reject_lines",
        "refuse_file",
        "too_large",
        "retry_after",
    }
)

HTML = "<!DOCTYPE html><html><head><title>{0}</title></head><body><h1>{0}</h1></body></html>"


class Answer(Exception):
    """Ends a request with this response."""

    def __init__(self, response: web.Response) -> None:
        super().__init__(response.status)
        self.response = response


class Contract(Protocol):
    """What every vendor's contract has."""

    @property
    def name(self) -> str:
        """The name by which the control API and the counts know it."""

    @property
    def bytes_max(self) -> int:
        """The largest file it takes."""


@dataclass(frozen=True, slots=True)
class Whose:
    """Whose an upload is: the contract's name and file limit, the list, the operation."""

    contract: str
    bytes_max: int
    list_name: str
    operation: str


@dataclass(slots=True)
class Call:
    """A whole upload: its request, its text parts, its file part's name and its file."""

    request: web.Request
    upload: Upload
    head: Head
    file: bytearray


class Sim(ABC):
    """One vendor's server. `faults` and `record` may be used directly by tests in the same process."""

    def __init__(self, known: frozenset[Kind], bytes_max: int, seed: int) -> None:
        self.faults = Faults(COMMON_FAULTS | known)
        self.record = Record(time.monotonic)
        self.random = random.Random(seed)
        self.url = ""
        self._bytes_max = bytes_max
        self._closing = asyncio.Event()
        self._later: set[asyncio.Task[None]] = set()

    # -- what a vendor adds ------------------------------------------------------------------------------------------

    @abstractmethod
    def routes(self) -> list[web.RouteDef]:
        """Return the vendor's own routes, its own control routes included."""

    @abstractmethod
    def lists(self) -> Iterator[tuple[str, str, Readers]]:
        """Yield each list with its contract's name and its own ("" is the contract's main list)."""

    @abstractmethod
    def whose(self, request: web.Request, head: Head) -> Whose | None:
        """Say whose an upload is, as far as the text parts tell; None if nobody's."""

    @abstractmethod
    async def judge(self, call: Call) -> web.Response:
        """Look at a whole upload and answer it. Raises Answer."""

    @abstractmethod
    def bad_form(self, request: web.Request, message: str) -> web.Response:
        """Answer a body that is no form."""

    @abstractmethod
    def fault_answer(self, fault: Fault, request: web.Request) -> web.Response:
        """Answer with a fault whose look depends on the vendor."""

    # -- for those who use it ----------------------------------------------------------------------------------------

    @asynccontextmanager
    async def serve(self, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
        """Serve until the context ends, and yield the server's URL without a slash at the end.

        What the vendor remembers outlives it, so a vendor that was away can come back on the same port. Imports that
        were to be done later are done when it ends.
        """
        self._closing = asyncio.Event()
        app = web.Application(middlewares=[_answer])
        app.add_routes([*self.routes(), *sim_control.routes(self)])
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0, handle_signals=False)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
            bound_port = runner.addresses[0][1]
            self.url = f"http://{host}:{bound_port}"
            yield self.url
        finally:
            self._closing.set()
            await runner.cleanup()
            await self.settled()

    def readers_of(self, contract: str | int, list_name: str = "") -> Readers:
        """Return a contract's list. Raises KeyError."""
        for of, name, readers in self.lists():
            if (of, name) == (str(contract), list_name):
                return readers
        raise KeyError(f"no contract {contract} with a list {list_name!r}")

    def readers(self, contract: str | int, list_name: str = "") -> dict[str, sim_control.Seen]:
        """Return a contract's list as it now stands, by address as last written. Raises KeyError."""
        readers = self.readers_of(contract, list_name)
        return {reader.address: sim_control.seen(readers, reader) for reader in readers.everyone()}

    def pending_imports(self) -> int:
        """Return how many accepted files are yet to be imported."""
        return sum(not task.done() for task in self._later)

    async def settled(self) -> None:
        """Wait until every accepted file has been imported. Raises what an import raised, which is a bug of ours."""
        while self._later:
            done, _ = await asyncio.wait(self._later)
            self._later -= done
            for task in done:
                task.result()

    # -- taking an upload --------------------------------------------------------------------------------------------

    async def take(self, request: web.Request) -> web.Response:
        """Take one upload from its headers to its answer."""
        upload = self.record.begin(request.content_length, lambda: _gone(request))
        status = None
        try:
            response = await self._take(request, upload)
            status = None if _gone(request) else response.status
        finally:
            self.record.end(upload, status)
        return response

    async def _take(self, request: web.Request, upload: Upload) -> web.Response:
        try:
            early = self.faults.meet_early(None, None)
            if early is not None:
                upload.fault = early.fault
                reset(request)
            if request.content_length is None:
                return web.Response(status=411, text=HTML.format("411 Length Required"), content_type="text/html")
            form = Form(request.headers.get("Content-Type", ""))
            head = await self._read(request, form, upload)
            file = bytearray() if head.file_field is None else form.file()
            return await self.judge(Call(request, upload, head, file))
        except BadForm as bad:
            return self.bad_form(request, str(bad))
        except Answer as answer:
            return answer.response

    async def _read(self, request: web.Request, form: Form, upload: Upload) -> Head:
        """Read the whole body; on the way find out whose it is. Raises Answer for one too large."""
        read, bytes_max, cut_at = 0, self._bytes_max, None
        head: Head | None = None
        try:
            while chunk := await request.content.readany():
                read += len(chunk)
                form.feed(chunk)
                if head is None and form.head is not None:
                    head = form.head
                    bytes_max, cut_at = self._identify(request, head, upload)
                if cut_at is not None and read >= cut_at:
                    reset(request)
                if (request.content_length or 0) > bytes_max + HEAD_BYTES_MAX:
                    raise Answer(too_large())
        except OSError:
            self._note_broken(upload)
            raise Answer(web.Response(status=400)) from None
        if head is None:
            raise BadForm("expected a form with a file")
        return head

    def _identify(self, request: web.Request, head: Head, upload: Upload) -> tuple[int, int | None]:
        """Note whose the upload is; returns the file limit, and after how many bytes to reset (None: never)."""
        upload.field_names = tuple(name for name, _ in head.fields)
        whose = self.whose(request, head)
        if whose is None:
            return self._bytes_max, None
        upload.list_name, upload.operation = whose.list_name, whose.operation
        self.record.identify(upload, whose.contract)
        early = self.faults.meet_early(whose.contract, whose.operation)
        if early is None:
            return whose.bytes_max, None
        upload.fault = early.fault
        return whose.bytes_max, early.n_bytes if early.fault == "reset_during_body" else 0

    def _note_broken(self, upload: Upload) -> None:
        if upload.contract is not None:
            self.record.of(upload.contract).broken += 1

    # -- going wrong -------------------------------------------------------------------------------------------------

    async def misbehave(self, fault: Fault | None, request: web.Request, *, applied: bool) -> None:
        """Do what a fault says at this point: wait, break the connection or raise Answer; or nothing."""
        if fault is None or fault.applied != applied:
            return
        match fault.fault:
            case "slow":
                await self.pause(fault.seconds)
            case "hang":
                await self._hang(request)
            case "reset_after_body":
                reset(request)
            case "lost_reply":
                hang_up(request)
            case _:
                said = self._said(fault, request)
                if said is not None:
                    raise Answer(said)

    def _said(self, fault: Fault, request: web.Request) -> web.Response | None:
        """Return the answer that a fault is; None for those that show in the import or in the vendor's own answer."""
        match fault.fault:
            case "status":
                return web.Response(status=fault.status, text=fault.body)
            case "html":
                text = fault.body or HTML.format("ただいまメンテナンス中です")
                return web.Response(status=fault.status, text=text, content_type="text/html")
            case "retry_after":
                headers = {"Retry-After": f"{fault.seconds:.0f}"}
                return web.Response(status=fault.status, text=fault.body, headers=headers)
            case "too_large":
                return too_large()
            case "code" | "busy" | "expired_token" | "refuse_file":
                return self.fault_answer(fault, request)
            case _:
                return None

    async def pause(self, seconds: float) -> None:
        """Wait, but no longer than the server lives."""
        try:
            await asyncio.wait_for(self._closing.wait(), seconds)
        except TimeoutError:
            return

    async def _hang(self, request: web.Request) -> None:
        while not _gone(request) and not self._closing.is_set():
            await self.pause(0.02)
        reset(request)

    # -- importing ---------------------------------------------------------------------------------------------------

    def later(self, work: Coroutine[None, None, None]) -> None:
        """Do something after the answer; `settled` and the end of `serve` wait for it.

        What went well is forgotten here, as a vendor may run for weeks before anybody waits.
        """
        self._later = {task for task in self._later if not _went_well(task)}
        self._later.add(asyncio.create_task(work))

    async def run_import(self, work: Import) -> None:
        """Apply a file, giving way to other requests on the way."""
        for _ in work.steps():
            await asyncio.sleep(0)


@web.middleware
async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Answer as answer:
        return answer.response


def too_large() -> web.Response:
    """Answer as the front server does that takes no body of this size."""
    text = HTML.format("413 Request Entity Too Large")
    return web.Response(status=413, text=text, content_type="text/html", headers={"Connection": "close"})


def reset(request: web.Request) -> NoReturn:
    """Break the connection with a TCP RST, at once. Raises Answer, which nobody will hear."""
    transport = request.transport
    if transport is not None:
        connection = transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    raise Answer(web.Response(status=400))


def hang_up(request: web.Request) -> NoReturn:
    """Close the connection in an orderly way, without an answer. Raises Answer, which nobody will hear."""
    if request.transport is not None:
        request.transport.close()
    raise Answer(web.Response(status=400))


def _went_well(task: asyncio.Task[None]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


def _gone(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()
