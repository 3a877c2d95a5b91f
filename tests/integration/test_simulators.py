"""The simulated vendors over real HTTP: strict where the real ones are, and misbehaving when told to."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
import pytest
from defusedxml import ElementTree

from relay.demo.sim_bme import BASE_PATH, BmeContract, BmeSim
from relay.demo.sim_bme_replies import Brand
from relay.demo.sim_haihai import HaihaiContract, HaihaiSim
from relay.demo.sim_server import Sim

HAIHAI_PATH = "/?ac=ScheduleCsvImport"
BUSY = {"error": {"message": "Failure_Request during processing"}}
REFUSED = {"error": {"message": "Failure_Data is incorrect"}}


def csv(*lines: Sequence[str]) -> bytes:
    """Write lines as a file."""
    return "".join(",".join(f'"{cell}"' for cell in line) + "\r\n" for line in lines).encode("cp932")


def form(
    fields: Sequence[tuple[str, str]], file: bytes, file_field: str, after: Sequence[tuple[str, str]] = ()
) -> tuple[bytes, dict[str, str]]:
    """Write a multipart body and its headers; `after` are text parts where none may stand."""

    def text(parts: Sequence[tuple[str, str]]) -> bytes:
        return "".join(
            f'--b0\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in parts
        ).encode()

    head = f'--b0\r\nContent-Disposition: form-data; name="{file_field}"; filename="a.csv"\r\n'
    body = text(fields) + head.encode() + b"Content-Type: text/plain\r\n\r\n" + file + b"\r\n" + text(after)
    return body + b"--b0--\r\n", {"Content-Type": "multipart/form-data; boundary=b0"}


class Client:
    """A client that sends what it is told to."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self._session = session

    async def call(self, method: str, path: str, **given: Any) -> tuple[int, bytes]:  # noqa: ANN401 - as aiohttp takes them
        """Call once; returns status and body."""
        async with self._session.request(method, self.url + path, **given) as response:
            return response.status, await response.read()

    async def sim(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - JSON
        """Call the control API; returns its JSON. Fails on an error."""
        status, reply = await self.call(method, f"/_sim/{path}", json=body)
        assert status < 300, reply
        return json.loads(reply) if reply else None

    async def fault(self, **given: object) -> None:
        """Arm a fault."""
        await self.sim("POST", "faults", given)

    async def login(self, username: str = "user", f: str = "json") -> str:
        """Log in at blastmail or blaynmail; returns the token."""
        given = {"username": username, "password": "pw", "api_key": "key", "f": f}
        status, reply = await self.call("POST", BASE_PATH + "/authenticate/login", data=given)
        assert status == 200, reply
        found = json.loads(reply)["accessToken"]
        assert isinstance(found, str)
        return found

    async def bme(self, operation: str, token: str, file: bytes, f: str = "json") -> tuple[int, Any]:
        """Upload to blastmail or blaynmail; returns status and JSON."""
        body, headers = form([("access_token", token), ("f", f)], file, "import")
        status, reply = await self.call("POST", f"{BASE_PATH}/contact/import/{operation}", data=body, headers=headers)
        return status, json.loads(reply) if reply.startswith(b"{") else reply.decode()

    async def haihai(self, file: bytes, **changed: str | None) -> tuple[int, str]:
        """Upload to 配配メール; returns status and text. A part changed to None is left out."""
        fields = {"aid": "1", "loginid": "user", "transport_passwd": "pw", "import_type": "0", "is_overwrite": "1"}
        sent = [(name, value) for name, value in {**fields, **changed}.items() if value is not None]
        body, headers = form(sent, file, "csvfile")
        status, reply = await self.call("POST", HAIHAI_PATH, data=body, headers=headers)
        return status, reply.decode()


PEOPLE = csv(("E-Mail", "氏名"), ("a@example.jp", "髙橋"), ("b@example.jp", "表"))
ADDRESSES = csv(("メールアドレス", "お名前"), ("a@example.jp", "髙橋"), ("b@example.jp", "表"))

BME = BmeContract("user", "pw", "key")
HAIHAI = HaihaiContract(1, "user", "pw", groups=frozenset({7}), step_plans=frozenset({3}))


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """Give a client session that keeps no connection, so that a broken one cannot disturb the next call."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        yield session


@pytest.fixture
async def bme(session: aiohttp.ClientSession) -> AsyncIterator[tuple[BmeSim, Client]]:
    """Serve blastmail with one contract."""
    sim = BmeSim(BME)
    async with sim.serve() as url:
        yield sim, Client(url, session)


@pytest.fixture
async def haihai(session: aiohttp.ClientSession) -> AsyncIterator[tuple[HaihaiSim, Client]]:
    """Serve 配配メール with one contract."""
    sim = HaihaiSim(HAIHAI)
    async with sim.serve() as url:
        yield sim, Client(url, session)


def states(sim: Sim, contract: str | int, list_name: str = "") -> dict[str, str]:
    """Return each reader's state by address."""
    return {address: seen.state for address, seen in sim.readers(contract, list_name).items()}


@asynccontextmanager
async def raw(url: str, path: str, headers: str, body: bytes) -> AsyncIterator[asyncio.StreamReader]:
    """Send a request by hand, and give what is to be read of the answer."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(f"POST {path} HTTP/1.1\r\nHost: sim\r\n{headers}\r\n\r\n".encode() + body)
        await writer.drain()
        async with asyncio.timeout(10):
            yield reader
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


def raw_headers(length: int) -> str:
    """Write the headers of a form of so many bytes."""
    return f"Content-Type: multipart/form-data; boundary=b0\r\nContent-Length: {length}"


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, at most ten seconds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - nothing tells when it comes true
            await asyncio.sleep(0.005)


async def abandon(call: Coroutine[None, None, object], when: Callable[[], bool]) -> None:
    """Begin a call and give it up when the condition is true; it must not have been answered by then."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(call)
        await until(when)
        assert not task.done()
        task.cancel()


# -- blastmail and blaynmail -----------------------------------------------------------------------------------------


async def test_bme_registers_readers(bme: tuple[BmeSim, Client]) -> None:
    """A file of two is counted in strings, its readers are in the list, and what arrived is remembered."""
    sim, client = bme
    status, reply = await client.bme("all", await client.login(), PEOPLE)
    assert (status, reply) == (200, {"success": "2", "failure": "0"})
    assert await client.sim("GET", "readers?contract=user") == {
        address: {
            "state": "配信中",
            "mailable": True,
            "fields": {
                "E-Mail": address,
                "エラーカウント": "",
                "氏名": name,
                "フリガナ": "",
                "生年月日": "",
                "都道府県": "",
            },
        }
        for address, name in (("a@example.jp", "髙橋"), ("b@example.jp", "表"))
    }
    stats = await client.sim("GET", "stats")
    counts = stats["contracts"]["user"]
    assert (counts["uploads"], counts["logins"], counts["rows"], counts["bytes"]) == (1, 1, 2, len(PEOPLE))
    assert (stats["overlaps"], counts["readers"]) == (0, {"": 2})
    [upload] = await client.sim("GET", "uploads")
    assert (upload["operation"], upload["file_bytes"], upload["status"]) == ("all", len(PEOPLE), 200)
    assert upload["content_length"] > len(PEOPLE)
    assert upload["field_names"] == ["access_token", "f"]
    assert await client.call("GET", "/_sim/uploads/last?contract=user") == (200, PEOPLE)
    assert sim.readers("user")["a@example.jp"].fields["氏名"] == "髙橋"


async def test_bme_details_by_number_of_failures(bme: tuple[BmeSim, Client]) -> None:
    """No failure gives no details, one an object, more a list; line 1 is the header; the row is repeated."""
    _, client = bme
    token = await client.login()
    one = {"lineNumber": 3, "content": '"bad"', "message": "メールアドレスの形式が正しくありません"}
    status, reply = await client.bme("all", token, csv(["E-Mail"], ["a@example.jp"], ["bad"]))
    assert (status, reply) == (200, {"success": "1", "failure": "1", "details": {"detail": one}})
    status, reply = await client.bme("update", token, csv(["E-Mail"], ["c@example.jp"], ["bad"]))
    assert (status, reply["success"], reply["failure"]) == (200, "0", "2")
    assert [detail["lineNumber"] for detail in reply["details"]["detail"]] == [2, 3]


async def test_bme_answers_in_xml_unless_asked(bme: tuple[BmeSim, Client]) -> None:
    """Without f=json everything comes in XML: token, counts with details, and errors."""
    _, client = bme
    given = {"username": "user", "password": "pw", "api_key": "key"}
    _, reply = await client.call("POST", BASE_PATH + "/authenticate/login", data=given)
    token = ElementTree.fromstring(reply).findtext("access_token", "")
    _, text = await client.bme("all", token, csv(["E-Mail", "氏名"], ["a@example.jp", "a"], ["<&>", "b"]), f="xml")
    tree = ElementTree.fromstring(text)
    assert (tree.findtext("success"), tree.findtext("failure")) == ("1", "1")
    detail = tree.find("details/detail")
    assert detail is not None
    assert (detail.findtext("lineNumber"), detail.findtext("content")) == ("3", '"<&>","b"')
    status, text = await client.bme("all", "wrong", PEOPLE, f="xml")
    assert status == 401
    assert ElementTree.fromstring(text).findtext("message", "").startswith("Failure_")


async def test_bme_lets_in_who_is_known(bme: tuple[BmeSim, Client]) -> None:
    """A wrong password, an unknown token, one in the query of a POST and an expired one get 401; a new login helps."""
    sim, client = bme
    given = {"username": "user", "password": "no", "api_key": "key", "f": "json"}
    status, reply = await client.call("POST", BASE_PATH + "/authenticate/login", data=given)
    assert (status, "error" in json.loads(reply)) == (401, True)
    assert (await client.bme("all", "unknown", PEOPLE))[0] == 401
    token = await client.login()
    body, headers = form([("f", "json")], PEOPLE, "import")
    path = f"{BASE_PATH}/contact/import/all?access_token={token}"
    assert (await client.call("POST", path, data=body, headers=headers))[0] == 401
    await client.sim("POST", "expire-tokens", {"contract": "user"})
    assert (await client.bme("all", token, PEOPLE))[0] == 401
    assert not sim.readers("user")
    assert (await client.bme("all", await client.login(), PEOPLE))[0] == 200


async def test_bme_tokens_end_by_themselves(session: aiohttp.ClientSession) -> None:
    """A token is good for as long as the contract says, and no longer."""
    async with BmeSim(BmeContract("user", "pw", "key", token_lifetime_s=0)).serve() as url:
        client = Client(url, session)
        assert (await client.bme("all", await client.login(), PEOPLE))[0] == 401


async def test_bme_shows_its_template(bme: tuple[BmeSim, Client]) -> None:
    """The template is CP932 with the contract's own names; `format=json` on a GET is the known error."""
    _, client = bme
    path = f"{BASE_PATH}/contact/import/usage?access_token={await client.login()}"
    status, reply = await client.call("GET", path + "&type=1")
    header = '"状態","エラーカウント","E-Mail","氏名","フリガナ","生年月日","都道府県"\r\n'
    assert (status, reply.decode("cp932")) == (200, header)
    assert await client.call("GET", path + "&type=2") == (200, b'"E-Mail"\r\n')
    assert (await client.call("GET", path + "&type=3"))[0] == 400
    status, reply = await client.call("GET", path + "&type=1&format=json")
    assert (status, json.loads(reply)) == (500, {"error": {"message": "illegal format: json,json"}})


@pytest.mark.parametrize(
    "file", [b"", csv(["E-Mail"]), PEOPLE[:-2], PEOPLE.replace(b"\r\n", b"\n"), PEOPLE.decode("cp932").encode()]
)
async def test_bme_refuses_a_bad_file(bme: tuple[BmeSim, Client], file: bytes) -> None:
    """A file without rows, cut off, with other line ends or in UTF-8 is refused whole."""
    sim, client = bme
    assert await client.bme("all", await client.login(), file) == (400, REFUSED)
    assert not sim.readers("user")


async def test_bme_takes_only_its_form(bme: tuple[BmeSim, Client]) -> None:
    """Another name of the file part, or a text part after the file, is refused."""
    sim, client = bme
    fields = [("access_token", await client.login()), ("f", "json")]
    for body, headers in (form(fields, PEOPLE, "file"), form(fields[:1], PEOPLE, "import", fields[1:])):
        path = f"{BASE_PATH}/contact/import/all?f=json"
        status, reply = await client.call("POST", path, data=body, headers=headers)
        assert (status, json.loads(reply)) == (400, REFUSED)
    assert not sim.readers("user")


async def test_bme_fails_every_row_for_one_unknown_header(bme: tuple[BmeSim, Client]) -> None:
    """One name that the contract does not have fails the whole file, with 200."""
    sim, client = bme
    file = csv(["E-Mail", "名前"], ["a@example.jp", "a"], ["b@example.jp", "b"])
    status, reply = await client.bme("all", await client.login(), file)
    assert (status, reply["success"], reply["failure"]) == (200, "0", "2")
    assert not sim.readers("user")


async def test_bme_imports_one_file_at_a_time(session: aiohttp.ClientSession) -> None:
    """A second upload meanwhile is answered as busy and counted as an overlap; other contracts are not concerned."""
    sim = BmeSim(BME, BmeContract("other", "pw", "key"))
    async with sim.serve() as url:
        client = Client(url, session)
        token, other = await client.login(), await client.login("other")
        await client.fault(fault="slow", seconds=60, contract="user")
        async with asyncio.TaskGroup() as group:
            first = group.create_task(client.bme("all", token, PEOPLE))
            await until(lambda: bool(sim.record.uploads) and sim.record.uploads[0].fault == "slow")
            assert await client.bme("all", token, PEOPLE) == (400, BUSY)
            assert (await client.bme("all", other, PEOPLE))[0] == 200
            first.cancel()
        assert (sim.record.of("user").overlaps, sim.record.of("user").busy) == (1, 1)
        assert sim.record.of("other").overlaps == 0


async def test_bme_goes_on_importing_when_the_client_leaves(session: aiohttp.ClientSession) -> None:
    """A client that gave up finds the vendor still busy, then the import done; that is no overlap."""
    sim = BmeSim(BmeContract("user", "pw", "key", import_s=(1.0, 1.0)))
    async with sim.serve() as url:
        client = Client(url, session)
        token = await client.login()
        await abandon(client.bme("all", token, PEOPLE), lambda: sim.record.of("user").bytes > 0)
        await until(sim.record.uploads[0].gone)
        assert (await client.bme("all", token, PEOPLE))[1] == BUSY
        await until(lambda: len(sim.readers("user")) == 2)
        assert (await client.bme("all", token, PEOPLE))[0] == 200
        assert sim.record.of("user").overlaps == 0


@pytest.mark.parametrize(
    ("brand", "answer"),
    [("blastmail", {"failure": "", "success": "{0}"}), ("blaynmail", {"contact": [{"date": "{0}"}]})],
)
async def test_bme_keeps_error_records(session: aiohttp.ClientSession, brand: Brand, answer: dict[str, Any]) -> None:
    """Failures are found by type and time, exported as CSV, and deleted with the brand's own answer."""
    async with BmeSim(BME, brand=brand).serve() as url:
        client = Client(url, session)
        token = await client.login()
        await client.bme("all", token, csv(["E-Mail", "氏名"], ["bad", "髙橋"], ["a@example.jp", "a"]))
        await client.bme("delete", token, csv(["E-Mail"], ["x@example.jp"], ["y@example.jp"]))
        base = f"{BASE_PATH}/contact/import/error"
        _, reply = await client.call("GET", f"{base}/search?access_token={token}&f=json")
        found = {record["type"]: record for record in json.loads(reply)["contact"]}
        assert {kind: record["count"] for kind, record in found.items()} == {"登録エラー": 1, "削除エラー": 2}
        query = {"access_token": token, "type": "登録エラー", "date": found["登録エラー"]["date"]}
        _, reply = await client.call("GET", f"{base}/export", params=query)
        assert reply.decode("cp932").splitlines()[1].startswith('"bad","髙橋",')
        date = found["削除エラー"]["date"]
        given = {"access_token": token, "f": "json", "deleteErrors": date}
        _, reply = await client.call("POST", f"{base}/delete", data=given)
        assert reply.decode() == json.dumps(answer, separators=(",", ":")).replace("{0}", date)
        _, reply = await client.call("GET", f"{base}/search?access_token={token}&f=json")
        assert [record["type"] for record in json.loads(reply)["contact"]] == ["登録エラー"]


# -- 配配メール -------------------------------------------------------------------------------------------------------


async def test_haihai_accepts_now_and_imports_later(session: aiohttp.ClientSession) -> None:
    """The answer comes before the import; when it has settled the readers are there and a report tells the counts."""
    sim = HaihaiSim(HaihaiContract(1, "user", "pw", import_delay_s=(0.2, 0.2)))
    async with sim.serve() as url:
        client = Client(url, session)
        file = csv(["お名前", "メールアドレス", "趣味"], ["髙橋", "a@example.jp", "山"], ["表", "bad", "川"])
        assert await client.haihai(file) == (200, "OK")
        assert not sim.readers(1)
        assert (await client.sim("GET", "stats"))["pending_imports"] == 1
        await client.sim("POST", "settle")
        assert sim.readers(1)["a@example.jp"].fields["お名前"] == "髙橋"
        [report] = await client.sim("GET", "reports?contract=1")
        assert (report["success"], report["failure"], report["ignored"]) == (1, 1, ["趣味"])


async def test_haihai_may_overtake(session: aiohttp.ClientSession) -> None:
    """Of two files accepted one after the other the second is imported first if its delay (by the seed) is shorter."""
    sim = HaihaiSim(HaihaiContract(1, "user", "pw", import_delay_s=(0.0, 1.0)), seed=2153)
    async with sim.serve() as url:
        client = Client(url, session)
        for _ in range(2):
            assert (await client.haihai(ADDRESSES))[0] == 200
        await sim.settled()
        assert [report.upload for report in sim.reports] == [2, 1]
        assert sim.record.of("1").overlaps == 0


async def test_haihai_import_types(haihai: tuple[HaihaiSim, Client]) -> None:
    """Register, stop, ban, allow and delete do what the vendor's page says; registering keeps a ban."""
    sim, client = haihai
    seen = []
    for import_type in ("0", "2", "0", "3", "0", "5", "1"):
        assert (await client.haihai(ADDRESSES, import_type=import_type))[0] == 200
        await sim.settled()
        seen.append(states(sim, 1).get("a@example.jp"))
    assert seen == ["配信中", "停止", "停止", "禁止", "禁止", "配信中", None]


async def test_haihai_is_overwrite(haihai: tuple[HaihaiSim, Client]) -> None:
    """With 0 a reader who is there keeps the old data and counts as a failure, with 1 the data change."""
    sim, client = haihai
    names: list[str] = []
    for overwrite in ("0", "0", "1"):
        file = csv(["メールアドレス", "お名前"], ["a@example.jp", f"{len(names)}"])
        assert (await client.haihai(file, is_overwrite=overwrite))[0] == 200
        await sim.settled()
        names.append(sim.readers(1)["a@example.jp"].fields["お名前"])
    assert names == ["0", "0", "2"]
    assert [report.failure for report in sim.reports] == [0, 1, 0]


async def test_haihai_lists_are_apart(haihai: tuple[HaihaiSim, Client]) -> None:
    """A group, a step plan and the contract's own list hold readers of their own."""
    sim, client = haihai
    await client.haihai(ADDRESSES)
    await client.haihai(ADDRESSES, gid="7", import_type="0")
    await client.haihai(ADDRESSES, gid="7", import_type="2")
    await client.haihai(ADDRESSES, spid="3")
    await client.haihai(ADDRESSES, spid="3", import_type="1")
    await sim.settled()
    assert states(sim, 1) == {"a@example.jp": "配信中", "b@example.jp": "配信中"}
    assert states(sim, 1, "gid:7") == {"a@example.jp": "停止", "b@example.jp": "停止"}
    assert states(sim, 1, "spid:3") == {}
    assert len(await client.sim("GET", "readers?contract=1&list=gid:7")) == 2


@pytest.mark.parametrize(
    ("changed", "status", "code"),
    [
        ({"transport_passwd": "no"}, 401, 81401),
        ({"loginid": "no"}, 401, 81401),
        ({"aid": "2"}, 401, 81401),
        ({"aid": "x"}, 400, 81421),
        ({"aid": None}, 400, 81421),
        ({"loginid": None}, 400, 81422),
        ({"transport_passwd": None}, 400, 81423),
        ({"transport_passwd": ""}, 400, 81423),
        ({"transport_passwd": None, "transport_password": "pw"}, 400, 81423),
        ({"import_type": "4"}, 400, 81431),
        ({"import_type": None}, 400, 81431),
        ({"is_overwrite": "2"}, 400, 81433),
        ({"report_option": "3"}, 400, 81434),
        ({"gid": "8"}, 400, 81435),
        ({"gid": "x"}, 400, 81435),
        ({"spid": "4"}, 400, 81436),
    ],
)
async def test_haihai_codes(
    haihai: tuple[HaihaiSim, Client], changed: dict[str, str | None], status: int, code: int
) -> None:
    """Every part that is wrong has its status and code, with a message, and nothing is imported."""
    sim, client = haihai
    answered, text = await client.haihai(ADDRESSES, **changed)
    assert (answered, text[:6]) == (status, f"{code} ")
    assert not sim.readers(1)
    assert not sim.reports


async def test_haihai_allow_list_and_quota(session: aiohttp.ClientSession) -> None:
    """Another IP address gets 81402, one call too many 81404, until the list or the day changes."""
    async with HaihaiSim(HaihaiContract(1, "user", "pw", calls_per_day=1)).serve() as url:
        client = Client(url, session)
        await client.sim("POST", "allow-list", {"contract": "1", "ips": ["192.0.2.1"]})
        assert (await client.haihai(ADDRESSES))[1].startswith("81402")
        await client.sim("POST", "allow-list", {"contract": "1", "ips": None})
        assert (await client.haihai(ADDRESSES))[0] == 200
        status, text = await client.haihai(ADDRESSES)
        assert (status, text[:5]) == (400, "81404")
        await client.sim("POST", "reset-quota", {})
        assert (await client.haihai(ADDRESSES))[0] == 200


async def test_haihai_other_contracts(session: aiohttp.ClientSession) -> None:
    """A contract can want another name of the password part and parts of its own; replies can come in CP932."""
    contract = HaihaiContract(1, "user", "pw", password_field="transport_password", extra_fields={"api_token": "t"})
    async with HaihaiSim(contract, reply_encoding="cp932").serve() as url:
        client = Client(url, session)
        body, headers = form([("aid", "1"), ("loginid", "user")], ADDRESSES, "csvfile")
        _, reply = await client.call("POST", HAIHAI_PATH, data=body, headers=headers)
        assert reply.decode("cp932").startswith("81423 no password パスワード")
        good = {"transport_passwd": None, "transport_password": "pw"}
        assert (await client.haihai(ADDRESSES, **good, api_token="t"))[0] == 200
        with pytest.raises(UnicodeDecodeError):
            await client.haihai(ADDRESSES, **good)


async def test_haihai_reports_what_it_could_not_read(haihai: tuple[HaihaiSim, Client]) -> None:
    """A file that is no CSV is accepted with 200, as the vendor looks at it later; the report and a count tell."""
    sim, client = haihai
    assert (await client.haihai(ADDRESSES[:-2]))[0] == 200
    assert (await client.haihai(csv(["E-Mail"], ["a@example.jp"])))[0] == 200
    await sim.settled()
    assert ["CRLF" in report.error for report in sim.reports] == [True, False]
    assert (sim.reports[1].success, sim.reports[1].failure) == (0, 1)
    assert sim.record.of("1").bad_files == 1
    assert not sim.readers(1)


async def test_haihai_is_elsewhere_unknown(haihai: tuple[HaihaiSim, Client]) -> None:
    """Another action or a GET is no upload."""
    _, client = haihai
    assert (await client.call("POST", "/?ac=Other", data=b""))[0] == 404
    assert (await client.call("GET", HAIHAI_PATH))[0] == 405


# -- sizes and transport ---------------------------------------------------------------------------------------------


async def test_size_limits(session: aiohttp.ClientSession) -> None:
    """A file of exactly the limit is taken, one byte more is 413, much more is 413 before the body is read."""
    at_limit = len(ADDRESSES)
    sim = HaihaiSim(HaihaiContract(1, "user", "pw", bytes_max=at_limit), HaihaiContract(2, "user", "pw", bytes_max=10))
    async with sim.serve() as url:
        client = Client(url, session)
        assert (await client.haihai(ADDRESSES))[0] == 200
        assert (await client.haihai(ADDRESSES, aid="2"))[0] == 413
        body, _ = form([("aid", "1")], ADDRESSES, "csvfile")
        async with raw(url, HAIHAI_PATH, raw_headers(10_000_000), body[:400]) as reader:
            assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")


async def test_a_body_of_unknown_length_is_refused(bme: tuple[BmeSim, Client]) -> None:
    """A chunked body gets 411."""
    _, client = bme
    body, headers = form([("access_token", await client.login())], PEOPLE, "import")

    async def chunks() -> AsyncIterator[bytes]:
        yield body

    assert (await client.call("POST", f"{BASE_PATH}/contact/import/all", data=chunks(), headers=headers))[0] == 411


async def test_a_client_that_leaves_early_registers_nothing(haihai: tuple[HaihaiSim, Client]) -> None:
    """A body that stops before its end is counted as broken and never imported, nor does it overlap the next."""
    sim, client = haihai
    fields = [("aid", "1"), ("loginid", "user"), ("transport_passwd", "pw"), ("import_type", "0")]
    body, _ = form(fields, ADDRESSES, "csvfile")
    async with raw(client.url, HAIHAI_PATH, raw_headers(len(body)), body[:-3]):
        await until(lambda: any(upload.contract for upload in sim.record.uploads))
    await until(lambda: sim.record.of("1").broken == 1)
    assert (await client.haihai(ADDRESSES))[0] == 200
    await sim.settled()
    assert [report.upload for report in sim.reports] == [2]
    assert sim.record.of("1").overlaps == 0


async def test_readers_outlive_an_outage(session: aiohttp.ClientSession) -> None:
    """A vendor that was away comes back on its port with its readers, and with the imports it had accepted."""
    sim = HaihaiSim(HaihaiContract(1, "user", "pw", import_delay_s=(60, 60)))
    async with sim.serve() as url:
        client = Client(url, session)
        await client.haihai(ADDRESSES)
    assert (len(sim.readers(1)), sim.pending_imports()) == (2, 0)
    with pytest.raises(aiohttp.ClientConnectorError):
        await client.haihai(ADDRESSES)
    async with sim.serve(port=int(url.rsplit(":", 1)[1])) as again:
        assert again == url
        assert len(await client.sim("GET", "readers?contract=1")) == 2


# -- faults ----------------------------------------------------------------------------------------------------------


async def upload_raw(sim: BmeSim, client: Client) -> bytes:
    """Upload by hand; returns all that was answered. Raises ConnectionResetError where a RST came."""
    body, _ = form([("access_token", await client.login()), ("f", "json")], PEOPLE, "import")
    path = f"{BASE_PATH}/contact/import/all"
    async with raw(sim.url, path, raw_headers(len(body)) + "\r\nConnection: close", body) as reader:
        return await reader.read()


@pytest.mark.parametrize(
    ("fault", "applied"),
    [
        ({"fault": "reset_before_body"}, False),
        ({"fault": "reset_before_body", "contract": "user", "operation": "all"}, False),
        ({"fault": "reset_during_body", "n_bytes": 200}, False),
        ({"fault": "reset_after_body"}, False),
        ({"fault": "reset_after_body", "applied": True}, True),
    ],
)
async def test_fault_resets(bme: tuple[BmeSim, Client], fault: dict[str, object], *, applied: bool) -> None:
    """The connection breaks with a real RST, once, with the import applied or not."""
    sim, client = bme
    await client.fault(**fault)
    with pytest.raises(ConnectionResetError):
        await upload_raw(sim, client)
    assert len(sim.readers("user")) == (2 if applied else 0)
    [upload] = sim.record.uploads
    assert (upload.status, upload.fault, upload.applied) == (None, fault["fault"], applied)
    assert b"200 OK" in await upload_raw(sim, client)
    assert sim.record.of("user").overlaps == 0


async def test_fault_lost_reply(bme: tuple[BmeSim, Client]) -> None:
    """The import is applied, and the connection ends in good order without an answer."""
    sim, client = bme
    await client.fault(fault="lost_reply")
    assert await upload_raw(sim, client) == b""
    assert len(sim.readers("user")) == 2


def _hangs(sim: BmeSim, *, applied: bool) -> bool:
    return (
        bool(sim.record.uploads) and sim.record.uploads[0].fault == "hang" and sim.record.uploads[0].applied == applied
    )


@pytest.mark.parametrize("applied", [False, True])
async def test_fault_hang(bme: tuple[BmeSim, Client], *, applied: bool) -> None:
    """No answer ever comes; when the client has given up, the next upload is taken and is no overlap."""
    sim, client = bme
    token = await client.login()
    await client.fault(fault="hang", applied=applied)
    await abandon(client.bme("all", token, PEOPLE), lambda: _hangs(sim, applied=applied))
    assert len(sim.readers("user")) == (2 if applied else 0)
    await until(lambda: not any(office.importing for office in sim._offices.values()))  # noqa: SLF001 - nothing shows it
    assert (await client.bme("all", token, PEOPLE))[0] == 200
    assert sim.record.of("user").overlaps == 0


@pytest.mark.parametrize("applied", [False, True])
async def test_fault_status(bme: tuple[BmeSim, Client], *, applied: bool) -> None:
    """Any status with any body, before or after the import, as often as told and then no more."""
    sim, client = bme
    token = await client.login()
    await client.fault(fault="status", status=502, body="Bad Gateway", times=2, applied=applied)
    for _ in range(2):
        assert await client.bme("all", token, PEOPLE) == (502, "Bad Gateway")
    assert len(sim.readers("user")) == (2 if applied else 0)
    assert (await client.bme("all", token, PEOPLE))[0] == 200


async def test_faults_of_bme_replies(bme: tuple[BmeSim, Client]) -> None:
    """Wrong counts, shifted lines, XML, busy, an expired token and refused rows show in the reply."""
    sim, client = bme
    token = await client.login()
    file = csv(["E-Mail"], ["a@example.jp"], ["bad"], ["c@example.jp"])
    await client.fault(fault="wrong_counts", success_by=-1, failure_by=2)
    _, reply = await client.bme("all", token, file)
    assert (reply["success"], reply["failure"]) == ("1", "3")
    await client.fault(fault="wrong_lines", shift=5)
    assert (await client.bme("all", token, file))[1]["details"]["detail"]["lineNumber"] == 8
    await client.fault(fault="xml")
    assert (await client.bme("all", token, file))[1].startswith("<?xml")
    await client.fault(fault="busy")
    assert await client.bme("all", token, file) == (400, BUSY)
    await client.fault(fault="reject_lines", addresses=["d@example.jp"], message="だめ")
    _, reply = await client.bme("all", token, csv(["E-Mail"], ["d@example.jp"], ["e@example.jp"]))
    assert reply["details"]["detail"] == {"content": '"d@example.jp"', "message": "だめ", "lineNumber": 2}
    assert set(sim.readers("user")) == {"a@example.jp", "c@example.jp", "e@example.jp"}
    await client.sim("DELETE", "faults")
    await client.fault(fault="reject_lines", every=2)
    _, reply = await client.bme("all", token, csv(["E-Mail"], *([f"{n}@example.jp"] for n in range(5))))
    assert [detail["lineNumber"] for detail in reply["details"]["detail"]] == [3, 5]
    await client.sim("DELETE", "faults")
    await client.fault(fault="expired_token")
    assert [(await client.bme("all", token, PEOPLE))[0] for _ in range(2)] == [401, 401]
    assert (await client.bme("all", await client.login(), PEOPLE))[0] == 200


async def test_faults_of_the_front_server(bme: tuple[BmeSim, Client]) -> None:
    """An HTML page, Retry-After and 413 come from before the vendor; files are refused as long as told."""
    _, client = bme
    token = await client.login()
    await client.fault(fault="html")
    status, text = await client.bme("all", token, PEOPLE)
    assert (status, "<html" in text) == (503, True)
    await client.fault(fault="retry_after", seconds=7)
    body, headers = form([("access_token", token)], PEOPLE, "import")
    async with aiohttp.request(
        "POST", client.url + BASE_PATH + "/contact/import/all", data=body, headers=headers
    ) as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (429, "7")
    await client.fault(fault="too_large", n_bytes=len(PEOPLE) - 1)
    await client.fault(fault="refuse_file", address="a@example.jp")
    assert [(await client.bme("all", token, PEOPLE))[0] for _ in range(2)] == [413, 413]
    assert await client.bme("all", token, csv(["E-Mail"], ["a@example.jp"])) == (400, REFUSED)
    assert (await client.bme("all", token, csv(["E-Mail"], ["b@example.jp"])))[0] == 200


async def test_faults_of_other_calls(bme: tuple[BmeSim, Client]) -> None:
    """A login and the template can fail too, apart from uploads."""
    sim, client = bme
    token = await client.login()
    await client.fault(fault="status", status=500, on="login")
    await client.fault(fault="busy", on="usage")
    assert (await client.bme("all", token, PEOPLE))[0] == 200
    given = {"username": "user", "password": "pw", "api_key": "key"}
    assert (await client.call("POST", BASE_PATH + "/authenticate/login", data=given))[0] == 500
    assert (await client.call("GET", f"{BASE_PATH}/contact/import/usage?access_token={token}&type=1"))[0] == 400
    await client.login()
    assert sim.record.of("user").logins == 2


async def test_faults_of_haihai(haihai: tuple[HaihaiSim, Client]) -> None:
    """Any code, refused rows of one operation, and a lost reply after acceptance; bme's own faults are unknown."""
    sim, client = haihai
    await client.fault(fault="code", code=81435)
    assert (await client.haihai(ADDRESSES))[1].startswith("81435 bad gid")
    await client.fault(fault="reject_lines", addresses=["a@example.jp"], operation="stop")
    await client.fault(fault="lost_reply", operation="register")
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await client.haihai(ADDRESSES)
    await client.haihai(ADDRESSES, import_type="2")
    await sim.settled()
    assert states(sim, 1) == {"a@example.jp": "配信中", "b@example.jp": "停止"}
    assert (await client.call("POST", "/_sim/faults", json={"fault": "busy"}))[0] == 400


# -- control ---------------------------------------------------------------------------------------------------------


async def test_control_lists_and_disarms_faults(bme: tuple[BmeSim, Client]) -> None:
    """Armed faults can be looked at and disarmed; one that makes no sense is refused with a reason."""
    _, client = bme
    await client.fault(fault="status", times=3)
    [armed] = await client.sim("GET", "faults")
    assert (armed["fault"], armed["left"]) == ("status", 3)
    assert await client.sim("DELETE", "faults") == {"disarmed": 1}
    status, reply = await client.call("POST", "/_sim/faults", json={"fault": "status", "often": 3})
    assert (status, b"often" in reply) == (400, True)
    assert (await client.call("POST", "/_sim/faults", data=b"no"))[0] == 400


async def test_control_of_readers(session: aiohttp.ClientSession) -> None:
    """A person's change of state shows, so do deleted readers, and the trash can be purged; unknown lists are 404."""
    async with BmeSim(BmeContract("user", "pw", "key", trash_blocks=True)).serve() as url:
        client = Client(url, session)
        token = await client.login()
        await client.bme("all", token, PEOPLE)
        await client.sim("PUT", "readers?contract=user", {"address": "a@example.jp", "state": "解除"})
        assert (await client.sim("GET", "readers?contract=user"))["a@example.jp"]["mailable"] is False
        await client.bme("delete", token, csv(["E-Mail"], ["b@example.jp"]))
        assert list(await client.sim("GET", "trash?contract=user")) == ["b@example.jp"]
        assert (await client.bme("all", token, PEOPLE))[1]["failure"] == "1"
        assert await client.sim("DELETE", "trash?contract=user") == {"purged": 1}
        assert (await client.bme("all", token, PEOPLE))[1]["failure"] == "0"
        assert (await client.call("GET", "/_sim/readers?contract=nobody"))[0] == 404


async def test_control_forgets_counts(bme: tuple[BmeSim, Client]) -> None:
    """Counts, uploads and files can be forgotten between two parts of a test; readers stay."""
    sim, client = bme
    await client.bme("all", await client.login(), PEOPLE)
    await client.sim("DELETE", "stats")
    assert (await client.sim("GET", "stats"))["contracts"]["user"]["uploads"] == 0
    assert (await client.call("GET", "/_sim/uploads/last"))[0] == 404
    assert len(sim.readers("user")) == 2
