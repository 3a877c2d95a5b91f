"""配配メール, simulated: it accepts a file at once and imports it later, and counts calls (its API document).

One server holds many contracts, told apart by `aid`. Codes that the vendor's excerpt does not show are guesses: 81404
for the quota; 81432, 81434 and 81436 for the parts that have no documented one.
"""

import asyncio
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from aiohttp import web

from relay.demo.sim_control import read_json
from relay.demo.sim_csv import BadFile
from relay.demo.sim_faults import Fault
from relay.demo.sim_form import Head
from relay.demo.sim_readers import HaihaiReaders, Import, Readers
from relay.demo.sim_server import Answer, Call, Sim, Whose, too_large

JAPAN = timezone(timedelta(hours=9))

CODES: Mapping[int, tuple[int, str]] = {
    81401: (401, "unauthorized aid, loginid, password のいずれかが正しくありません。"),
    81402: (401, "access denied 許可されていないIPからのアクセスです。"),
    81404: (400, "too many calls 本日の呼び出し回数の上限を超えました。"),
    81421: (400, "bad aid aid が不正です。"),
    81422: (400, "bad loginid loginid が不正です。"),
    81423: (400, "no password パスワードが入力されていません。"),
    81431: (400, "bad import_type import_type には、0~3または5の数値を指定してください。"),
    81432: (400, "no csvfile csvfile が送信されていません。"),
    81433: (400, "bad overwrite parameter is_overwrite には、0または1を指定してください。"),
    81434: (400, "bad report_option report_option には、0~2の数値を指定してください。"),
    81435: (400, "bad gid gid が数値ではない、または存在しないgid です。"),
    81436: (400, "bad spid spid が数値ではない、または存在しないspid です。"),
}
"""HTTP status and message by code."""

OPERATIONS: Mapping[str, str] = {"0": "register", "1": "delete", "2": "stop", "3": "ban", "5": "allow"}
"""What an import_type does; 4 is refused."""

REPORTS_KEPT = 10_000
"""So many report mails are kept, as a vendor may run for weeks."""


@dataclass(frozen=True, slots=True)
class HaihaiContract:
    """One contract. `columns` are the database's item names, the address column among them or put first.

    `groups` and `step_plans` are the ids of lists apart from the main one. `import_delay_s` is how long after its
    answer a file is imported, at least and at most; delays that overlap change the order. `extra_fields` must be sent
    as they stand. Without `is_overwrite` it overwrites (a guess). `allowed_ips` None lets everybody in,
    `calls_per_day` None counts no quota.
    """

    aid: int
    login_id: str
    transport_password: str = field(repr=False)
    columns: Sequence[str] = ("メールアドレス", "お名前", "お名前(フリガナ)", "会社名", "会社名(フリガナ)")
    address_column: str = "メールアドレス"
    groups: frozenset[int] = frozenset()
    step_plans: frozenset[int] = frozenset()
    password_field: str = "transport_passwd"  # noqa: S105 - the name of a form field
    extra_fields: Mapping[str, str] = field(default_factory=dict, repr=False)
    bytes_max: int = 10_000_000
    calls_per_day: int | None = 240
    import_delay_s: tuple[float, float] = (0.0, 0.0)
    allowed_ips: frozenset[str] | None = None

    @property
    def name(self) -> str:
        """The name by which the control API knows it."""
        return str(self.aid)

    def new_lists(self) -> dict[str, HaihaiReaders]:
        """Make the empty lists of the contract, by name: "", "gid:1", "spid:1"."""
        names = ["", *(f"gid:{gid}" for gid in self.groups), *(f"spid:{spid}" for spid in self.step_plans)]
        return {name: HaihaiReaders(self.columns, self.address_column) for name in names}


@dataclass(frozen=True, slots=True)
class Report:
    """What the report mail of one import says: counts; `ignored` columns; `error` if nothing could be read at all."""

    upload: int
    contract: str
    list_name: str
    operation: str
    success: int = 0
    failure: int = 0
    ignored: tuple[str, ...] = ()
    error: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return it as `/_sim/reports` shows it."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(slots=True)
class _Office:
    """What changes at one contract."""

    contract: HaihaiContract
    lists: dict[str, HaihaiReaders]
    allowed_ips: frozenset[str] | None
    calls: int = 0
    calls_day: str = ""
    importing: asyncio.Lock = field(default_factory=asyncio.Lock)


class HaihaiSim(Sim):
    """The vendor's server.

    Besides the common control API there are:

        GET   /_sim/reports?contract=   what each import came to, in the order in which they were imported
        POST  /_sim/reset-quota         {"contract": null or a name}: a new day begins
        POST  /_sim/allow-list          {"contract": a name, "ips": [..] or null}

    `reply_encoding` is unknown at the real one. The quota's day changes at 00:00 in Japan.
    """

    def __init__(self, *contracts: HaihaiContract, reply_encoding: str = "utf-8", seed: int = 0) -> None:
        super().__init__(frozenset({"code"}), max(c.bytes_max for c in contracts), seed)
        self.reports: deque[Report] = deque(maxlen=REPORTS_KEPT)
        self._reply_encoding = reply_encoding
        self._offices = {c.name: _Office(c, c.new_lists(), c.allowed_ips) for c in contracts}

    def routes(self) -> list[web.RouteDef]:
        """Return the one route of the vendor, and its control routes."""
        return [
            web.post("/", self._upload),
            web.get("/_sim/reports", self._get_reports),
            web.post("/_sim/reset-quota", self._reset_quota),
            web.post("/_sim/allow-list", self._set_allow_list),
        ]

    def lists(self) -> Iterator[tuple[str, str, Readers]]:
        """Yield each list with its contract's name and its own."""
        for name, office in self._offices.items():
            for list_name, readers in office.lists.items():
                yield name, list_name, readers

    # -- the upload --------------------------------------------------------------------------------------------------

    async def _upload(self, request: web.Request) -> web.Response:
        if request.query.get("ac") != "ScheduleCsvImport":
            raise web.HTTPNotFound
        return await self.take(request)

    def whose(self, _request: web.Request, head: Head) -> Whose | None:
        """Find the contract by `aid`, whatever else may be wrong with the form."""
        office = self._offices.get(head.get("aid") or "")
        operation = OPERATIONS.get(head.get("import_type") or "", "")
        return Whose(office.contract.name, office.contract.bytes_max, _list_name(head), operation) if office else None

    async def judge(self, call: Call) -> web.Response:
        """Check the form part by part, then accept the file for later. Raises Answer."""
        office = self._admitted(call)
        contract, upload = office.contract, call.upload
        operation = self._operation(call.head)
        list_name = self._list(office, call.head)
        if call.head.file_field != "csvfile":
            raise self._refusal(81432)
        upload.file_bytes = len(call.file)
        if len(call.file) > contract.bytes_max:
            raise Answer(too_large())
        fault = self.faults.meet("upload", contract.name, upload.operation, call.file)
        upload.fault = fault.fault if fault else upload.fault
        await self.misbehave(fault, call.request, applied=False)
        self.record.keep_file(contract.name, call.file)
        self.record.of(contract.name).applied += 1
        self.record.of(contract.name).bytes += len(call.file)
        upload.applied = True
        self.later(self._import(call, office, list_name, operation, fault))
        await self.misbehave(fault, call.request, applied=True)
        return self._plain(200, "OK")

    def _admitted(self, call: Call) -> _Office:
        """Check who it is, from where, and whether the day's calls are spent. Raises Answer."""
        aid, login_id = call.head.get("aid") or "", call.head.get("loginid") or ""
        office = self._offices.get(aid)
        if not (aid.isascii() and aid.isdigit()):
            raise self._refusal(81421)
        if not login_id:
            raise self._refusal(81422)
        field_name = office.contract.password_field if office else "transport_passwd"
        password = call.head.get(field_name)
        if not password:
            raise self._refusal(81423)
        if office is None or not _known(office.contract, login_id, password, call.head):
            if office is not None:
                self.record.of(office.contract.name).unauthorized += 1
            raise self._refusal(81401)
        if office.allowed_ips is not None and call.request.remote not in office.allowed_ips:
            raise self._refusal(81402)
        self._count_call(office)
        return office

    def _count_call(self, office: _Office) -> None:
        today = datetime.now(UTC).astimezone(JAPAN).date().isoformat()
        if office.calls_day != today:
            office.calls, office.calls_day = 0, today
        limit = office.contract.calls_per_day
        if limit is not None and office.calls >= limit:
            raise self._refusal(81404)
        office.calls += 1
        self.record.of(office.contract.name).calls += 1

    def _operation(self, head: Head) -> str:
        operation = OPERATIONS.get(head.get("import_type") or "")
        if operation is None:
            raise self._refusal(81431)
        overwrite = head.get("is_overwrite")
        if overwrite not in (None, "0", "1"):
            raise self._refusal(81433)
        if head.get("report_option") not in (None, "0", "1", "2"):
            raise self._refusal(81434)
        return "register_new" if operation == "register" and overwrite == "0" else operation

    def _list(self, office: _Office, head: Head) -> str:
        name = _list_name(head)
        if name not in office.lists:
            raise self._refusal(81435 if name.startswith("gid:") else 81436)
        return name

    def _refusal(self, code: int) -> Answer:
        status, message = CODES[code]
        return Answer(self._plain(status, f"{code} {message}"))

    def _plain(self, status: int, text: str) -> web.Response:
        return web.Response(status=status, body=text.encode(self._reply_encoding), content_type="text/plain")

    def bad_form(self, _request: web.Request, message: str) -> web.Response:
        """Answer a body that is no form."""
        return self._plain(400, f"Bad Request: {message}")

    def fault_answer(self, fault: Fault, _request: web.Request) -> web.Response:
        """Answer with a code, or refuse the file without naming one."""
        if fault.fault != "code":
            return self._plain(400, "Bad Request")
        status, message = CODES.get(fault.code, (400, "error"))
        return self._plain(status, fault.body or f"{fault.code} {message}")

    # -- the import --------------------------------------------------------------------------------------------------

    async def _import(self, call: Call, office: _Office, list_name: str, operation: str, fault: Fault | None) -> None:
        await self.pause(self.random.uniform(*office.contract.import_delay_s))
        readers, name = office.lists[list_name], office.contract.name
        refuse = fault.refusal if fault is not None and fault.fault == "reject_lines" else None
        try:
            work = Import(readers, operation, call.file, refuse)
            async with office.importing:
                await self.run_import(work)
        except BadFile as bad:
            self.record.of(name).bad_files += 1
            self.reports.append(Report(call.upload.number, name, list_name, operation, error=str(bad)))
            return
        self.record.imported(call.upload, name, work)
        ignored = tuple(column for column in work.sheet.header if column not in readers.columns)
        failure = len(work.failures)
        self.reports.append(Report(call.upload.number, name, list_name, operation, work.success, failure, ignored))

    # -- control -----------------------------------------------------------------------------------------------------

    async def _get_reports(self, request: web.Request) -> web.Response:
        contract = request.query.get("contract")
        return web.json_response([r.as_json() for r in self.reports if contract in (None, r.contract)])

    async def _reset_quota(self, request: web.Request) -> web.Response:
        contract = (await read_json(request)).get("contract")
        for name, office in self._offices.items():
            if contract in (None, name):
                office.calls = 0
        return web.Response(status=204)

    async def _set_allow_list(self, request: web.Request) -> web.Response:
        given = await read_json(request)
        office = self._offices.get(str(given.get("contract")))
        ips = given.get("ips")
        if office is None or not (ips is None or isinstance(ips, list)):
            raise web.HTTPBadRequest(text='expected {"contract": a known one, "ips": a list or null}')
        office.allowed_ips = None if ips is None else frozenset(map(str, ips))
        return web.Response(status=204)


def _known(contract: HaihaiContract, login_id: str, password: str, head: Head) -> bool:
    extra = all(head.get(name) == value for name, value in contract.extra_fields.items())
    return (login_id, password) == (contract.login_id, contract.transport_password) and extra


def _list_name(head: Head) -> str:
    gid, spid = head.get("gid"), head.get("spid")
    if gid is not None:
        return f"gid:{gid}"
    return f"spid:{spid}" if spid is not None else ""
