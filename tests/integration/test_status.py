"""The status API on a real database: who may ask, and what it tells of events and batches that relay really sent."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import ClientPayloadError, web
from aiohttp.test_utils import TestClient, TestServer

from relay.batches import Accepted, Delivered, LineRejection, Refused, Transient, Unknown
from relay.csvline import record
from relay.events import EventState, Operation
from relay.problem import problems
from relay.settings import Api
from relay.status import Status
from relay.status.events import EVENTS_MAX
from relay.status.service import ENDPOINTS
from tests.integration.model import KEYS
from tests.integration.telling import ACCOUNT, LOGIN, TOKENS, Desk, desk, told_settings, with_accounts

UPSERT, DELETE, STOP, ALLOW = Operation.UPSERT, Operation.DELETE, Operation.STOP, Operation.ALLOW
TARO = "taro@example.jp"
HANAKO = "hanako@example.jp"

PATHS = [
    (
        endpoint.method,
        endpoint.path.format(id=1, account=ACCOUNT, login=LOGIN, source="crm", webhook_id="msg_0"),
        endpoint.scope,
    )
    for endpoint in ENDPOINTS
]


# -- who may ask -----------------------------------------------------------------------------------------------------


async def test_nobody_gets_in_without_the_scope(database: str, tmp_path: Path) -> None:
    """Every endpoint wants a token (401) that has its scope (403), and lets those in that do."""
    async with desk(database, tmp_path, told_settings()) as d:
        for method, path, scope in PATHS:
            await d.problem(401, method, path, by=None)
            found = await d.problem(401, method, path, by="wrong")
            assert "wrong" not in str(found)
            for name, scopes in TOKENS.items():
                if scope is not None and scope not in scopes:
                    assert f"`{scope}`" in (await d.problem(403, method, path, by=name))["detail"]
                else:
                    assert (await d.ask(method, path, by=name)).status not in {401, 403, 500}


async def test_without_tokens_the_api_is_closed(
    database: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No token in the settings: everybody gets 401, and the log says at start what to do about it."""
    closed = told_settings().model_copy(update={"api": Api()})
    async with desk(database, tmp_path, closed) as d:
        for method, path, _ in PATHS:
            await d.problem(401, method, path)
    assert "status_api_closed" in caplog.text
    assert "[api.tokens.<name>]" in caplog.text


# -- the states of an event ------------------------------------------------------------------------------------------


async def test_pending(database: str, tmp_path: Path) -> None:
    """An event beyond its cursor is pending and says until when it waits."""
    async with desk(database, tmp_path, with_accounts(told_settings(), flush_after_s=60)) as d:
        [event] = await d.append((UPSERT, TARO), now=True)
        told = await d.event(event)
    assert told["state"] == EventState.PENDING
    assert told["why"].startswith("waits for more or until 60 s after it arrived (in ")
    assert told["batch_id"] is None
    assert (told["account"], told["operation"], told["webhook_id"]) == (ACCOUNT, "upsert", event.message_id)
    assert told["received_at"] == event.received_at.isoformat().replace("+00:00", "Z")


async def test_delivered(database: str, tmp_path: Path) -> None:
    """A delivered event names its batch and needs no explanation."""
    async with desk(database, tmp_path, told_settings()) as d:
        [event] = await d.append((UPSERT, TARO))
        await d.flush(Delivered())
        told = await d.event(event)
        [batch] = await d.batches()
    assert (told["state"], told["why"], told["batch_id"]) == ("delivered", None, batch["id"])


async def test_accepted(database: str, tmp_path: Path) -> None:
    """What the vendor only took is not reported as delivered."""
    async with desk(database, tmp_path, told_settings()) as d:
        [event] = await d.append((UPSERT, TARO))
        await d.flush(Accepted())
        told = await d.event(event)
    assert told["state"] == "accepted"
    assert "does not tell" in told["why"]


async def test_superseded(database: str, tmp_path: Path) -> None:
    """A replaced event names the event that replaced it."""
    async with desk(database, tmp_path, told_settings()) as d:
        first, last = await d.append((UPSERT, TARO), (UPSERT, TARO))
        await d.flush(Delivered())
        told, later = await d.event(first), await d.event(last)
    assert (told["state"], told["superseded_by"]) == ("superseded", later["event_id"])
    assert told["why"] == f"was replaced by a later word (event {later['event_id']})"
    assert told["batch_id"] is None
    assert later["state"] == "delivered"


async def test_waiting(database: str, tmp_path: Path) -> None:
    """A failed attempt says when the next one is, and what the last one came to."""
    async with desk(database, tmp_path, told_settings()) as d:
        [event] = await d.append((UPSERT, TARO))
        await d.flush(Transient("refused connection"))
        told = await d.event(event)
    assert told["state"] == "waiting"
    assert told["why"].startswith("next try in 1")
    assert told["why"].endswith(" s after 1 failed attempt: refused connection")


async def test_uploading(database: str, tmp_path: Path) -> None:
    """During an upload its events are uploading, and what arrives meanwhile waits behind it."""
    async with desk(database, tmp_path, told_settings()) as d:
        [event] = await d.append((UPSERT, TARO))
        async with d.uploading():
            [later] = await d.append((UPSERT, HANAKO))
            told, behind = await d.event(event), await d.event(later)
            [login] = (await d.get("/v1/logins"))["logins"]
            [batch] = await d.batches()
            detail = await d.get(f"/v1/batches/{batch['id']}")
        assert (await d.event(event))["state"] == "delivered"
    assert (told["state"], told["why"]) == ("uploading", "is being uploaded now")
    assert behind["why"] == f"waits behind batch {batch['id']} (is being uploaded now)"
    assert login["leased"]
    assert login["uploading_batch"] == batch["id"]
    assert detail["uploads"][0]["outcome"] is None


async def test_rejected(database: str, tmp_path: Path) -> None:
    """A refused line: the event is rejected, its neighbour delivered; the vendor's message needs the scope `pii`."""
    async with desk(database, tmp_path, told_settings()) as d:
        good, bad = await d.append((UPSERT, TARO), (UPSERT, HANAKO))
        await d.flush(Delivered((LineRejection(3, f"{HANAKO} is no good"),)))
        told, blind, other = await d.event(bad), await d.event(bad, "reader"), await d.event(good)
    assert (told["state"], told["line"], told["message"]) == ("rejected", 3, f"{HANAKO} is no good")
    assert (blind["state"], blind["line"], blind["message"]) == ("rejected", 3, None)
    assert HANAKO not in str(blind)
    assert other["state"] == "delivered"


async def test_failed_and_retried(database: str, tmp_path: Path) -> None:
    """Upserts that were given up are failed; retried, the old one names the new one, which has its own fate."""
    async with desk(database, tmp_path, told_settings(attempts_max=1)) as d:
        [event] = await d.append((UPSERT, TARO))
        await d.flush(Transient("no route"))
        failed = await d.event(event)
        [batch] = await d.batches()
        assert await d.told("POST", f"/v1/batches/{batch['id']}/retry") == {"events": 1}
        assert len(d.woken) == 1
        original, again = (await d.get(f"/v1/webhooks/crm/{event.message_id}"))["events"]
        await d.flush(Delivered())
        after = await d.event(event)
        [alone] = (await d.get(f"/v1/webhooks/relay/{again['webhook_id']}"))["events"]
    assert (failed["state"], failed["why"]) == ("failed", "was given up: no route")
    assert (original["state"], original["retried_as"]) == ("retried", again["event_id"])
    assert original["why"] == f"was appended again as event {again['event_id']}"
    assert (again["state"], again["again_of"], again["source"]) == ("pending", original["event_id"], "relay")
    assert again["why"] == "is due, and is cut next"
    assert after["state"] == "retried"
    assert alone["state"] == "delivered"


async def test_retried_twice(database: str, tmp_path: Path) -> None:
    """Whatever was appended again more than once names the last one, which alone is listed with the original."""
    async with desk(database, tmp_path, told_settings(attempts_max=1)) as d:
        [event] = await d.append((UPSERT, TARO))
        await d.flush(Transient("no route"))
        await d.told("POST", "/v1/batches/1/retry")
        _, first = (await d.get(f"/v1/webhooks/crm/{event.message_id}"))["events"]
        await d.flush(Transient("no route"))
        await d.told("POST", "/v1/batches/2/retry")
        original, again = (await d.get(f"/v1/webhooks/crm/{event.message_id}"))["events"]
        [between] = (await d.get(f"/v1/webhooks/relay/{first['webhook_id']}"))["events"]
    assert again["event_id"] > first["event_id"] > original["event_id"]
    assert (original["state"], original["retried_as"]) == ("retried", again["event_id"])
    assert (between["state"], between["retried_as"]) == ("retried", again["event_id"])
    assert (again["state"], again["again_of"]) == ("pending", original["event_id"])


async def test_what_was_appended_again_hurries_nothing_later(database: str, tmp_path: Path) -> None:
    """An event that relay appended again makes due what waits with it, and nothing that comes after it was sent."""
    made = with_accounts(told_settings(attempts_max=1), flush_after_s=600)
    async with desk(database, tmp_path, made) as d:
        await d.append((UPSERT, TARO))
        await d.flush(Transient("no route"))
        [waiting] = await d.append((UPSERT, HANAKO), now=True)
        await d.told("POST", "/v1/batches/1/retry")
        hurried = (await d.event(waiting))["why"]
        await d.flush(Delivered())
        [later] = await d.append((UPSERT, TARO), now=True)
        unhurried = (await d.event(later))["why"]
    assert hurried == "is due, and is cut next"
    assert unhurried.startswith("waits for more or until 600 s after it arrived")


async def test_unconfirmed(database: str, tmp_path: Path) -> None:
    """An allow whose answer was lost is not sent again: it is unconfirmed, and stays a dead letter."""
    async with desk(database, tmp_path, told_settings()) as d:
        [event] = await d.append((ALLOW, TARO))
        await d.flush(Unknown("lost reply"))
        told = await d.event(event)
        [account] = (await d.get("/v1/accounts"))["accounts"]
    assert told["state"] == "unconfirmed"
    assert told["why"] == "may have arrived, and is not sent again by itself: lost reply"
    assert account["dead_letters"] == 1


async def test_an_echo_is_unconfirmed(database: str, tmp_path: Path) -> None:
    """In the mode `create`, a line refused after a lost reply may be there already: neither delivered nor rejected."""
    async with desk(database, tmp_path, with_accounts(told_settings(), mode="create")) as d:
        [event] = await d.append((UPSERT, TARO))
        await d.flush(Unknown("lost reply"))
        await d.w.connection.execute("update cursor set not_before = '-infinity'")
        await d.flush(Delivered((LineRejection(2, "exists"),)))
        told = await d.event(event)
        [batch] = await d.batches()
        [line] = (await d.get(f"/v1/batches/{batch['id']}/rejections"))["rejections"]
    assert told["state"] == "unconfirmed"
    assert told["why"].startswith("the vendor refused its line as already there")
    assert (batch["state"], batch["rejected"]) == ("delivered", 0)
    assert line["unconfirmed"]


async def test_a_stop_that_relay_sends_again(database: str, tmp_path: Path) -> None:
    """An upsert may undo a stop at the vendor, so relay appends it again: the first names the second."""
    async with desk(database, tmp_path, told_settings()) as d:
        [stop] = await d.append((STOP, TARO))
        await d.flush(Delivered())
        await d.append((UPSERT, HANAKO), (UPSERT, TARO))
        await d.flush(Delivered())
        original, again = (await d.get(f"/v1/webhooks/crm/{stop.message_id}"))["events"]
    assert (original["state"], original["retried_as"]) == ("retried", again["event_id"])
    assert (again["state"], again["operation"]) == ("delivered", "stop")


async def test_lines_taken_back(database: str, tmp_path: Path) -> None:
    """Refused lines that were taken back are pending again, and then in the state of their new batch."""
    async with desk(database, tmp_path, told_settings(rows_max=1)) as d:
        events = await d.append(*[(UPSERT, f"c{n}@example.jp") for n in range(3)])
        await d.flush(Refused("incorrect"), Refused("incorrect"), Refused("incorrect"))
        taken_back = [await d.event(event) for event in events]
        await d.told("POST", f"/v1/logins/{LOGIN}/resume")
        await d.flush()
        sent = [await d.event(event) for event in events]
    assert [told["state"] for told in taken_back] == ["pending"] * 3
    assert taken_back[0]["why"] == "its login is paused: data: incorrect"
    assert [told["state"] for told in sent] == ["delivered"] * 3


async def test_a_webhook_that_is_not_known(database: str, tmp_path: Path) -> None:
    """Unknown webhooks are 404, whatever is in the URL; known ones are found whatever their id looks like."""
    async with desk(database, tmp_path, told_settings()) as d:
        await d.append((UPSERT, TARO))
        await d.w.connection.execute("alter table event disable trigger event_is_immutable")
        await d.w.connection.execute("update event set message_id = 'a/b ü%2F?'")
        assert (await d.get("/v1/webhooks/crm/a%2Fb%20%C3%BC%252F%3F"))["webhook_id"] == "a/b ü%2F?"
        for path in ("crm/msg_1", "shop/a%2Fb%20%C3%BC%252F%3F", "crm/%00", "crm/%ff"):
            await d.problem(404, "GET", f"/v1/webhooks/{path}")


# -- customers -------------------------------------------------------------------------------------------------------


async def test_a_customers_history(database: str, tmp_path: Path) -> None:
    """All events of a customer, and no others, in the order in which they happened, by any spelling of the address."""
    async with desk(database, tmp_path, told_settings()) as d:
        await d.append((UPSERT, TARO), (UPSERT, HANAKO), (STOP, TARO), (UPSERT, TARO))
        await d.flush()
        found = await d.told("POST", "/v1/customers/search", {"email": " TARO@Example.jp "})
        unknown = await d.told("POST", "/v1/customers/search", {"email": "jiro@example.jp"})
        refused = await d.problem(422, "POST", "/v1/customers/search", {"email": "太郎@example.jp"})
    assert [(told["operation"], told["state"]) for told in found["events"]] == [
        ("upsert", "superseded"),
        ("stop", "retried"),
        ("stop", "delivered"),
        ("upsert", "delivered"),
    ]
    assert not found["truncated"]
    assert unknown == {"standings": [], "events": [], "truncated": False}
    assert [error["field"] for error in refused["errors"]] == ["email"]
    assert "太郎" not in str(refused)


async def test_a_long_history_is_cut_short(database: str, tmp_path: Path) -> None:
    """Of a customer with too many events the latest are told, and the old stop that is still in force, and that so."""
    async with desk(database, tmp_path, told_settings()) as d:
        events = await d.append((UPSERT, TARO), (STOP, TARO), *[(UPSERT, TARO)] * (EVENTS_MAX + 5))
        found = await d.told("POST", "/v1/customers/search", {"email": TARO})
    assert found["truncated"]
    told = [events[1], *events[-EVENTS_MAX:]]
    assert [one["webhook_id"] for one in found["events"]] == [event.message_id for event in told]
    [standing] = found["standings"]
    assert standing["standing"] == "stopped"


async def test_a_history_of_just_so_many_events_is_whole(database: str, tmp_path: Path) -> None:
    """Nothing is left out, and nobody is told that anything is."""
    async with desk(database, tmp_path, told_settings()) as d:
        await d.append(*[(UPSERT, TARO)] * EVENTS_MAX)
        found = await d.told("POST", "/v1/customers/search", {"email": TARO})
    assert (len(found["events"]), found["truncated"]) == (EVENTS_MAX, False)


async def test_how_a_customer_stands(database: str, tmp_path: Path) -> None:
    """Whether they are mailed and whether their opt-out went through: not before the vendor has confirmed it."""
    async with desk(database, tmp_path, told_settings()) as d:
        await d.append((STOP, TARO))
        waiting = await d.told("POST", "/v1/customers/search", {"email": TARO})
        await d.flush(Delivered((LineRejection(2, "no such address"),)))
        refused = await d.told("POST", "/v1/customers/search", {"email": TARO})
        await d.append((STOP, TARO))
        await d.flush()
        stopped = await d.told("POST", "/v1/customers/search", {"email": TARO})
    [before], [between], [after] = (found["standings"] for found in (waiting, refused, stopped))
    assert {one["standing"] for one in (before, between, after)} == {"stopped"}
    assert (before["confirmed_at"], before["why"]) == (None, "stop: is due, and is cut next")
    assert (between["confirmed_at"], between["why"]) == (None, "stop: the vendor refused its line, line 2 of batch 1")
    [event] = [told for told in stopped["events"] if told["event_id"] in after["event_ids"]]
    assert (after["why"], event["state"]) == (None, "delivered")
    assert event["uploaded_at"] <= event["settled_at"] == after["confirmed_at"]
    assert {told["uploaded_at"] for told in waiting["events"]} == {None}
    assert {told["settled_at"] for told in waiting["events"]} == {None}


async def test_events_of_an_account_that_is_gone(database: str, tmp_path: Path) -> None:
    """What the settings no longer name stays in the log, and is found."""
    async with desk(database, tmp_path, told_settings(2)) as d:
        await d.append((UPSERT, TARO), (UPSERT, TARO), (STOP, TARO))
        settings = told_settings(1)
        gone = {"account-9": settings.accounts.pop(ACCOUNT).model_copy(update={"name": "account-9"})}
        left = settings.model_copy(update={"accounts": gone})
        app = web.Application(middlewares=[problems])
        app.add_routes(Status(d.w.store, left, KEYS, d.w.metrics, wake=lambda: None).routes())
        async with TestClient(TestServer(app)) as client:
            found = await Desk(d.w, left, client).told("POST", "/v1/customers/search", {"email": TARO})
    [*events, event], [standing] = found["events"], found["standings"]
    assert len(events) == 2
    assert (event["account"], event["state"]) == (ACCOUNT, "pending")
    assert (standing["account"], standing["standing"], standing["confirmed_at"]) == (ACCOUNT, "stopped", None)
    assert event["why"] == "its account is no longer in the settings, so that nothing is sent for it"


# -- batches ---------------------------------------------------------------------------------------------------------


async def some_batches(d: Desk) -> None:
    """Make six batches: stops and upserts of three customers, a line each; the last upsert is given up."""
    for n in range(3):
        await d.append((STOP, f"s{n}@example.jp"), (UPSERT, f"u{n}@example.jp"))
        await d.flush(Delivered(), Transient("no route") if n == 2 else Delivered())


async def test_pages_of_batches(database: str, tmp_path: Path) -> None:
    """Pages follow each other from the newest to the oldest, without a gap or a repeat, filtered or not."""
    async with desk(database, tmp_path, told_settings(attempts_max=1)) as d:
        await some_batches(d)
        whole = (await d.get("/v1/batches"))["batches"]
        seen, path = [], "/v1/batches?limit=4"
        page = await d.get(path)
        while page["next"]:
            seen += page["batches"]
            page = await d.get(f"{path}&after={page['next']}")
        seen += page["batches"]
        stops = await d.get(f"/v1/batches?operation=stop&account={ACCOUNT}&limit=3")
        failed = await d.get("/v1/batches?state=failed")
        nothing = await d.get("/v1/batches?account=nobody")
    assert seen == whole
    assert [batch["id"] for batch in whole] == sorted((batch["id"] for batch in whole), reverse=True)
    assert len(whole) == 6
    assert [batch["operation"] for batch in stops["batches"]] == ["stop"] * 3
    assert stops["next"] is None
    assert [(batch["state"], batch["reason"]) for batch in failed["batches"]] == [("failed", "no route")]
    assert nothing == {"batches": [], "next": None}


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("state=lost", "state"),
        ("operation=ignore", "operation"),
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("after=-1", "after"),
        ("after=9223372036854775808", "after"),
        ("account=%00", "account"),
        ("acount=news", "acount"),
    ],
)
async def test_a_wrong_query_names_its_field(database: str, tmp_path: Path, query: str, field: str) -> None:
    """A query that is wrong is refused by the name of the field, instead of being read as something else."""
    async with desk(database, tmp_path, told_settings()) as d:
        found = await d.problem(422, "GET", f"/v1/batches?{query}")
    assert [error["field"] for error in found["errors"]] == [field]


async def test_one_batch(database: str, tmp_path: Path) -> None:
    """A batch tells its counts, its range, its uploads, and why it waits."""
    async with desk(database, tmp_path, told_settings()) as d:
        await d.append((UPSERT, TARO), (UPSERT, HANAKO), (UPSERT, TARO))
        await d.flush(Transient("refused connection"))
        [listed] = await d.batches()
        batch = await d.get(f"/v1/batches/{listed['id']}")
        await d.w.connection.execute("update cursor set not_before = '-infinity'")
        await d.flush(Delivered(reason="2 of 2"))
        after = await d.get(f"/v1/batches/{listed['id']}")
    assert listed.items() <= batch.items()
    assert (batch["rows"], batch["state"], batch["header"]) == (2, "waiting", ["メールアドレス"])
    assert batch["bytes"] == len(record(["メールアドレス"]) + record([TARO]) + record([HANAKO]))
    assert batch["cut_from"] == 0
    assert batch["cut_to"] == 3
    assert batch["attempts"] == 1
    assert 10 < batch["next_try_s"] < 17
    assert batch["why"].endswith("after 1 failed attempt: refused connection")
    assert (after["state"], after["reason"], after["why"], after["attempts"]) == ("delivered", "2 of 2", None, 0)
    assert [(u["number"], u["outcome"], u["reason"], u["http_status"]) for u in after["uploads"]] == [
        (1, "transient", "refused connection", 200),
        (2, "delivered", "2 of 2", 200),
    ]


async def test_no_such_batch(database: str, tmp_path: Path) -> None:
    """A batch that does not exist is 404 in every way that it can be asked for."""
    async with desk(database, tmp_path, told_settings()) as d:
        await d.append((UPSERT, TARO))
        await d.flush()
        for method, path, _ in PATHS:
            body = {"success": 1, "failure": 0} if path.endswith("/report") else None
            for number in ("2", "999999999999999999", "9" * 30, "x"):
                if path.startswith("/v1/batches/"):
                    await d.problem(404, method, path.replace("/batches/1", f"/batches/{number}"), body)


async def test_pages_of_refused_lines(database: str, tmp_path: Path) -> None:
    """Refused lines come in pages, with the webhook that each came from; the vendor's message needs the scope `pii`."""
    async with desk(database, tmp_path, told_settings()) as d:
        events = await d.append(*[(UPSERT, f"c{n}@example.jp") for n in range(5)])
        await d.flush(Delivered(tuple(LineRejection(line, f"c{line}@example.jp?") for line in (2, 4, 6))))
        [batch] = await d.batches()
        path = f"/v1/batches/{batch['id']}/rejections"
        first = await d.get(f"{path}?limit=2")
        second = await d.get(f"{path}?limit=2&after={first['next']}", "reader")
    lines = first["rejections"] + second["rejections"]
    assert batch["rejected"] == 3
    assert [line["line"] for line in lines] == [2, 4, 6]
    assert [line["webhook_id"] for line in lines] == [events[n].message_id for n in (0, 2, 4)]
    assert {line["source"] for line in lines} == {"crm"}
    assert [line["message"] for line in lines] == ["c2@example.jp?", "c4@example.jp?", None]
    assert second["next"] is None


async def test_a_refused_line_that_was_retried_names_the_webhook(database: str, tmp_path: Path) -> None:
    """A line that relay appended again and that is refused once more still names the webhook that it came from."""
    async with desk(database, tmp_path, told_settings()) as d:
        [event] = await d.append((UPSERT, TARO))
        await d.flush(Delivered((LineRejection(2, "no"),)))
        [batch] = await d.batches()
        await d.told("POST", f"/v1/batches/{batch['id']}/retry")
        await d.flush(Delivered((LineRejection(2, "still no"),)))
        last = (await d.batches())[-1]
        [line] = (await d.get(f"/v1/batches/{last['id']}/rejections"))["rejections"]
    assert (line["webhook_id"], line["message"]) == (event.message_id, "still no")


async def test_the_file(database: str, tmp_path: Path) -> None:
    """The file can be had as it went up: Shift_JIS, its size known beforehand, and never kept by a cache."""
    async with desk(database, tmp_path, told_settings()) as d:
        await d.append((UPSERT, TARO), (UPSERT, HANAKO), (UPSERT, TARO))
        await d.flush(Delivered())
        [batch] = await d.batches()
        response = await d.ask("GET", f"/v1/batches/{batch['id']}/file", by="auditor")
        content = await response.read()
    assert content == record(["メールアドレス"]) + record([HANAKO]) + record([TARO])
    assert response.headers["Content-Type"] == "text/csv; charset=Shift_JIS"
    assert response.headers["Content-Length"] == str(batch["bytes"]) == str(len(content))
    assert response.headers["Content-Disposition"] == f'attachment; filename="batch-{batch["id"]}.csv"'
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Server"] == "relay"


async def test_a_file_that_is_not_whole_is_cut_off(database: str, tmp_path: Path) -> None:
    """A file that does not come out as long as its manifest says must not look like a whole one."""
    async with desk(database, tmp_path, told_settings()) as d:
        await d.append((UPSERT, TARO))
        await d.flush(Delivered())
        [batch] = await d.batches()
        await d.w.connection.execute("update batch set bytes = bytes + 1")
        response = await d.ask("GET", f"/v1/batches/{batch['id']}/file")
        with pytest.raises(ClientPayloadError):
            await response.read()


async def failed(d: Desk) -> str:
    """Make a batch of two lines that was given up."""
    await d.append((UPSERT, TARO), (UPSERT, HANAKO))
    await d.flush(Transient("no route"))
    [batch] = await d.batches()
    return f"/v1/batches/{batch['id']}"


async def rejecting(d: Desk) -> str:
    """Make a batch with two lines refused and one delivered."""
    await d.append((UPSERT, TARO), (UPSERT, HANAKO), (UPSERT, "jiro@example.jp"))
    await d.flush(Delivered((LineRejection(2, "no"), LineRejection(4, "no"))))
    [batch] = await d.batches()
    return f"/v1/batches/{batch['id']}"


async def refused(d: Desk) -> str:
    """Make two batches of one line each that the vendor refused as a whole, and return one of them."""
    await d.append((UPSERT, TARO), (UPSERT, HANAKO))
    await d.flush(Refused("incorrect"), Refused("incorrect"), Refused("incorrect"))
    return f"/v1/batches/{(await d.batches())[1]['id']}"


@pytest.mark.parametrize("verb", ["retry", "dismiss"])
@pytest.mark.parametrize(
    ("make", "before", "events"),
    [(failed, 2, 2), (rejecting, 2, 2), (refused, 2, 1)],
    ids=["failed", "rejected", "refused"],
)
async def test_dead_letters(
    database: str,
    tmp_path: Path,
    make: Callable[[Desk], Awaitable[str]],
    before: int,
    events: int,
    verb: str,
) -> None:
    """Dead letters are counted until they are retried or dismissed, and that can be done once."""
    async with desk(database, tmp_path, told_settings(attempts_max=1)) as d:
        path = await make(d)
        [account] = (await d.get("/v1/accounts"))["accounts"]
        assert account["dead_letters"] == before
        assert await d.told("POST", f"{path}/{verb}", by="operator") == {"events": events}
        [account] = (await d.get("/v1/accounts"))["accounts"]
        assert account["dead_letters"] == before - events
        for again in ("retry", "dismiss"):
            assert "no dead letters" in (await d.problem(409, "POST", f"{path}/{again}"))["detail"]
        batch = await d.get(path)
        counted = d.w.metrics.registry.get_sample_value(
            "relay_events_total", {"vendor": "haihai", "operation": "upsert"}
        )
    assert bool(batch["retried_at"] or batch["dismissed_at"]) == (batch["state"] == "failed")
    assert (counted or 0) == (events if verb == "retry" else 0)
    assert len(d.woken) == (verb == "retry")


async def test_what_was_dismissed_says_so(database: str, tmp_path: Path) -> None:
    """An event whose batch was dismissed stays failed, and says that somebody has seen to it."""
    async with desk(database, tmp_path, told_settings(attempts_max=1)) as d:
        [event] = await d.append((UPSERT, TARO))
        await d.flush(Transient("no route"))
        [batch] = await d.batches()
        await d.told("POST", f"/v1/batches/{batch['id']}/dismiss")
        told = await d.event(event)
    assert (told["state"], told["why"]) == ("failed", "was given up: no route; an operator dismissed it")


async def test_nothing_to_retry(database: str, tmp_path: Path) -> None:
    """A delivered batch has nothing to retry or to dismiss."""
    async with desk(database, tmp_path, told_settings()) as d:
        await d.append((UPSERT, TARO))
        await d.flush(Delivered())
        [batch] = await d.batches()
        for verb in ("retry", "dismiss"):
            await d.problem(409, "POST", f"/v1/batches/{batch['id']}/{verb}")
        assert d.woken == []


async def test_a_report(database: str, tmp_path: Path) -> None:
    """The counts of the report mail are kept with an accepted batch, can be corrected, and fit no other batch."""
    async with desk(database, tmp_path, told_settings()) as d:
        await d.append((STOP, TARO), (UPSERT, HANAKO))
        await d.flush(Accepted(), Delivered())
        accepted, delivered = (f"/v1/batches/{batch['id']}" for batch in await d.batches())
        await d.told("PUT", f"{accepted}/report", {"success": 1, "failure": 0}, "operator")
        assert await d.told("PUT", f"{accepted}/report", {"success": 0, "failure": 1}, "operator") == {
            "batch": int(accepted.rpartition("/")[2]),
            "success": 0,
            "failure": 1,
            "uncounted": 0,
        }
        failures = {"vendor": "haihai", "operation": "stop"}
        assert d.w.metrics.registry.get_sample_value("relay_reported_failures_total", failures) == 1
        for _ in range(2):
            told = await d.told("PUT", f"{accepted}/report", {"success": 0, "failure": 1}, "operator")
        assert d.w.metrics.registry.get_sample_value("relay_reported_failures_total", failures) == 1, "counted once"
        found = await d.problem(422, "PUT", f"{accepted}/report", {"success": 1, "failure": 1})
        assert found["errors"][0]["message"] == "with `failure` that makes 2, but the file has 1 rows"
        told = await d.told("PUT", f"{accepted}/report", {"success": 0, "failure": 0}, "operator")
        assert told["uncounted"] == 1, "a mail that leaves lines out is recorded, and its gap told"
        await d.told("PUT", f"{accepted}/report", {"success": 0, "failure": 1}, "operator")
        [listed] = (await d.get("/v1/batches?state=accepted"))["batches"]
        assert (listed["reported_failure"], listed["state"]) == (1, "accepted"), "it is where operators look"
        batch = await d.get(accepted)
        await d.problem(409, "PUT", f"{delivered}/report", {"success": 1, "failure": 0})
        for body, fields in (
            ({"success": -1, "failure": 0}, ["success"]),
            ({"success": "1", "failure": 0}, ["success"]),
            (None, ["success", "failure"]),
            ({"success": 1, "failure": 0, "rows": 2}, ["rows"]),
            ([], ["body"]),
        ):
            found = await d.problem(422, "PUT", f"{accepted}/report", body)
            assert [error["field"] for error in found["errors"]] == fields
    assert (batch["reported_success"], batch["reported_failure"]) == (0, 1)
    assert batch["state"] == "accepted"


async def test_postgres_gone_is_told_as_503(database: str, tmp_path: Path) -> None:
    """Without Postgres the status API says so, with a time to try again."""
    made = told_settings()
    async with desk(database, tmp_path, made) as d:
        await d.w.store.close()
        app = web.Application(middlewares=[problems])
        app.add_routes(Status(d.w.store, made, KEYS, d.w.metrics, wake=lambda: None).routes())
        async with TestClient(TestServer(app)) as client:
            response = await client.get("/v1/batches", headers={"Authorization": "Bearer all-token"})
    assert response.status == 503
    assert "Retry-After" in response.headers
