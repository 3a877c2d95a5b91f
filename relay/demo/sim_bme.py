"""blastmail and blaynmail, simulated: one REST API under two brands; an import answers when it is done.

Sources: the API documents of both. One server holds many contracts, told apart by their access tokens. Texts of
messages are made up but for `Failure_Request during processing` and `Failure_Data is incorrect`, which public sources
show.
"""

import secrets
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

from aiohttp import web

from relay.demo import sim_bme_replies as replies
from relay.demo.sim_bme_records import CREATE_ERROR, DELETE_ERROR, ErrorRecords, RecordStyle
from relay.demo.sim_bme_replies import Brand, Format
from relay.demo.sim_control import read_json
from relay.demo.sim_csv import ENCODING, BadFile, record
from relay.demo.sim_faults import Call as On
from relay.demo.sim_faults import Fault, Kind
from relay.demo.sim_form import Head
from relay.demo.sim_readers import BmeColumns, BmeReaders, Import, Readers, Refuse
from relay.demo.sim_server import Answer, Call, Sim, Whose, too_large

JAPAN = timezone(timedelta(hours=9))

DATE_FORMAT = "%Y%m%dT%H:%M:%S"
"""How the documents write times."""

BASE_PATH = "/rest/1.0"
"""Where the API stands below the server's URL, as at api.bme.jp."""

BUSY = "Failure_Request during processing"
BAD_DATA = "Failure_Data is incorrect"
BAD_TOKEN = "Failure_Access token is invalid"  # noqa: S105 - a message
BAD_LOGIN = "Failure_Authentication"

_FAULTS: Mapping[str, tuple[int, str]] = {
    "busy": (400, BUSY),
    "expired_token": (401, BAD_TOKEN),
    "refuse_file": (400, BAD_DATA),
}

_WANTED: web.RequestKey[Format] = web.RequestKey("wanted", str)  # type: ignore[arg-type] # one of two strings
"""The format in which the client of a request wants its answer."""


@dataclass(frozen=True, slots=True)
class TemplateStyle:
    """How templates are written, of which nothing is documented: encoding, quotes, line ends, sample rows below."""

    encoding: str = ENCODING
    quoted: bool = True
    line_end: str = "\r\n"
    samples: int = 0

    def write(self, header: tuple[str, ...]) -> bytes:
        """Write a template."""
        lines = [header, *(tuple(f"見本{n}" for _ in header) for n in range(self.samples))]
        written = [record(line) if self.quoted else ",".join(line) for line in lines]
        return "".join(line + self.line_end for line in written).encode(self.encoding, "replace")


@dataclass(frozen=True, slots=True)
class BmeContract:
    """One contract. `columns` are its items' names; 状態 and エラーカウント are always there.

    `dates` and `required` name items that must be dates or may not be empty. `import_s` is how long an import takes,
    at least and at most, and `row_s` how much longer for each row. With `trash_blocks` a deleted reader cannot be
    registered anew until the trash is purged. `token_begins` is what all its tokens begin with. `template` is how its
    templates are written, `records` how its error records' files are.
    """

    username: str
    password: str = field(repr=False)
    api_key: str = field(repr=False)
    columns: tuple[str, ...] = ("氏名", "フリガナ", "生年月日", "都道府県")
    address_header: str = "E-Mail"
    status_header: str = "状態"
    dates: frozenset[str] = frozenset({"生年月日"})
    required: frozenset[str] = frozenset()
    file_field: str = "import"
    bytes_max: int = 10_000_000
    token_lifetime_s: float = 3_600
    token_begins: str = field(default="", repr=False)
    import_s: tuple[float, float] = (0.0, 0.0)
    row_s: float = 0.0
    trash_blocks: bool = False
    template: TemplateStyle = TemplateStyle()
    records: RecordStyle = field(default_factory=RecordStyle)

    @property
    def name(self) -> str:
        """The name by which the control API knows it."""
        return self.username

    def names(self) -> BmeColumns:
        """Return the names of all its items."""
        items = tuple(self.columns)
        dates = self.dates & frozenset(items)
        return BmeColumns(self.address_header, self.status_header, items=items, dates=dates, required=self.required)


@dataclass(slots=True)
class _Office:
    """What changes at one contract."""

    contract: BmeContract
    readers: BmeReaders
    records: ErrorRecords = field(default_factory=ErrorRecords)
    importing: bool = False


@dataclass(frozen=True, slots=True)
class _Token:
    office: _Office
    ends: float


class BmeSim(Sim):
    """The vendor's server.

    Besides the common control API there are:

        POST  /_sim/expire-tokens   {"contract": null or a name}
        POST  /_sim/items           {"contract": a name, "item": a name}: a person adds an item
    """

    def __init__(self, *contracts: BmeContract, brand: Brand = "blastmail", seed: int = 0) -> None:
        own_faults: frozenset[Kind] = frozenset({"busy", "expired_token", "wrong_counts", "wrong_lines", "xml"})
        super().__init__(own_faults, max(c.bytes_max for c in contracts), seed)
        self.brand: Brand = brand
        self._offices = {c.name: _Office(c, BmeReaders(c.names(), trash_blocks=c.trash_blocks)) for c in contracts}
        self._tokens: dict[str, _Token] = {}
        self.ahead_s = 0.0
        """By how much the vendor's clock is ahead of everybody's, as error records and their lists tell it."""
        self.record_calls: Counter[str] = Counter()
        """Calls about error records that were let in, by fault's name for them."""

    @property
    def base_url(self) -> str:
        """The API's base URL while it is served."""
        return self.url + BASE_PATH

    def routes(self) -> list[web.RouteDef]:
        """Return the vendor's routes and the one to expire tokens."""
        contact = BASE_PATH + "/contact/import"
        return [
            web.post(BASE_PATH + "/authenticate/login", self._login),
            web.get(contact + "/usage", self._usage),
            web.post(contact + "/{operation:all|create|update|delete}", self.take),
            web.get(contact + "/error/search", self._search_errors),
            web.get(contact + "/error/export", self._export_errors),
            web.post(contact + "/error/delete", self._delete_errors),
            web.post("/_sim/expire-tokens", self._expire_tokens),
            web.post("/_sim/items", self._add_item),
        ]

    def lists(self) -> Iterator[tuple[str, str, Readers]]:
        """Yield each contract's one list."""
        for name, office in self._offices.items():
            yield name, "", office.readers

    # -- the upload --------------------------------------------------------------------------------------------------

    def whose(self, request: web.Request, head: Head) -> Whose | None:
        """Find the contract by the token's text part, be the token still good or not."""
        request[_WANTED] = _format(head.get("f"), request)
        token = self._tokens.get(head.get("access_token") or "")
        if token is None:
            return None
        contract = token.office.contract
        return Whose(contract.name, contract.bytes_max, "", request.match_info["operation"])

    async def judge(self, call: Call) -> web.Response:
        """Check token, file part and size, then import, one file at a time. Raises Answer."""
        token = call.head.get("access_token") or ""
        office = self._office(token, call.request)
        contract, upload = office.contract, call.upload
        if call.head.file_field != contract.file_field:
            raise self._failure(400, BAD_DATA, call.request)
        upload.file_bytes = len(call.file)
        if len(call.file) > contract.bytes_max:
            raise Answer(too_large())
        if office.importing:
            self.record.of(contract.name).busy += 1
            raise self._failure(400, BUSY, call.request)
        fault = self.faults.meet("upload", contract.name, upload.operation, call.file)
        upload.fault = fault.fault if fault else upload.fault
        if fault is not None and fault.fault == "expired_token":
            del self._tokens[token]
        work = await self._import(call, office, fault)
        await self.misbehave(fault, call.request, applied=True)
        return self._counted(work, fault, call.request)

    async def _import(self, call: Call, office: _Office, fault: Fault | None) -> Import:
        office.importing = True
        try:
            await self.misbehave(fault, call.request, applied=False)
            refuse = fault.refusal if fault is not None and fault.fault == "reject_lines" else None
            work = self._read_file(call, office, refuse)
            await self.pause(self.random.uniform(*office.contract.import_s) + office.contract.row_s * work.sheet.rows)
            await self.run_import(work)
        finally:
            office.importing = False
        call.upload.applied = True
        self.record.imported(call.upload, office.contract.name, work)
        self._keep_errors(office, call.request.match_info["operation"], work)
        return work

    def _read_file(self, call: Call, office: _Office, refuse: Refuse | None) -> Import:
        name = office.contract.name
        counts = self.record.of(name)
        counts.bytes += len(call.file)
        self.record.keep_file(name, call.file)
        try:
            work = Import(office.readers, call.request.match_info["operation"], call.file, refuse)
        except BadFile:
            counts.bad_files += 1
            raise self._failure(400, BAD_DATA, call.request) from None
        if not work.sheet.rows:
            raise self._failure(400, BAD_DATA, call.request)
        counts.applied += 1
        return work

    def _counted(self, work: Import, fault: Fault | None, request: web.Request) -> web.Response:
        success, failures, wanted = work.success, work.failures, request[_WANTED]
        failure = len(failures)
        if fault is not None and fault.fault == "wrong_counts":
            success, failure = success + fault.success_by, failure + fault.failure_by
        if fault is not None and fault.fault == "wrong_lines":
            failures = [replace(found, line=found.line + fault.shift) for found in failures]
        if fault is not None and fault.fault == "xml":
            wanted = "xml"
        return _reply(200, replies.counted(success, failure, failures, wanted), wanted)

    def _keep_errors(self, office: _Office, operation: str, work: Import) -> None:
        kind = DELETE_ERROR if operation == "delete" else CREATE_ERROR
        date = self._now().astimezone(JAPAN).strftime(DATE_FORMAT)
        office.records.keep(kind, date, work.sheet.header, work.failures)

    def _now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.ahead_s)

    # -- the other calls ---------------------------------------------------------------------------------------------

    async def _login(self, request: web.Request) -> web.Response:
        form = {key: value for key, value in (await request.post()).items() if isinstance(value, str)}
        request[_WANTED] = _format(form.get("f"), request)
        office = self._offices.get(form.get("username", ""))
        if office is None:
            raise self._failure(401, BAD_LOGIN, request)
        contract, counts = office.contract, self.record.of(office.contract.name)
        fault = self.faults.meet("login", contract.name)
        await self.misbehave(fault, request, applied=False)
        if (form.get("password"), form.get("api_key")) != (contract.password, contract.api_key):
            counts.unauthorized += 1
            raise self._failure(401, BAD_LOGIN, request)
        counts.logins += 1
        token = contract.token_begins + secrets.token_hex(16)
        self._tokens[token] = _Token(office, self.record.clock() + contract.token_lifetime_s)
        await self.misbehave(fault, request, applied=True)
        wanted: Format = "xml" if fault is not None and fault.fault == "xml" else request[_WANTED]
        return _reply(200, replies.token(token, wanted), wanted)

    async def _usage(self, request: web.Request) -> web.Response:
        office = self._asked(request)
        fault = self.faults.meet("usage", office.contract.name)
        await self.misbehave(fault, request, applied=False)
        operation = {"1": "all", "2": "delete"}.get(request.query.get("type", ""))
        if operation is None:
            raise self._failure(400, "Failure_type is incorrect", request)
        self.record.of(office.contract.name).templates += 1
        await self.misbehave(fault, request, applied=True)
        return _file(
            "contact_import_usage.csv", office.contract.template.write(office.readers.names.template(operation))
        )

    async def _search_errors(self, request: web.Request) -> web.Response:
        office = self._asked(request)
        fault = await self._about_records("error_search", office, request, request.query.get("access_token", ""))
        given = {CREATE_ERROR: request.query.get("createErrors"), DELETE_ERROR: request.query.get("deleteErrors")}
        found = office.records.found({kind: self._date(date, request) for kind, date in given.items() if date})
        wanted: Format = "xml" if fault is not None and fault.fault == "xml" else request[_WANTED]
        await self.misbehave(fault, request, applied=True)
        return self._dated(_reply(200, replies.error_records(found, wanted), wanted))

    async def _export_errors(self, request: web.Request) -> web.Response:
        office = self._asked(request)
        fault = await self._about_records("error_export", office, request, request.query.get("access_token", ""))
        kind, date = request.query.get("type", ""), self._date(request.query.get("date", ""), request)
        body = office.records.export(kind, date, office.contract.records)
        if body is None:
            raise self._failure(400, "Failure_No such error", request)
        await self.misbehave(fault, request, applied=True)
        return self._dated(_file("error.csv", body))

    async def _delete_errors(self, request: web.Request) -> web.Response:
        form = {key: value for key, value in (await request.post()).items() if isinstance(value, str)}
        request[_WANTED] = _format(form.get("f"), request)
        token = form.get("access_token", "")
        office = self._office(token, request)
        fault = await self._about_records("error_delete", office, request, token)
        given = {CREATE_ERROR: form.get("createErrors"), DELETE_ERROR: form.get("deleteErrors")}
        dates = {kind: self._date(date, request) for kind, date in given.items() if date}
        gone = [date for kind, date in dates.items() if office.records.delete(kind, date)]
        if not gone:
            raise self._failure(400, "Failure_No such error", request)
        wanted: Format = "xml" if fault is not None and fault.fault == "xml" else request[_WANTED]
        await self.misbehave(fault, request, applied=True)
        return self._dated(_reply(200, replies.deleted(gone[0], self.brand, wanted), wanted))

    async def _about_records(self, on: On, office: _Office, request: web.Request, token: str) -> Fault | None:
        """Count a call about error records, and do what is armed for it. Raises Answer."""
        self.record_calls[on] += 1
        fault = self.faults.meet(on, office.contract.name)
        if fault is not None and fault.fault == "expired_token":
            del self._tokens[token]
        await self.misbehave(fault, request, applied=False)
        return fault

    def _date(self, text: str, request: web.Request) -> str:
        """Take a time as the documents write it. Raises Answer."""
        try:
            datetime.strptime(text, DATE_FORMAT)  # noqa: DTZ007 - in Japan
        except ValueError:
            raise self._failure(400, "Failure_date is incorrect", request) from None
        return text

    def _dated(self, response: web.Response) -> web.Response:
        response.headers["Date"] = format_datetime(self._now(), usegmt=True)
        return response

    async def _expire_tokens(self, request: web.Request) -> web.Response:
        contract = (await read_json(request)).get("contract")
        for value, token in tuple(self._tokens.items()):
            if contract in (None, token.office.contract.name):
                self._tokens[value] = replace(token, ends=float("-inf"))
        return web.Response(status=204)

    async def _add_item(self, request: web.Request) -> web.Response:
        given = await read_json(request)
        office, item = self._offices.get(str(given.get("contract"))), given.get("item")
        if office is None or not isinstance(item, str):
            raise web.HTTPBadRequest(text='expected {"contract": a known one, "item": a name}')
        office.readers.add_item(item)
        return web.Response(status=204)

    # -- answers -----------------------------------------------------------------------------------------------------

    def _asked(self, request: web.Request) -> _Office:
        """Return whose token a GET carries in its query. Raises Answer."""
        if "format" in request.query:
            request[_WANTED] = "json"
            raise self._failure(500, "illegal format: json,json", request)
        request[_WANTED] = _format(None, request)
        return self._office(request.query.get("access_token", ""), request)

    def _office(self, value: str, request: web.Request) -> _Office:
        token = self._tokens.get(value)
        if token is None or token.ends <= self.record.clock():
            if token is not None:
                self.record.of(token.office.contract.name).unauthorized += 1
            raise self._failure(401, BAD_TOKEN, request)
        return token.office

    def _failure(self, status: int, message: str, request: web.Request) -> Answer:
        wanted: Format = request.get(_WANTED, "xml")
        return Answer(_reply(status, replies.error(message, wanted), wanted))

    def bad_form(self, request: web.Request, _message: str) -> web.Response:
        """Answer a body that is no form."""
        return self._failure(400, BAD_DATA, request).response

    def fault_answer(self, fault: Fault, request: web.Request) -> web.Response:
        """Answer as busy, with a token that is no longer good, or refusing the whole file."""
        status, message = _FAULTS[fault.fault]
        return self._failure(status, fault.body or message, request).response


def _format(asked: str | None, request: web.Request) -> Format:
    return "json" if (asked or request.query.get("f")) == "json" else "xml"


def _reply(status: int, text: str, wanted: Format) -> web.Response:
    return web.Response(status=status, text=text, content_type=f"application/{wanted}")


def _file(name: str, body: bytes) -> web.Response:
    return web.Response(
        body=body,
        content_type="application/octet-stream",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )
