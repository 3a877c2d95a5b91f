"""Sources that cannot work are found at start."""

from relay.receive import check
from relay.settings import Settings


def settings(source: dict[str, object], operations: dict[str, str]) -> Settings:
    """One source with an account."""
    return Settings.model_validate(
        {
            "sources": {"crm": {"bearer_tokens": ["t" * 20], "accounts": ["news"], **source}},
            "logins": {"blast": {"vendor": "blastmail", "username": "u", "password": "p", "api_key": "k"}},
            "accounts": {"news": {"login": "blast", "columns": {"E-Mail": "email"}, "operations": operations}},
        }
    )


def fields(source: dict[str, object], operations: dict[str, str]) -> list[str]:
    """What is wrong."""
    return [problem.field for problem in check(settings(source, operations))]


def test_nobody_is_followed_away_from_an_address_that_stays() -> None:
    """Who follows customers has to be able to delete them where they were: else they are mailed twice, and for ever."""
    ignored = {"customer.deleted": "ignore"}
    assert fields({"customer_id": "id"}, ignored) == ["accounts.news.operations"]
    assert fields({"previous_address": "was", "operations": ["upsert"]}, {}) == ["sources.crm.operations"]
    assert fields({"customer_id": "id"}, {"customer.deleted": "stop"}) == []
    assert fields({"operations": ["upsert"]}, ignored) == []
