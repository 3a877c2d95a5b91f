"""What the tests of receiving share: settings with one source and three accounts at three kinds of login."""

import pytest

from relay.events import Keys, Operation
from relay.receive.mapping import Mapper
from relay.settings import Settings
from tests.logins import LOGINS


@pytest.fixture
def settings() -> Settings:
    """Settings with the sources `crm` (to all accounts) and `shop` (to one, by arrival)."""
    parts: dict[str, object] = {
        "sources": {
            "crm": {"bearer_tokens": ["crm-token"], "accounts": ["news", "letter", "steps"]},
            "shop": {"bearer_tokens": ["shop-token"], "accounts": ["letter"], "order_by": "arrival"},
        },
        "logins": LOGINS,
        "accounts": {
            "news": {
                "login": "blast",
                "columns": {"E-Mail": "email", "氏名": "name", "誕生日": {"path": "birthday", "type": "date"}},
                "operations": {"customer.banned": "stop"},
            },
            "letter": {
                "login": "haihai",
                "columns": {"メール": "email", "名前": "name"},
                "unencodable": "reject",
            },
            "steps": {
                "login": "haihai",
                "address": "contact.email",
                "columns": {"メール": "contact.email"},
                "operations": {"customer.created": "ignore", "customer.updated": "ignore", "customer.banned": "ignore"},
            },
        },
    }
    return Settings.model_validate(parts)


@pytest.fixture
def layouts(settings: Settings) -> dict[tuple[str, Operation], int]:
    """A layout id for every account and operation, as the app gives them."""
    pairs = [(account, operation) for account in settings.accounts for operation in Operation]
    return {pair: number for number, pair in enumerate(pairs, 1)}


@pytest.fixture
def keys() -> Keys:
    """The deployment's secret."""
    return Keys(b"a deployment's secret")


@pytest.fixture
def crm(settings: Settings, keys: Keys, layouts: dict[tuple[str, Operation], int]) -> Mapper:
    """The mapper of the source `crm`."""
    return Mapper.of(settings, "crm", layouts, keys)
