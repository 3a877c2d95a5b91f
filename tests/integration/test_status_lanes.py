"""Accounts and logins over the status API: how they stand, and what an operator's word does to the flusher."""

from pathlib import Path
from uuid import uuid4

from relay.batches import Accepted, Busy, Delivered, Misconfigured, TooLarge, Transient, Unauthorized
from relay.client import HostState, State
from relay.events import Operation
from relay.flush import login_plans
from tests.integration.model import KEYS
from tests.integration.telling import ACCOUNT, LOGIN, Desk, Json, answering, desk, told_settings, with_accounts

UPSERT, DELETE, STOP = Operation.UPSERT, Operation.DELETE, Operation.STOP
TARO = "taro@example.jp"
HANAKO = "hanako@example.jp"


async def has_work(d: Desk) -> bool:
    """Whether the flusher would work on the login now."""
    return LOGIN in await d.w.worker(answering()).survey([d.plan], await d.w.fence())


async def lane(d: Desk) -> dict[str, object]:
    """The first login as the API tells it."""
    told: dict[str, object] = (await d.get("/v1/logins"))["logins"][0]
    return told


def quota_of(told: dict[str, object]) -> dict[str, Json]:
    """What is told of a login's calls of the day."""
    quota = told["quota"]
    assert isinstance(quota, dict)
    return quota


# -- accounts --------------------------------------------------------------------------------------------------------


async def test_an_account_with_nothing_to_do(database: str, tmp_path: Path) -> None:
    """Every account of the settings is there from the start, with all its cursors at nought."""
    async with desk(database, tmp_path, told_settings(2)) as d:
        accounts = (await d.get("/v1/accounts"))["accounts"]
    assert [account["name"] for account in accounts] == ["account-0", "account-1"]
    for account, login in zip(accounts, ("login-0", "login-1"), strict=True):
        cursors = account.pop("cursors")
        assert account.pop("name")
        assert account == {
            "login": login,
            "vendor": "haihai",
            "mode": "all",
            "headers": ["メールアドレス"],
            "pending": 0,
            "oldest_unsettled": {"opt_out_s": None, "data_s": None},
            "flush_after": {"opt_out_s": 0.0, "data_s": 0.0},
            "dead_letters": 0,
            "check": None,
        }
        assert {cursor["operation"] for cursor in cursors} == set(Operation)
        assert {(cursor["position"], cursor["pending"], cursor["attempts"]) for cursor in cursors} == {(0, 0, 0)}
        assert {(cursor["rows_max"], cursor["bytes_max"]) for cursor in cursors} == {(None, 10_000_000)}


async def test_an_account_at_work(database: str, tmp_path: Path) -> None:
    """What waits, how old it is, and how far its cursors have come, each operation by itself."""
    async with desk(database, tmp_path, with_accounts(told_settings(), flush_after_s=60)) as d:
        await d.append((STOP, TARO))
        await d.flush(Transient("no route"))
        await d.append((UPSERT, TARO), (UPSERT, TARO), (UPSERT, HANAKO), now=True)
        [account] = (await d.get("/v1/accounts"))["accounts"]
    cursors = {cursor["operation"]: cursor for cursor in account["cursors"]}
    assert account["pending"] == cursors["upsert"]["pending"] == 3
    assert (cursors["stop"]["position"], cursors["stop"]["attempts"]) == (1, 1)
    assert 10 < cursors["stop"]["next_try_s"] < 17
    assert (cursors["stop"]["batch_id"], cursors["stop"]["batch_state"]) == (1, "waiting")
    assert cursors["upsert"]["batch_id"] is None
    assert 0 <= account["oldest_unsettled"]["data_s"] < 20
    assert account["oldest_unsettled"]["opt_out_s"] > 86_400  # the model's events are received months ago


async def test_a_smaller_file_limit_is_told(database: str, tmp_path: Path) -> None:
    """After a file that was too large, the limit that the next one keeps is told."""
    async with desk(database, tmp_path, told_settings(rows_max=7)) as d:
        await d.append((UPSERT, TARO), (UPSERT, HANAKO))
        await d.flush(TooLarge("413"), Busy("busy"))
        [account] = (await d.get("/v1/accounts"))["accounts"]
        size = (await d.batches())[0]["bytes"]
    [upsert] = [cursor for cursor in account["cursors"] if cursor["operation"] == "upsert"]
    assert (upsert["bytes_max"], upsert["rows_max"]) == (size // 2, 7)


# -- logins ----------------------------------------------------------------------------------------------------------


async def test_a_login_that_has_not_worked_yet(database: str, tmp_path: Path) -> None:
    """A lane is told whole from the start."""
    async with desk(database, tmp_path, told_settings(calls_per_day_limit=240)) as d:
        told = await lane(d)
        kept = quota_of(told).pop("kept_for_opt_outs")
        assert 0 <= kept <= 156, "by the hour"
        assert told == {
            "name": LOGIN,
            "vendor": "haihai",
            "accounts": [ACCOUNT],
            "leased": False,
            "generation": 0,
            "leased_s": 0.0,
            "uploading_batch": None,
            "waits": None,
            "paused": None,
            "quota": {"calls_today": 0, "per_day": 240, "left": 240, "why": None},
            "refused_settings": None,
            "refused_logins": {"last_hour": 0, "per_hour_max": 5},
            "breaker": {"host": "http://127.0.0.1:1", "state": "closed", "next_try_s": 0.0},
        }


async def test_a_busy_vendor(database: str, tmp_path: Path) -> None:
    """A lane that waits says until when and for what; calls are counted."""
    async with desk(database, tmp_path, told_settings()) as d:
        [event] = await d.append((UPSERT, TARO))
        await d.flush(Busy("Failure_Request during processing", 20))
        told, found = await lane(d), await d.event(event)
    assert isinstance(told["waits"], dict)
    assert told["waits"]["reason"] == "busy"
    assert 15 < told["waits"]["seconds"] <= 20
    assert (quota_of(told)["calls_today"], quota_of(told)["left"]) == (1, 9_999_999)
    assert told["generation"] == 1
    assert found["why"].startswith("the vendor is busy with another import and is asked again in ")


async def test_flush(database: str, tmp_path: Path) -> None:
    """A flush makes due what waits now, and only that: what comes later waits for more again."""
    made = with_accounts(told_settings(), flush_after_s=600, flush_opt_outs_after_s=600)
    async with desk(database, tmp_path, made) as d:
        [event] = await d.append((UPSERT, TARO), now=True)
        assert not await has_work(d)
        await d.told("POST", f"/v1/logins/{LOGIN}/flush", by="operator")
        assert len(d.woken) == 1
        assert (await d.event(event))["why"] == "is due, and is cut next"
        assert await has_work(d)
        await d.flush(Delivered())
        assert (await d.event(event))["state"] == "delivered"
        [later] = await d.append((UPSERT, HANAKO), now=True)
        assert not await has_work(d)
        assert (await d.event(later))["why"].startswith("waits for more or until 600 s after it arrived (in ")


async def test_opt_outs_and_data_wait_for_their_own_time(database: str, tmp_path: Path) -> None:
    """Opt-outs wait for more for the account's time for them, data for the account's other time, else the vendor's."""
    made = with_accounts(told_settings(), flush_after_s=None, flush_opt_outs_after_s=30)
    async with desk(database, tmp_path, made) as d:
        stop, upsert = await d.append((STOP, TARO), (UPSERT, HANAKO), now=True)
        assert (await d.event(stop))["why"].startswith("waits for more or until 30 s after it arrived (in ")
        assert (await d.event(upsert))["why"].startswith("waits for more or until 15 min after it arrived (in ")


async def test_a_flush_ends_no_pause(database: str, tmp_path: Path) -> None:
    """A flush clears nothing: a lane that waits or pauses goes on doing so."""
    async with desk(database, tmp_path, told_settings()) as d:
        await d.append((UPSERT, TARO))
        await d.flush(Unauthorized("81401"))
        before = await lane(d)
        after = await d.told("POST", f"/v1/logins/{LOGIN}/flush")
        assert not await has_work(d)
    assert before["paused"] == after["paused"]
    assert isinstance(before["waits"], dict)
    assert before["waits"]["until"] == after["waits"]["until"]


async def test_pause_and_resume(database: str, tmp_path: Path) -> None:
    """A pause keeps the flusher away and says why; a resume lets it go on at once."""
    async with desk(database, tmp_path, told_settings()) as d:
        [event] = await d.append((UPSERT, TARO))
        told = await d.told("POST", f"/v1/logins/{LOGIN}/pause", {"reason": "moving house "}, "operator")
        assert not await has_work(d)
        why = (await d.event(event))["why"]
        again = await d.told("POST", f"/v1/logins/{LOGIN}/pause")
        resumed = await d.told("POST", f"/v1/logins/{LOGIN}/resume", by="operator")
        assert len(d.woken) == 3
        assert await has_work(d)
    assert (told["paused"]["reason"], told["paused"]["detail"], told["paused"]["holds"]) == (
        "operator",
        "moving house",
        True,
    )
    assert why == "its login is paused: operator: moving house"
    assert again["paused"] == {**told["paused"], "detail": ""}
    assert resumed["paused"] is None


async def test_resume_after_a_refused_login(database: str, tmp_path: Path) -> None:
    """A lane that paused by itself goes on at an operator's word, on the same settings and without waiting."""
    async with desk(database, tmp_path, told_settings()) as d:
        [event] = await d.append((UPSERT, TARO))
        await d.flush(Unauthorized("81401: wrong"))
        paused = await lane(d)
        why = (await d.event(event))["why"]
        assert not await has_work(d)
        resumed = await d.told("POST", f"/v1/logins/{LOGIN}/resume")
        await d.flush(Delivered())
        assert (await d.event(event))["state"] == "delivered"
    assert isinstance(paused["paused"], dict)
    assert (paused["paused"]["reason"], paused["paused"]["detail"]) == ("unauthorized", "81401: wrong")
    assert paused["paused"]["holds"]
    assert why == "its login is paused: unauthorized: 81401: wrong"
    assert (resumed["paused"], resumed["waits"]) == (None, None)


async def test_an_operators_pause_stays_through_other_outcomes(database: str, tmp_path: Path) -> None:
    """An upload that ends after the pause does not end it."""
    async with desk(database, tmp_path, told_settings()) as d:
        await d.append((UPSERT, TARO))
        async with d.uploading():
            await d.told("POST", f"/v1/logins/{LOGIN}/pause", {"reason": "audit"})
        told = await lane(d)
    assert isinstance(told["paused"], dict)
    assert (told["paused"]["reason"], told["paused"]["detail"]) == ("operator", "audit")


async def test_a_resume_gives_a_vendor_its_time(database: str, tmp_path: Path) -> None:
    """While a vendor may still be importing, a resume does not let the next file overtake the last one."""
    async with desk(database, tmp_path, told_settings(settle_wait_s=600)) as d:
        await d.append((UPSERT, TARO), (UPSERT, HANAKO))
        await d.flush(Accepted())
        [stop] = await d.append((STOP, TARO))
        await d.told("POST", f"/v1/logins/{LOGIN}/pause")
        told = await d.told("POST", f"/v1/logins/{LOGIN}/resume")
        assert not await has_work(d)
        why = (await d.event(stop))["why"]
    assert told["waits"]["reason"] == "settling"
    assert why.startswith("the vendor may still be importing the last file; the next one may go up in ")


async def test_other_settings_are_not_held_by_the_pause(database: str, tmp_path: Path) -> None:
    """A replica with corrected settings tells that the pause does not hold for it, and why the event still waits."""
    async with desk(database, tmp_path, told_settings()) as d:
        await d.append((STOP, TARO))
        await d.flush(Misconfigured("81435: there is no such group"))
    corrected = with_accounts(told_settings(), group_id=7)
    assert login_plans(corrected, KEYS)[LOGIN].fingerprint != d.plan.fingerprint
    async with desk(database, tmp_path, corrected) as d:
        told = await lane(d)
        [batch] = await d.batches()
        why = (await d.get(f"/v1/batches/{batch['id']}"))["why"]
    assert isinstance(told["paused"], dict)
    assert not told["paused"]["holds"]
    assert why.startswith("its login rests for ")


async def test_data_waits_behind_opt_outs(database: str, tmp_path: Path) -> None:
    """While an opt-out waits for its next try, data says that it waits behind it; the opt-out names its own reason."""
    async with desk(database, tmp_path, told_settings()) as d:
        [delete] = await d.append((DELETE, TARO))
        await d.flush(Transient("no route"))
        [upsert] = await d.append((UPSERT, HANAKO))
        behind, own = await d.event(upsert), await d.event(delete)
    assert (behind["state"], behind["why"]) == ("pending", "waits behind opt-outs")
    assert own["why"].endswith("after 1 failed attempt: no route")


async def test_an_account_that_the_settings_no_longer_name(database: str, tmp_path: Path) -> None:
    """What waits for an account that is no longer in the settings is found, and says so."""
    async with desk(database, tmp_path, told_settings(2)) as d:
        event = d.w.event("account-1", UPSERT, TARO, 0)
        await d.w.store.append([event])
    async with desk(database, tmp_path, told_settings(1)) as d:
        [told] = (await d.get(f"/v1/webhooks/crm/{event.message_id}"))["events"]
    assert told["state"] == "pending"
    assert told["why"] == "its account is no longer in the settings, so that nothing is sent for it"


async def test_no_such_login(database: str, tmp_path: Path) -> None:
    """A login that the settings do not name cannot be flushed, paused or resumed."""
    async with desk(database, tmp_path, told_settings()) as d:
        for verb in ("flush", "pause", "resume"):
            await d.problem(404, "POST", f"/v1/logins/login-1/{verb}")
        assert d.woken == []


async def test_a_pauses_reason_is_one_short_line(database: str, tmp_path: Path) -> None:
    """A reason that is not a line of text is refused, and nothing is paused."""
    async with desk(database, tmp_path, told_settings()) as d:
        for body in ({"reason": "a\nb"}, {"reason": "x" * 201}, {"reason": "\0"}, {"reason": 7}):
            found = await d.problem(422, "POST", f"/v1/logins/{LOGIN}/pause", body)
            assert [error["field"] for error in found["errors"]] == ["reason"]
        assert (await lane(d))["paused"] is None


async def test_a_host_that_fails(database: str, tmp_path: Path) -> None:
    """A login tells how this replica sees its vendor's host, and what waits for it says so."""
    failing = HostState(State.OPEN, 24.5)
    async with desk(database, tmp_path, told_settings(), lambda _: failing) as d:
        [event] = await d.append((UPSERT, TARO))
        told, found = await lane(d), await d.event(event)
    assert told["breaker"] == {"host": "http://127.0.0.1:1", "state": "open", "next_try_s": 24.5}
    assert found["why"] == "the vendor's host has failed several times in a row, and is tried again in 25 s"


async def test_a_pause_because_of_columns(database: str, tmp_path: Path) -> None:
    """Data says what the vendor does not know, opt-outs go up, and resume ends it."""
    async with desk(database, tmp_path, told_settings()) as d:
        lease = await d.w.store.lease_lane(LOGIN, uuid4(), 60, d.plan.fingerprint)
        assert lease is not None
        await d.w.store.pause_for_columns(lease, "account-0: 氏名", d.plan.fingerprint)
        await d.w.store.release_lane(lease)
        upsert, stop = await d.append((UPSERT, TARO), (STOP, HANAKO))
        await d.flush()
        told = await lane(d)
        assert isinstance(told["paused"], dict)
        assert (told["paused"]["reason"], told["paused"]["holds"]) == ("columns", True)
        assert (await d.event(upsert))["why"] == "its login is paused: columns: account-0: 氏名"
        assert (await d.event(stop))["state"] == "delivered"
        await d.told("POST", f"/v1/logins/{LOGIN}/resume")
        await d.flush()
        assert (await d.event(upsert))["state"] == "delivered"
