"""Opt-outs that wait for an address, as operators are told of them."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.events import Operation
from relay.receive.following import decide
from tests.integration.telling import ACCOUNT, Desk, desk, told_settings
from tests.unit.receive.followed import ACCOUNT as NEWS
from tests.unit.receive.followed import SOURCE, Says, Told

U, D, S = Operation.UPSERT, Operation.DELETE, Operation.STOP


@pytest.fixture
async def front(database: str, tmp_path: Path) -> AsyncIterator[Desk]:
    """A status API over a log."""
    async with desk(database, tmp_path, told_settings()) as front:
        yield front


async def follow(front: Desk, *words: Says) -> None:
    """Append words, a second apart; their ids are m1, m2 and so on."""
    told = Told()
    for second, says in enumerate(words, 1):
        (became,) = await front.w.store.follow([told.webhook(says, second)], decide)
        assert became.status == "new"


async def test_a_webhook_tells_all_that_it_came_to(front: Desk) -> None:
    """Its events are told with why relay added them, under the webhook's own id."""
    await follow(front, Says(U, "i", "a"), Says(S, "i"), Says(U, "i", "b"))
    told = await front.get(f"/v1/webhooks/{SOURCE}/m3")
    assert {(event["added"], event["operation"]) for event in told["events"]} == {
        (None, "upsert"),
        ("kept", "stop"),
        ("moved", "delete"),
    }
    assert {event["webhook_id"] for event in told["events"]} == {"m3"}
    assert told["unresolved"] == []


async def test_what_waits_is_listed_told_and_dismissed(front: Desk) -> None:
    """With why, by source and a page at a time; who dismisses it sees it no more in the list, but at the webhook."""
    await follow(front, Says(D, "i"), Says(S, "j"), Says(D, "k"))
    page = await front.get("/v1/unresolved?limit=2", by="reader")
    assert [one["webhook_id"] for one in page["unresolved"]] == ["m1", "m2"]
    last = await front.get(f"/v1/unresolved?source={SOURCE}&after={page['next']}")
    assert ([one["webhook_id"] for one in last["unresolved"]], last["next"]) == (["m3"], None)
    assert (await front.get("/v1/unresolved?source=another"))["unresolved"] == []
    assert (
        page["unresolved"][0].items()
        >= {
            "account": NEWS,
            "source": SOURCE,
            "operation": "delete",
            "state": "unresolved",
            "dismissed_at": None,
            "why": "no address is known for the customer's id at this account: it is kept until there is one",
        }.items()
    )
    told = await front.get(f"/v1/webhooks/{SOURCE}/m1")
    assert (told["events"], told["unresolved"]) == ([], page["unresolved"][:1])
    assert await front.told("POST", f"/v1/webhooks/{SOURCE}/m1/dismiss", by="operator") == {"events": 1}
    assert [one["webhook_id"] for one in (await front.get("/v1/unresolved"))["unresolved"]] == ["m2", "m3"]
    (dismissed,) = (await front.get(f"/v1/webhooks/{SOURCE}/m1"))["unresolved"]
    assert dismissed["dismissed_at"] is not None
    assert dismissed["why"].endswith("and is not counted meanwhile")


async def test_what_cannot_be_dismissed(front: Desk) -> None:
    """404 for what does not wait, 409 for what is dismissed already, 403 without the scope."""
    await follow(front, Says(D, "i"), Says(U, "j", "a"))
    path = f"/v1/webhooks/{SOURCE}/m1/dismiss"
    await front.problem(403, "POST", path, by="reader")
    await front.told("POST", path)
    await front.problem(409, "POST", path)
    await front.problem(404, "POST", f"/v1/webhooks/{SOURCE}/m2/dismiss")
    await front.problem(404, "POST", f"/v1/webhooks/{SOURCE}/m%00/dismiss")
    await front.problem(422, "GET", "/v1/unresolved?source=no source")
    assert ACCOUNT != NEWS, "an account that the settings do not name is told of all the same"
