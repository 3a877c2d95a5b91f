"""Settings of sources that cannot work, found at start. Pure."""

from collections.abc import Iterator

from relay.errors import FieldError
from relay.events import Operation
from relay.receive import auth
from relay.settings import Settings


def check(settings: Settings) -> list[FieldError]:
    """Find secrets that fit nothing, and customers who would be followed to a new address and mailed at the old one."""
    return [*auth.check(settings), *_left_behind(settings)]


def _left_behind(settings: Settings) -> Iterator[FieldError]:
    for name, source in settings.sources.items():
        if not source.tracks:
            continue
        if Operation.DELETE not in source.operations:
            problem = "must hold `delete`: a customer who changes the address is deleted at the old one"
            yield FieldError(f"sources.{name}.operations", problem)
        for account in source.accounts:
            if settings.accounts[account].operation("customer.deleted") is None:
                problem = (
                    f"ignores customer.deleted: customers of the source `{name}` who move would be mailed as before"
                )
                yield FieldError(f"accounts.{account}.operations", problem)
