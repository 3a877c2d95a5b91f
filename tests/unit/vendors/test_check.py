"""What `vendors.check` finds in the settings, and how long data waits by default."""

from typing import Any

import pytest

from relay.events import Operation
from relay.settings import Settings
from relay.vendors import check, flush_after_s
from tests.unit.vendors.made import account, bme_login, haihai_login

HAI: dict[str, Any] = {
    "vendor": "haihai",
    "base_url": "https://hai.example.jp",
    "aid": 1,
    "login_id": "relay",
    "transport_password": "canary-transport",
}
BLAST: dict[str, Any] = {
    "vendor": "blastmail",
    "username": "relay",
    "password": "canary-password",
    "api_key": "canary-api-key",
}
NEWS: dict[str, Any] = {"login": "blast", "columns": {"E-Mail": "email"}, "operations": {"customer.banned": "stop"}}


def found(login: dict[str, Any] | None = None, **changes: object) -> dict[str, str]:
    """Check one login with one account, which `changes` changes; return the messages by path."""
    given = {
        "sources": {"crm": {"bearer_tokens": ["canary-token-token"], "accounts": ["news"]}},
        "logins": {"blast": login or BLAST},
        "accounts": {"news": NEWS | changes},
    }
    return {problem.field: problem.message for problem in check(Settings.model_validate(given))}


def test_settings_that_can_work_have_no_problems() -> None:
    """At all vendors."""
    assert found() == {}
    assert found(BLAST | {"vendor": "blaynmail"}, mode="update") == {}
    assert found(HAI, operations={}, group_id=3, step_plan_id=4, mode="create") == {}


def test_a_ban_has_to_become_something_at_bme() -> None:
    """Bme knows no ban: no webhook may be refused for that at night, so it is told at start."""
    assert found(operations={}) == {
        "accounts.news.operations": 'blastmail has no ban: map customer.banned to "stop" or "ignore"'
    }
    assert found(operations={"customer.banned": "ignore"}) == {}
    assert found(operations={"customer.banned": "delete"}) == {}
    assert found(HAI, operations={}) == {}


def test_a_type_may_not_be_mapped_to_what_the_vendor_lacks() -> None:
    """Any type, not only the ban's own."""
    assert "accounts.news.operations" in found(operations={"customer.banned": "stop", "customer.deleted": "ban"})


@pytest.mark.parametrize("operation", ["upsert", "allow"])
@pytest.mark.parametrize("event_type", ["customer.deleted", "customer.stopped", "customer.banned"])
def test_an_opt_out_may_not_become_its_opposite(event_type: str, operation: str) -> None:
    """Who asked to be left alone would be mailed."""
    problems = found(HAI, operations={event_type: operation})
    assert problems == {"accounts.news.operations": f"{event_type} is an opt-out and cannot become {operation}"}


def test_a_mode_that_the_vendor_lacks_is_named() -> None:
    """配配メール cannot only update."""
    assert found(HAI, mode="update") == {"accounts.news.mode": "haihai knows the modes all, create"}


def test_groups_and_step_plans_are_haihai_s() -> None:
    """Both are told at once."""
    assert set(found(group_id=1, step_plan_id=2)) == {"accounts.news.group_id", "accounts.news.step_plan_id"}


@pytest.mark.parametrize("header", ["状態", " 状態 ", "配信状態"])
def test_status_may_not_be_a_column_at_bme(header: str) -> None:
    """Under its own name or the one that the login gives it: an empty cell subscribes people again who left."""
    login = BLAST | {"status_header": "配信状態"}
    columns = {"E-Mail": "email", header: "status"}
    assert set(found(login, columns=columns)) == {"accounts.news.columns"}
    assert found(HAI, columns=columns, operations={}) == {}


def test_fields_of_the_form_are_not_filled_in_twice() -> None:
    """Neither by extra fields nor by the password's name."""
    login = HAI | {"extra_fields": {"aid": "1", "transport_passwd": "x", "token": "y"}, "password_field": "gid"}
    problems = found(login, operations={})
    assert problems == {
        "logins.blast.extra_fields": "relay fills in aid itself",
        "logins.blast.password_field": "gid is another part of the form",
    }


@pytest.mark.parametrize(("event_type", "operation"), [("customer.allowed", "upsert"), ("customer.created", "allow")])
def test_data_and_consent_are_not_mixed_up(event_type: str, operation: str) -> None:
    """Consent holds no record to write, and a record is no consent: either is itself or is ignored."""
    problems = found(HAI, operations={event_type: operation})
    assert list(problems) == ["accounts.news.operations"]
    assert f'"ignore", and cannot become {operation}' in problems["accounts.news.operations"]
    assert found(HAI, operations={event_type: "ignore"}) == {}


def test_texts_that_could_not_work_are_named() -> None:
    """An empty message would match all, a status header must be writable."""
    problems = found(BLAST | {"unknown_address_messages": ["存在しません", " "], "status_header": "🙂"})
    assert set(problems) == {"logins.blast.unknown_address_messages", "logins.blast.status_header"}


@pytest.mark.parametrize(
    "url",
    ["https://[::1", "https://a..example.jp", f"https://{'x' * 64}.jp", "https://hai.example.jp:99999", "https://:8"],
)
def test_a_url_that_leads_nowhere_is_named(url: str) -> None:
    """At start, not with the first file at night."""
    assert list(found(HAI | {"base_url": url}, operations={})) == ["logins.blast.base_url"]


@pytest.mark.parametrize("user", ["relay@", "relay:canary-password@", ":canary-password@"])
def test_a_url_holds_no_secrets(user: str) -> None:
    """It is shown where secrets are not, and the message does not repeat it."""
    problems = found(HAI | {"base_url": f"https://{user}hai.example.jp"}, operations={})
    assert list(problems) == ["logins.blast.base_url"]
    assert "canary" not in str(problems)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8080", "http://[::1]:8080/rest", "https://配信.example.jp/rest/1.0/"]
)
def test_a_url_with_a_port_a_path_or_a_japanese_host_is_fine(url: str) -> None:
    """Contracts with a domain of their own have such hosts."""
    assert found(HAI | {"base_url": url}, operations={}) == {}


def test_all_mistakes_are_found_together() -> None:
    """One start shows them all, and an account without a login does not hide the others."""
    given = {
        "sources": {"crm": {"bearer_tokens": ["canary-token-token"], "accounts": ["news"]}},
        "logins": {"blast": BLAST, "hai": HAI},
        "accounts": {
            "lost": NEWS | {"login": "nowhere"},
            "one": NEWS | {"operations": {}, "group_id": 1},
            "two": NEWS | {"login": "hai", "mode": "update", "operations": {"customer.stopped": "allow"}},
        },
    }
    assert [problem.field for problem in check(Settings.model_validate(given))] == [
        "accounts.one.operations",
        "accounts.one.group_id",
        "accounts.two.mode",
        "accounts.two.operations",
    ]


def test_data_waits_as_long_as_the_account_or_the_vendor_says() -> None:
    """60 s, but 900 s on 配配メール's shared server, whose calls are counted; an account's own word goes first."""
    shared, dedicated, bme = haihai_login(), haihai_login(server="dedicated"), bme_login()
    assert flush_after_s(shared, account(shared), Operation.UPSERT) == 900
    assert flush_after_s(dedicated, account(dedicated), Operation.UPSERT) == 60
    assert flush_after_s(bme, account(bme), Operation.UPSERT) == 60
    assert flush_after_s(shared, account(shared, flush_after_s=0), Operation.UPSERT) == 0
    assert flush_after_s(bme, account(bme, flush_after_s=5), Operation.UPSERT) == 5
    assert flush_after_s(bme, account(bme), Operation.DELETE) == 10
    assert flush_after_s(bme, account(bme, flush_opt_outs_after_s=3), Operation.STOP) == 3


def test_a_busy_day_at_a_shared_server_keeps_within_its_calls() -> None:
    """Opt-outs and data, each flushed as often as the defaults allow, do not spend more than the day's 240 calls."""
    shared = haihai_login()
    waits = [flush_after_s(shared, account(shared), operation) for operation in (Operation.STOP, Operation.UPSERT)]
    assert sum(86_400 / wait for wait in waits) <= 240


BLAYN = BLAST | {"vendor": "blaynmail"}
SHORT = "https://api.bme.jp/rest/1.0"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (BLAST, BLAST, True),
        (BLAST, BLAST | {"password": "canary-another", "api_key": "canary-key", "base_url": f"{SHORT}/"}, True),
        (BLAST, BLAST | {"username": "another"}, False),
        (BLAST, BLAST | {"base_url": "https://api.example.jp/rest/1.0"}, False),
        (BLAST, BLAYN, False),
        (HAI, HAI | {"transport_password": "canary-another"}, True),
        (HAI, HAI | {"base_url": "https://HAI.example.jp/"}, True),
        (HAI, HAI | {"aid": 2}, False),
        (HAI, HAI | {"login_id": "another"}, False),
        (HAI, HAI | {"base_url": "https://hai2.example.jp"}, False),
    ],
)
def test_two_logins_are_two_contracts(one: dict[str, Any], other: dict[str, Any], *, same: bool) -> None:
    """One contract under two names would import side by side, and count its day's calls twice: both are named."""
    given = {
        "sources": {"crm": {"bearer_tokens": ["canary-token-token"], "accounts": ["news"]}},
        "logins": {"one": one, "two": other},
        "accounts": {
            "news": {"login": "one", "columns": {"E-Mail": "email"}, "operations": {"customer.banned": "stop"}}
        },
    }
    problems = [(problem.field, problem.message) for problem in check(Settings.model_validate(given))]
    told = "is the same user of the same contract as logins.one: give accounts one login"
    assert problems == ([("logins.two", told)] if same else [])
