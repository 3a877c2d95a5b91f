"""Reading what webhooks say at paths into `data`, or into a whole body. Pure."""

from collections.abc import Callable

import jmespath

from relay import csvline
from relay.settings import plain_path

ID_CHARACTERS_MAX = 200
"""As for webhooks' ids; no system's key for a customer comes near."""

EXPECTED_ID = f"expected the customer's id: text of 1 to {ID_CHARACTERS_MAX} characters, or a whole number"

Read = Callable[[object], object]


def reader(path: str) -> Read:
    """Compile a path into a JSON value; what is not there, or what it cannot be applied to, is None."""
    keys = plain_path(path)
    if keys is None:
        return _expression(path)

    def read(data: object) -> object:
        value = data
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return value

    return read


def _expression(path: str) -> Read:
    search = jmespath.compile(path).search

    def read(data: object) -> object:
        try:
            return search(data)
        except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError):  # jmespath's own are ValueErrors
            return None

    return read


def sound_id(value: object) -> str | None:
    """Take a customer's id as text; None for what is none. 7 and "7" are the same customer."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        value = str(value) if value.bit_length() <= 3 * ID_CHARACTERS_MAX else ""
    if not isinstance(value, str) or csvline.broken(value):
        return None
    return value if 1 <= len(value) <= ID_CHARACTERS_MAX else None


def blank(value: object) -> bool:
    """Say whether there is no address: nothing, null or empty text, which no customer can be mailed at."""
    return value is None or (isinstance(value, str) and not value.strip())
