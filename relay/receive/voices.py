"""How what a followed webhook comes to is said to each account. Pure."""

from collections.abc import Mapping
from datetime import datetime

from relay import csvline
from relay.columns import Plan
from relay.events import Event, Keys, Operation
from relay.settings import Account, Settings
from relay.vendors import vendor_of


class AccountVoice:
    """How words about addresses are said to one account: rendered as their operations want them."""

    __slots__ = ("_account", "_keys", "_layouts", "_plans", "_source", "leaving")

    def __init__(
        self,
        settings: Settings,
        source: str,
        account: Account,
        layouts: Mapping[tuple[str, Operation], int],
        keys: Keys,
    ) -> None:
        login = settings.login_of(account)
        operations: list[Operation] = [
            one for one in Operation if one in login.operations and one is not Operation.UPSERT
        ]
        self._account = account
        self._source = source
        self._keys = keys
        self._layouts = {operation: layouts[account.name, operation] for operation in operations}
        self._plans = {one: Plan(vendor_of(login).columns(login, account, one), account.address) for one in operations}
        self.leaving = account.operation("customer.deleted")

    def event(
        self, operation: Operation, address: str, message_id: str, digest: bytes, times: tuple[datetime, datetime]
    ) -> Event:
        """Make the event of an opt-out or allow. A ban of old that the vendor knows no more is a stop."""
        if operation is Operation.BAN and operation not in self._plans:
            operation = Operation.STOP
        rendered = self._plans[operation].render(_nested(self._account.address, address), self._account.unencodable)
        return Event(
            account=self._account.name,
            source=self._source,
            message_id=message_id,
            digest=digest,
            operation=operation,
            customer=self._keys.customer(address),
            layout=self._layouts[operation],
            line=csvline.record(rendered.cells),
            occurred_at=times[0],
            received_at=times[1],
        )


def _nested(path: str, address: str) -> Mapping[str, object]:
    """Put an address where a plan looks for it."""
    value: object = address
    for key in reversed(path.split(".")):
        value = {key: value}
    return value if isinstance(value, dict) else {}
