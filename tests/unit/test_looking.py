"""Looking at a vendor: what is compared does not hold up the process."""

import threading
from collections.abc import Callable, Iterator

from relay.flush.looking import look
from relay.settings import Account, Login
from relay.vendors import Call, Reply
from tests.unit.vendors.made import account, bme_login, reply

REGISTER = '"状態","E-Mail","氏名","生年月日"\r\n'


class Vendor:
    """Lets everybody in and gives one template."""

    async def reach(self, login: Login) -> str:
        """Nothing is in the way."""
        assert login.base_url
        return ""

    async def log_in(self, login: Login) -> None:
        """The login is good."""
        assert login.name

    async def ask(self, login: Login, call_with: Callable[[str | None], Call]) -> Reply:
        """The template."""
        assert login.name
        assert call_with("canary-token").method == "GET"
        return reply(REGISTER)


async def test_comparing_does_not_run_on_the_loop() -> None:
    """A thread of its own compares: a vendor's names may be many, and the time-out of a look cuts only what waits."""
    compared_in: list[int] = []

    def accounts() -> Iterator[Account]:
        compared_in.append(threading.get_ident())
        yield account(bme_login())

    found = await look(Vendor(), bme_login(), accounts())
    assert found.result == "good", found.detail
    assert compared_in
    assert threading.get_ident() not in compared_in
