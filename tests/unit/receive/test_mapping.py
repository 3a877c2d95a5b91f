"""From webhooks to events: what each account gets, when it happened, and what is told to the sender."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from relay.errors import FieldError, Invalid
from relay.events import Keys, Operation
from relay.receive.mapping import Mapper, Remark, Stamps
from relay.receive.parse import Webhook
from relay.settings import Settings

NOW = datetime(2026, 4, 1, 0, 0, tzinfo=UTC)

Layouts = Mapping[tuple[str, Operation], int]

DATA: dict[str, object] = {
    "email": "Taro@example.jp",
    "name": "髙橋 太郎",
    "birthday": "1990-05-31",
    "contact": {"email": "taro@example.jp"},
}
TIMESTAMP = "2026-04-01T08:00:00+09:00"  # an hour before NOW


def webhook(kind: str = "customer.created", timestamp: object = TIMESTAMP, **data: object) -> Webhook:
    """A webhook with changes to its data."""
    return Webhook("w1", f"customer.{kind}" if "." not in kind else kind, timestamp, {**DATA, **data})


def refusal(mapper: Mapper, given: Webhook) -> list[FieldError]:
    """The problems for which a webhook is refused."""
    with pytest.raises(Invalid) as error:
        mapper.events(given, NOW)
    return list(error.value.problems)


def test_one_event_for_each_account(crm: Mapper, keys: Keys, layouts: Layouts) -> None:
    """A webhook becomes one finished event for each account that does not ignore its type."""
    mapped = crm.events(webhook(), NOW)
    assert [event.account for event in mapped.events] == ["news", "letter"]
    news, letter = mapped.events
    assert news.line.decode("cp932") == '"Taro@example.jp","髙橋 太郎","19900531"\r\n'
    assert letter.line.decode("cp932") == '"Taro@example.jp","髙橋 太郎"\r\n'
    assert (news.layout, letter.layout) == (layouts["news", Operation.UPSERT], layouts["letter", Operation.UPSERT])
    for event in mapped.events:
        assert (event.source, event.message_id, event.operation) == ("crm", "w1", Operation.UPSERT)
        assert event.customer == keys.customer("taro@EXAMPLE.jp")
        assert event.digest == keys.digest(webhook().canonical())
        assert event.occurred_at == datetime(2026, 3, 31, 23, 0, tzinfo=UTC)
        assert event.received_at == NOW
    assert mapped.remarks == ()


@pytest.mark.parametrize(
    ("kind", "operations"),
    [
        ("deleted", {"news": "delete", "letter": "delete", "steps": "delete"}),
        ("stopped", {"news": "stop", "letter": "stop", "steps": "stop"}),
        ("banned", {"news": "stop", "letter": "ban"}),
        ("allowed", {"news": "allow", "letter": "allow", "steps": "allow"}),
        ("updated", {"news": "upsert", "letter": "upsert"}),
    ],
)
def test_what_a_type_becomes(crm: Mapper, kind: str, operations: dict[str, str]) -> None:
    """Each account takes a type as its settings say; an account that ignores it gets no event."""
    mapped = crm.events(webhook(kind), NOW)
    assert {event.account: event.operation for event in mapped.events} == operations


@pytest.mark.parametrize("kind", ["deleted", "stopped", "banned"])
def test_an_opt_out_reads_the_address_only(crm: Mapper, kind: str) -> None:
    """Emoji, NUL, half surrogates, wrong dates and wrong timestamps never keep an opt-out out."""
    garbage: dict[str, object] = {"name": "🍣\x00\ud800", "birthday": ["?"], "id": {}}
    mapped = crm.events(webhook(kind, timestamp="yesterday", **garbage), NOW)
    assert all(event.operation.opt_out and event.occurred_at == NOW for event in mapped.events)
    assert [(remark.field, remark.account) for remark in mapped.remarks] == [("timestamp", None)]


@pytest.mark.parametrize("kind", ["created", "deleted", "allowed"])
@pytest.mark.parametrize(
    "address", [None, "", 7, "no address", "a@b@example.jp", "太郎@example.jp", "a\x00@example.jp"]
)
def test_without_an_address_nothing_is_taken(crm: Mapper, kind: str, address: object) -> None:
    """A customer without a usable address is refused, whatever is to be done, naming the field."""
    problems = refusal(crm, webhook(kind, email=address))
    assert {problem.field for problem in problems} == {"data.email"}


def test_problems_of_all_accounts_together(crm: Mapper) -> None:
    """What is wrong for any account is told with the rest, once each, and the webhook is taken for none."""
    problems = refusal(crm, webhook(timestamp="2026-04-01 08:00:00", email="", name="🍣", birthday="soon"))
    assert sorted(problem.field for problem in problems) == ["data.birthday", "data.email", "data.name", "timestamp"]


def test_missing_in_one_account_only(crm: Mapper) -> None:
    """A webhook that one account cannot take is taken for none, so that a repeat can be for all."""
    given = webhook("deleted", contact={})
    assert [problem.field for problem in refusal(crm, given)] == ["data.contact.email"]


@pytest.mark.parametrize(
    "timestamp",
    [
        "2026-04-01T08:00:00",
        "2026-04-01",
        "yesterday",
        "",
        1775000000,
        True,
        [],
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "1970-01-01T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-04-01T08:00:00Z\x00",
        "2026-04-01x08:00:00Z",
        "２026-04-01T08:00:00Z",
        "2026-04-01T08:00:00." + "0" * 100 + "Z",
    ],
)
@pytest.mark.parametrize("kind", ["created", "updated", "allowed"])
def test_a_timestamp_that_does_not_say_when(crm: Mapper, kind: str, timestamp: object) -> None:
    """A timestamp without offset, a zero value or nonsense is refused where believing it could win over an opt-out."""
    (problem,) = refusal(crm, webhook(kind, timestamp))
    assert problem.field == "timestamp"


@pytest.mark.parametrize(
    ("timestamp", "moment"),
    [
        ("2026-03-31T23:00:00Z", datetime(2026, 3, 31, 23, 0, tzinfo=UTC)),
        ("2026-04-01T08:00:00.123456789+09:00", datetime(2026, 3, 31, 23, 0, 0, 123456, tzinfo=UTC)),
        ("20260401T080000+0900", datetime(2026, 3, 31, 23, 0, tzinfo=UTC)),
        (None, NOW),
    ],
)
def test_timestamps_that_are_read(crm: Mapper, timestamp: object, moment: datetime) -> None:
    """Any ISO 8601 moment with an offset counts; none at all means the time of arrival."""
    assert {event.occurred_at for event in crm.events(webhook(timestamp=timestamp), NOW).events} == {moment}


@pytest.mark.parametrize(
    ("kind", "ahead", "taken"),
    [
        ("created", timedelta(0), timedelta(0)),
        ("created", timedelta(microseconds=1), timedelta(0)),
        ("updated", timedelta(days=400), timedelta(0)),
        ("allowed", timedelta(hours=1), timedelta(0)),
        ("deleted", timedelta(hours=1), timedelta(hours=1)),
        ("stopped", timedelta(days=1), timedelta(days=1)),
        ("banned", timedelta(days=400), timedelta(days=1)),
    ],
)
def test_the_future(crm: Mapper, kind: str, ahead: timedelta, taken: timedelta) -> None:
    """A clock that runs ahead wins nothing: at most now, for an opt-out at most a day ahead; the sender is told."""
    mapped = crm.events(webhook(kind, (NOW + ahead).isoformat()), NOW)
    assert {event.occurred_at for event in mapped.events} == {NOW + taken}
    assert [remark.field for remark in mapped.remarks] == (["timestamp"] if taken < ahead else [])


@pytest.mark.parametrize("timestamp", ["2020-01-01T00:00:00Z", "2030-01-01T00:00:00Z", "nonsense", 5])
def test_order_by_arrival(settings: Settings, keys: Keys, layouts: Layouts, timestamp: object) -> None:
    """For a source that says so only the arrival counts; its timestamps are not even looked at."""
    shop = Mapper.of(settings, "shop", layouts, keys)
    mapped = shop.events(webhook(timestamp=timestamp), NOW)
    assert [event.occurred_at for event in mapped.events] == [NOW]
    assert mapped.remarks == ()


def test_replaced_characters_are_told_and_counted(settings: Settings, keys: Keys, layouts: Layouts) -> None:
    """A character without a Shift_JIS form becomes 〓 where the account says so: with a remark, and counted."""
    sources = {"crm": settings.sources["crm"].model_copy(update={"accounts": ("news",)})}
    only_news = settings.model_copy(update={"sources": sources})
    mapped = Mapper.of(only_news, "crm", layouts, keys).events(webhook(name="𠮷田🍣"), NOW)
    assert "〓田〓" in mapped.events[0].line.decode("cp932")
    assert mapped.replaced == {"news": 2}
    (remark,) = mapped.remarks
    assert (remark.account, remark.field) == ("news", "data.name")
    assert remark.members().keys() == {"account", "field", "message"}


def test_a_remark_on_the_whole_webhook_has_no_account() -> None:
    """What concerns every account is told without one."""
    assert Remark("timestamp", "late").members() == {"field": "timestamp", "message": "late"}


def test_an_account_named_twice_gets_one_event(settings: Settings, keys: Keys, layouts: Layouts) -> None:
    """A source that names an account twice does not send its customers there twice."""
    sources = {"crm": settings.sources["crm"].model_copy(update={"accounts": ("news", "news")})}
    mapper = Mapper.of(settings.model_copy(update={"sources": sources}), "crm", layouts, keys)
    assert len(mapper.events(webhook(), NOW).events) == 1


def test_stamps_only_grow() -> None:
    """Webhooks of one process never share a moment nor go back, though the clock stands still or is set back."""
    stamps = Stamps()
    clock = [NOW, NOW, NOW - timedelta(hours=1), NOW + timedelta(seconds=1)]
    given = [stamps.next(now) for now in clock]
    assert given[0] == NOW
    assert given[-1] == NOW + timedelta(seconds=1)
    assert all(earlier < later for earlier, later in pairwise(given))
