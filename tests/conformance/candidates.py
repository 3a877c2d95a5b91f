"""The vendors that have to conform: for each one a login, an account, a simulator, and what is its own.

A new vendor adds a row here and its golden files (`python -m tests.conformance.golden` writes those that are missing).
All secrets of its login begin with "canary-", so that they are known wherever they turn up.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from relay.batches import (
    Accepted,
    Busy,
    Delivered,
    Misconfigured,
    Outcome,
    Refused,
    Unauthorized,
    Unknown,
)
from relay.demo.sim_bme import BASE_PATH, BmeContract, BmeSim
from relay.demo.sim_faults import Kind
from relay.demo.sim_haihai import HaihaiContract, HaihaiSim
from relay.demo.sim_server import Sim
from relay.settings import Account, Login, Secret
from relay.vendors import VENDORS, Vendor
from tests.unit.vendors.made import account, bme_login, haihai_login

COLUMNS = ("氏名", "生年月日")


@dataclass(frozen=True, slots=True)
class Candidate:
    """One vendor. `login` makes a login for a base URL, `sim` its simulator, `base_path` is the API's place there.

    `confirms` is what a good upload comes to. `statuses` are HTTP statuses that mean something of its own without a
    word in the body, `outcomes` what the simulator's faults come to where that is its own. `spent` makes a simulator
    that takes no more calls that day, for vendors that count them.
    """

    vendor: str
    login: Callable[..., Login]
    sim: Callable[[], Sim]
    confirms: type[Outcome]
    statuses: Mapping[int, type[Outcome]]
    outcomes: Mapping[Kind, type[Outcome]] = field(default_factory=dict)
    account: Mapping[str, Any] = field(default_factory=dict)
    base_path: str = ""
    spent: Callable[[], Sim] | None = None

    @property
    def adapter(self) -> Vendor:
        """Its adapter."""
        return VENDORS[self.vendor]

    def to(self, login: Login, **settings: object) -> Account:
        """The account that the tests upload to."""
        return account(login, **{**self.account, **settings})


def secrets_of(login: Login) -> dict[str, str]:
    """Find the secrets among a login's settings, by their names."""
    return dict(_secrets(login.model_dump()))


def _secrets(settings: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    for name, value in settings.items():
        if isinstance(value, Secret):
            yield name, value.value
        elif isinstance(value, Mapping):
            yield from _secrets(value)


def _haihai(calls_per_day: int | None) -> HaihaiSim:
    return HaihaiSim(
        HaihaiContract(
            123,
            "relay",
            "canary-transport",
            columns=("メールアドレス", *COLUMNS),
            groups=frozenset({7}),
            calls_per_day=calls_per_day,
        )
    )


def _bme(vendor: str) -> Candidate:
    return Candidate(
        vendor,
        lambda **given: bme_login(vendor=vendor, **given),
        lambda: BmeSim(
            BmeContract(
                "relay",
                "canary-password",
                "canary-api-key",
                columns=COLUMNS,
                token_begins="canary-token",
            )
        ),
        Delivered,
        # 400 is no permanent answer there, and a 200 has to count.
        {HTTPStatus.OK: Unknown, HTTPStatus.BAD_REQUEST: Unknown},
        {
            "busy": Busy,
            "expired_token": Delivered,  # a new token, and the file again
            "refuse_file": Refused,
            "wrong_counts": Unknown,
            "wrong_lines": Unknown,
            "xml": Delivered,
        },
        base_path=BASE_PATH,
    )


CANDIDATES = {
    candidate.vendor: candidate
    for candidate in (
        Candidate(
            "haihai",
            haihai_login,
            lambda: _haihai(None),
            Accepted,
            {HTTPStatus.OK: Accepted, HTTPStatus.BAD_REQUEST: Misconfigured},
            {"code": Unauthorized, "refuse_file": Misconfigured},
            {"group_id": 7},
            spent=lambda: _haihai(0),
        ),
        _bme("blastmail"),
        _bme("blaynmail"),
    )
}
