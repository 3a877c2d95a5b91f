"""`/_sim/…`: how tests, benchmarks and the demo look into a simulated vendor and tell it to misbehave.

POST, GET, DELETE  /_sim/faults                     arm a fault (JSON, see `Fault`), list the armed, disarm all
GET, PUT           /_sim/readers?contract=&list=    the list as it now stands; set a reader's state as a person would
GET, DELETE        /_sim/trash?contract=&list=      the deleted readers; purge them
GET, DELETE        /_sim/stats                      counts by contract; forget them
GET                /_sim/uploads                    the last uploads, oldest first, without contents
GET                /_sim/uploads/last?contract=&back=   the bytes of the last small file, or of one before it
POST               /_sim/settle                     answers when every accepted file has been imported
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from aiohttp import web

from relay.demo.sim_faults import Faults
from relay.demo.sim_readers import MAILABLE, Reader, Readers
from relay.demo.sim_record import Record


@dataclass(frozen=True, slots=True)
class Seen:
    """A reader as it stood when somebody looked. `mailable` says whether the vendor would send mail there."""

    state: str
    mailable: bool
    fields: dict[str, str]

    def as_json(self) -> dict[str, Any]:
        """Return it as `/_sim/readers` shows it."""
        return {"state": self.state, "mailable": self.mailable, "fields": self.fields}


def seen(readers: Readers, reader: Reader) -> Seen:
    """Look at one reader."""
    return Seen(reader.state, reader.state == MAILABLE, readers.fields(reader))


class Controlled(Protocol):
    """What the control API needs of a server."""

    faults: Faults
    record: Record

    def lists(self) -> Iterator[tuple[str, str, Readers]]:
        """Yield each list with its contract's name and its own."""

    def readers_of(self, contract: str, list_name: str = "") -> Readers:
        """Return a contract's list. Raises KeyError."""

    def pending_imports(self) -> int:
        """Return how many accepted files are yet to be imported."""

    async def settled(self) -> None:
        """Wait until every accepted file has been imported."""


def routes(sim: Controlled) -> list[web.RouteDef]:
    """Return the control API of one server."""
    control = _Control(sim)
    return [
        web.post("/_sim/faults", control.arm),
        web.get("/_sim/faults", control.armed),
        web.delete("/_sim/faults", control.disarm),
        web.get("/_sim/readers", control.readers),
        web.put("/_sim/readers", control.set_state),
        web.get("/_sim/trash", control.trash),
        web.delete("/_sim/trash", control.purge),
        web.get("/_sim/stats", control.stats),
        web.delete("/_sim/stats", control.forget),
        web.get("/_sim/uploads", control.uploads),
        web.get("/_sim/uploads/last", control.last_file),
        web.post("/_sim/settle", control.settle),
    ]


async def read_json(request: web.Request) -> dict[str, Any]:
    """Read a request's JSON object. Raises 400."""
    try:
        given = json.loads(await request.read())
    except ValueError:
        given = None
    if not isinstance(given, dict):
        raise web.HTTPBadRequest(text="expected a JSON object")
    return given


class _Control:
    def __init__(self, sim: Controlled) -> None:
        self._sim = sim

    async def arm(self, request: web.Request) -> web.Response:
        try:
            fault = self._sim.faults.arm(await read_json(request))
        except ValueError as error:
            raise web.HTTPBadRequest(text=str(error)) from None
        return web.json_response(fault.model_dump(mode="json"), status=201)

    async def armed(self, _request: web.Request) -> web.Response:
        armed = self._sim.faults.armed()
        return web.json_response([{**fault.model_dump(mode="json"), "left": left} for fault, left in armed])

    async def disarm(self, _request: web.Request) -> web.Response:
        return web.json_response({"disarmed": self._sim.faults.disarm()})

    async def readers(self, request: web.Request) -> web.StreamResponse:
        readers = self._list(request)
        return await _stream(request, readers, readers.everyone())

    async def trash(self, request: web.Request) -> web.StreamResponse:
        readers = self._list(request)
        return await _stream(request, readers, readers.trash())

    async def purge(self, request: web.Request) -> web.Response:
        return web.json_response({"purged": self._list(request).purge()})

    async def set_state(self, request: web.Request) -> web.Response:
        given = await read_json(request)
        reader = self._list(request).find(str(given.get("address", "")))
        if reader is None or not isinstance(given.get("state"), str):
            raise web.HTTPBadRequest(text='expected {"address": one of the list, "state": text}')
        reader.state = given["state"]
        return web.Response(status=204)

    async def stats(self, _request: web.Request) -> web.Response:
        record = self._sim.record
        readers: dict[str, dict[str, int]] = {}
        for contract, name, found in self._sim.lists():
            readers.setdefault(contract, {})[name] = len(found)
        return web.json_response(
            {
                "contracts": {
                    contract: {**record.of(contract).as_json(), "readers": lists} for contract, lists in readers.items()
                },
                "overlaps": sum(counts.overlaps for counts in record.counts.values()),
                "uploads": len(record.uploads),
                "answers": {str(status): count for status, count in sorted(record.answers.items())},
                "pending_imports": self._sim.pending_imports(),
            }
        )

    async def forget(self, _request: web.Request) -> web.Response:
        self._sim.record.reset()
        return web.Response(status=204)

    async def uploads(self, _request: web.Request) -> web.Response:
        return web.json_response([upload.as_json() for upload in self._sim.record.uploads])

    async def last_file(self, request: web.Request) -> web.Response:
        back = request.query.get("back", "0")
        if not back.isdecimal():
            raise web.HTTPBadRequest(text="expected `back` to be a number")
        file = self._sim.record.last_file(request.query.get("contract"), int(back))
        if file is None:
            raise web.HTTPNotFound(text="no such file was kept")
        return web.Response(body=file, content_type="application/octet-stream")

    async def settle(self, _request: web.Request) -> web.Response:
        await self._sim.settled()
        return web.Response(status=204)

    def _list(self, request: web.Request) -> Readers:
        try:
            return self._sim.readers_of(request.query.get("contract", ""), request.query.get("list", ""))
        except KeyError as error:
            raise web.HTTPNotFound(text=str(error.args[0])) from None


async def _stream(request: web.Request, readers: Readers, who: Iterator[Reader]) -> web.StreamResponse:
    """Answer with a JSON object of readers by address, piece by piece, as a list can be long."""
    response = web.StreamResponse(headers={"Content-Type": "application/json; charset=utf-8"})
    await response.prepare(request)
    piece, before = ["{"], ""
    for reader in who:
        now = json.dumps(seen(readers, reader).as_json(), ensure_ascii=False)
        piece.append(f"{before}{json.dumps(reader.address)}: {now}")
        before = ",\n"
        if len(piece) >= 1_000:  # noqa: PLR2004 - about 200 kB
            await response.write("".join(piece).encode("utf-8"))
            piece = []
    await response.write(("".join(piece) + "}").encode("utf-8"))
    return response
