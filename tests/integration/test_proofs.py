"""The proof of an opt-out: when it was received, which uploads held it, and whether the vendor confirmed its line."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from relay.batches import Accepted, Delivered, LineRejection, Outcome, Refused, Transient, Unknown
from relay.csvline import record
from relay.events import Event, Operation
from relay.receive.following import decide
from tests.integration.faults import delays_pass
from tests.integration.telling import ACCOUNT, LOGIN, Desk, Json, desk, told_settings, with_accounts
from tests.unit.receive.followed import SOURCE, Says, Told

U, D, S, B, A = Operation.UPSERT, Operation.DELETE, Operation.STOP, Operation.BAN, Operation.ALLOW
TARO, HANAKO, JIRO, SABURO = (f"{name}@example.jp" for name in ("taro", "hanako", "jiro", "saburo"))


async def proof(d: Desk, event: Event) -> dict[str, Json]:
    """Ask for the proof of a webhook; the search tells the same."""
    told: dict[str, Json] = (await d.event(event))["proof"]
    for address in (TARO, HANAKO, JIRO):
        for found in (await d.told("POST", "/v1/customers/search", {"email": address}))["events"]:
            if found["webhook_id"] == event.message_id:
                # `why` counts seconds, which go by between the two
                assert {**found["proof"], "why": None} == {**told, "why": None}
                assert (found["proof"]["why"] is None) == (told["why"] is None)
    assert told["received_at"] == event.received_at.isoformat().replace("+00:00", "Z")
    assert told["occurred_at"] == event.occurred_at.isoformat().replace("+00:00", "Z")
    return told


def uploads(told: Mapping[str, Json]) -> list[tuple[int, int, str | None, str | None]]:
    """What the uploads of a proof came to: upload number, line, outcome, and what it proves."""
    return [(one["number"], one["line"], one["outcome"], one["proves"]) for one in told["uploads"]]


@pytest.mark.parametrize("operation", [D, S, B])
async def test_delivered(database: str, tmp_path: Path, operation: Operation) -> None:
    """The upload that the vendor confirmed is named whole, and the line is the one that the file has it in."""
    async with desk(database, tmp_path, told_settings()) as d:
        _, _, event, _ = await d.append((operation, HANAKO), (U, SABURO), (operation, TARO), (operation, JIRO))
        await d.flush(Delivered())
        told = await proof(d, event)
        batch = await d.get(f"/v1/batches/{told['uploads'][0]['batch_id']}")
        file = (await (await d.ask("GET", f"/v1/batches/{batch['id']}/file")).read()).split(b"\r\n")
    assert (told["result"], told["why"], told["truncated"]) == ("confirmed", None, False)
    assert (told["accepted_at"], told["superseded_by"], told["lifted_by"]) == (None, [], None)
    (upload,) = told["uploads"]
    assert upload["proves"] == "confirmed"
    assert told["confirmed_at"] == batch["ended_at"] is not None
    assert file[upload["line"] - 1] + b"\r\n" == record((TARO,))
    (went,) = batch["uploads"]
    assert {name: upload[name] for name in went} == went
    assert {name: upload[name] for name in ("login", "vendor", "rows", "rejected", "sha256", "refused")} == {
        "login": LOGIN,
        "vendor": "haihai",
        "rows": 3,
        "rejected": 0,
        "sha256": batch["sha256"],
        "refused": False,
    }


async def test_accepted_is_no_confirmation(database: str, tmp_path: Path) -> None:
    """A file that was taken proves no line, not even with the report mail's counts, which are told."""
    async with desk(database, tmp_path, told_settings()) as d:
        [event] = await d.append((S, TARO))
        await d.flush(Accepted())
        told = await proof(d, event)
        [batch] = await d.batches()
        await d.told("PUT", f"/v1/batches/{batch['id']}/report", {"success": 1, "failure": 0})
        reported = await proof(d, event)
    for one in (told, reported):
        assert (one["result"], one["confirmed_at"], one["accepted_at"]) == ("accepted", None, batch["ended_at"])
        assert uploads(one) == [(1, 2, "accepted", "accepted")]
        assert "does not tell" in one["why"]
    (before,), (after,) = told["uploads"], reported["uploads"]
    assert (before["reported_success"], before["reported_failure"]) == (None, None)
    assert (after["reported_success"], after["reported_failure"]) == (1, 0)


async def test_rejected(database: str, tmp_path: Path) -> None:
    """A line that the vendor refused is not confirmed by the upload that delivered its neighbours."""
    async with desk(database, tmp_path, told_settings()) as d:
        event, other = await d.append((S, TARO), (S, HANAKO))
        await d.flush(Delivered((LineRejection(2, f"{TARO} is not known"),)))
        told, neighbour = await proof(d, event), await proof(d, other)
    assert (told["result"], told["confirmed_at"], told["accepted_at"]) == ("rejected", None, None)
    assert uploads(told) == [(1, 2, "delivered", None)]
    assert told["uploads"][0]["refused"]
    assert TARO not in str(told)
    assert (neighbour["result"], uploads(neighbour)) == ("confirmed", [(1, 3, "delivered", "confirmed")])
    assert neighbour["uploads"][0]["rejected"] == 1


async def test_waiting(database: str, tmp_path: Path) -> None:
    """Before its file goes up nothing is proven; while it goes up and after a failed try that is told, not more."""
    async with desk(database, tmp_path, with_accounts(told_settings(), flush_opt_outs_after_s=60)) as d:
        [event] = await d.append((S, TARO), now=True)
        told = await proof(d, event)
        assert (told["result"], told["confirmed_at"], told["uploads"]) == ("waiting", None, [])
        assert told["why"].startswith("waits for more or until 60 s after it arrived")
        await d.told("POST", f"/v1/logins/{LOGIN}/flush")
        await d.flush(Transient("refused connection"))
        told = await proof(d, event)
        assert (told["result"], uploads(told)) == ("waiting", [(1, 2, "transient", None)])
        await delays_pass(d.w)
        async with d.uploading():
            told = await proof(d, event)
            assert (told["result"], told["confirmed_at"]) == ("waiting", None)
            assert uploads(told) == [(1, 2, "transient", None), (2, 2, None, None)]
        told = await proof(d, event)
        assert (told["result"], uploads(told)) == (
            "confirmed",
            [(1, 2, "transient", None), (2, 2, "delivered", "confirmed")],
        )


async def test_the_upload_that_confirmed_counts(database: str, tmp_path: Path) -> None:
    """Unknown, then sent again: all uploads that may have carried it are told, and the last one is the proof.

    So it is where the file was cut anew in between: each copy of the line is told with its own place.
    """
    async with desk(database, tmp_path, told_settings()) as d:
        _, event = await d.append((S, HANAKO), (S, TARO))
        await d.flush(Unknown("reset"))
        told = await proof(d, event)
        assert (told["result"], told["confirmed_at"], uploads(told)) == ("waiting", None, [(1, 3, "unknown", None)])
        await delays_pass(d.w)
        await d.flush(Refused("Failure_Data is incorrect"))
        told = await proof(d, event)
        assert (told["result"], told["confirmed_at"] is None) == ("confirmed", False)
        batches = await d.batches()
    assert [(one["state"], one["rows"]) for one in batches] == [("replaced", 2), ("delivered", 1), ("delivered", 1)]
    assert uploads(told) == [(1, 3, "unknown", None), (2, 3, "refused", None), (1, 2, "delivered", "confirmed")]
    assert told["confirmed_at"] == batches[2]["ended_at"]


async def test_given_up_without_an_answer_is_not_refused(database: str, tmp_path: Path) -> None:
    """Who was rejected because no answer ever came may be stopped at the vendor, or not: unconfirmed."""
    async with desk(database, tmp_path, told_settings()) as d:
        [event] = await d.append((S, TARO))
        for _ in range(12):
            await d.flush(Unknown("reset"))
            await delays_pass(d.w)
            told = await proof(d, event)
            assert told["confirmed_at"] is None
            if (await d.event(event))["state"] == "rejected":
                break
        else:
            pytest.skip("such a line is tried for ever")
    assert told["result"] == "unconfirmed"


async def test_retried_by_an_operator(database: str, tmp_path: Path) -> None:
    """What an operator sent again is proven by the copy; the refused line stays in the record."""
    async with desk(database, tmp_path, told_settings()) as d:
        [event] = await d.append((S, TARO))
        await d.flush(Delivered((LineRejection(2, "not now"),)))
        [batch] = await d.batches()
        await d.told("POST", f"/v1/batches/{batch['id']}/retry")
        told = await proof(d, event)
        assert (told["result"], told["confirmed_at"], uploads(told)) == ("waiting", None, [(1, 2, "delivered", None)])
        await d.flush()
        told = await proof(d, event)
        answer = await d.get(f"/v1/webhooks/crm/{event.message_id}")
    assert (told["result"], told["why"]) == ("confirmed", None)
    assert uploads(told) == [(1, 2, "delivered", None), (1, 2, "delivered", "confirmed")]
    first, second = (one["event_id"] for one in told["uploads"])
    assert [(one["event_id"], one["proof"] is None) for one in answer["events"]] == [(first, False), (second, True)]


async def test_a_stop_that_was_appended_again(database: str, tmp_path: Path) -> None:
    """While the copy waits the first confirmation stands, with why it may not hold; then the copy's counts."""
    async with desk(database, tmp_path, told_settings()) as d:
        _, event = await d.append((U, TARO), (S, TARO))
        await d.flush()
        first = await proof(d, event)
        await d.append((U, TARO))
        async with d.uploading():
            pass
        between = await proof(d, event)
        await d.flush()
        last = await proof(d, event)
    assert first["result"] == last["result"] == "confirmed"
    assert between["result"] == "waiting"
    assert between["confirmed_at"] == first["confirmed_at"] < last["confirmed_at"]
    assert between["why"] == "is due, and is cut next"
    assert len(last["uploads"]) == len(first["uploads"]) + 1


async def test_superseded_by_a_delete(database: str, tmp_path: Path) -> None:
    """A stop that a delete replaced before it was sent has the delete's proof."""
    async with desk(database, tmp_path, told_settings()) as d:
        stop, delete = await d.append((S, TARO), (D, TARO))
        await d.flush()
        told, by = await proof(d, stop), await proof(d, delete)
    assert (told["result"], told["confirmed_at"], told["uploads"]) == ("superseded", None, [])
    (later,) = told["superseded_by"]
    assert (later["webhook_id"], later["operation"]) == (delete.message_id, "delete")
    assert later["evidence"] == {name: by[name] for name in later["evidence"]}
    assert later["evidence"]["result"] == "confirmed"
    assert later["evidence"]["uploads"] == by["uploads"] != []


async def test_superseded_by_an_upsert(database: str, tmp_path: Path) -> None:
    """A delete that was never sent, because the customer came back, shows as that: no evidence, and what lifted it.

    The ban before it is not told as lifted: by what replaced it only.
    """
    async with desk(database, tmp_path, told_settings()) as d:
        ban, delete, upsert = await d.append((B, TARO), (D, TARO), (U, TARO))
        await d.flush()
        told, banned = await proof(d, delete), await proof(d, ban)
    assert (told["result"], told["confirmed_at"], told["uploads"]) == ("superseded", None, [])
    (later,) = told["superseded_by"]
    assert (later["webhook_id"], later["evidence"]) == (upsert.message_id, None)
    assert told["lifted_by"] == {name: value for name, value in later.items() if name != "evidence"}
    assert [one["operation"] for one in banned["superseded_by"]] == ["delete", "upsert"]
    assert banned["lifted_by"] is None


@pytest.mark.parametrize("operation", [S, B])
async def test_a_delete_that_was_never_sent_lifts_nothing(database: str, tmp_path: Path, operation: Operation) -> None:
    """A stop holds at the vendor until it is told of an allow or a delete; one that waits, or was replaced, is none."""
    async with desk(database, tmp_path, told_settings()) as d:
        [event] = await d.append((operation, TARO))
        await d.flush()
        await d.w.store.append([d.w.event(ACCOUNT, *said) for said in ((D, TARO, 3), (U, TARO, 5))])
        waiting = await proof(d, event)
        await d.flush()
        replaced, standings = await proof(d, event), await d.told("POST", "/v1/customers/search", {"email": TARO})
        allow = d.w.event(ACCOUNT, A, TARO, 7)
        await d.w.store.append([allow])
        await d.flush()
        allowed = await proof(d, event)
    assert [(told["result"], told["lifted_by"]) for told in (waiting, replaced)] == [("confirmed", None)] * 2
    assert standings["standings"][0]["confirmed_at"] is None
    assert "may still hold at the vendor" in standings["standings"][0]["why"]
    assert allowed["lifted_by"]["webhook_id"] == allow.message_id


@pytest.mark.parametrize("refused", [False, True])
async def test_a_delete_that_was_sent_lifts_a_stop(database: str, tmp_path: Path, *, refused: bool) -> None:
    """With the customer's next record; not so a delete that the vendor refused."""
    async with desk(database, tmp_path, told_settings()) as d:
        [event] = await d.append((S, TARO))
        await d.flush()
        await d.w.store.append([d.w.event(ACCOUNT, D, TARO, 3), d.w.event(ACCOUNT, D, HANAKO, 3)])
        await d.flush(Delivered((LineRejection(2, "x"),) if refused else ()))
        upsert = d.w.event(ACCOUNT, U, TARO, 5)
        await d.w.store.append([upsert])
        await d.flush()
        told = await proof(d, event)
    assert (told["lifted_by"] and told["lifted_by"]["webhook_id"]) == (None if refused else upsert.message_id)


@pytest.mark.parametrize("operation", [D, S])
async def test_resubscribed_later(database: str, tmp_path: Path, operation: Operation) -> None:
    """The proof stays, and names the first later word that ended the opt-out; none that came before it counts."""
    ends = U if operation is D else A
    async with desk(database, tmp_path, told_settings()) as d:
        _, event = await d.append((ends, TARO), (operation, TARO))
        await d.flush()
        assert (await proof(d, event))["lifted_by"] is None
        later = [d.w.event(ACCOUNT, *said) for said in ((ends, TARO, 9), (ends, TARO, 7), (S, TARO, 5), (U, HANAKO, 3))]
        await d.w.store.append(later)
        await d.flush()
        told = await proof(d, event)
    assert (told["result"], told["confirmed_at"] is None) == ("confirmed", False)
    assert told["lifted_by"]["webhook_id"] == later[1].message_id


async def test_unresolved(database: str, tmp_path: Path) -> None:
    """An opt-out by an id without an address was received, and that is all; with the address it is proven as any."""
    async with desk(database, tmp_path, told_settings()) as d:
        said = Told()
        await d.w.store.follow([said.webhook(Says(S, "i"), 1)], decide)
        (waiting,) = (await d.get(f"/v1/webhooks/{SOURCE}/m1"))["unresolved"]
    told = waiting["proof"]
    assert (told["result"], told["confirmed_at"], told["uploads"]) == ("unresolved", None, [])
    assert told["received_at"] == waiting["received_at"]
    assert told["why"] == waiting["why"]


async def test_only_opt_outs_are_proven(database: str, tmp_path: Path) -> None:
    """An upsert and an allow have no proof."""
    async with desk(database, tmp_path, told_settings()) as d:
        events = await d.append((U, TARO), (A, TARO))
        await d.flush()
        assert [(await d.event(event))["proof"] for event in events] == [None, None]


async def test_a_long_history_is_told_from_its_end(database: str, tmp_path: Path) -> None:
    """The last uploads are told, and that there are more; the proof stays true."""
    answers: list[Outcome] = [Transient("refused connection")] * 25
    async with desk(database, tmp_path, told_settings()) as d:
        [event] = await d.append((S, TARO))
        for answer in answers:
            await d.flush(answer)
            await delays_pass(d.w)
        await d.flush()
        told = await proof(d, event)
    assert (len(told["uploads"]), told["truncated"], told["result"]) == (20, True, "confirmed")
    assert [one["number"] for one in told["uploads"]] == list(range(7, 27))
