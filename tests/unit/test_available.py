"""What counts as "not now": the sender keeps what it has, and is neither told that it is at fault nor that relay is."""

import asyncpg
import pytest
from asyncpg.exceptions import _base

from relay.errors import Unavailable
from relay.store.database import available

NOT_NOW = {
    "08": None,
    "25": {"25006", "25P03", "25P04"},
    "26": None,
    "28": None,
    "3D": None,
    "3F": None,
    "40": None,
    "42": {"42501", "42704", "42703", "42883", "42P01", "42P05"},
    "53": None,
    "55": None,
    "57": None,
    "58": None,
    "72": None,
    "XX": None,
}
"""By class of SQLSTATE: all of the class, or these of it."""

RAISED = [
    found
    for found in vars(asyncpg.exceptions).values()
    if isinstance(found, type) and issubclass(found, asyncpg.PostgresError) and found.sqlstate
]


def raised(error: Exception) -> Exception:
    """Raise an error where the store talks to Postgres; return what its caller gets."""
    with pytest.raises((Unavailable, type(error))) as caught, available():
        raise error
    return caught.value


def is_not_now(error: Exception) -> bool:
    """Say whether an error becomes Unavailable; what does not must come through as it is."""
    found = raised(error)
    if isinstance(found, Unavailable):
        assert str(found) == type(error).__name__
        assert found.__cause__ is error
        return True
    assert found is error
    return False


def test_every_error_of_postgres(subtests: pytest.Subtests) -> None:
    """Each SQLSTATE that asyncpg knows is sorted by whose fault it is, and no text of Postgres's is passed on."""
    assert len(RAISED) > 200
    for kind in RAISED:
        with subtests.test(sqlstate=kind.sqlstate):
            some = NOT_NOW.get(kind.sqlstate[:2], set())
            assert is_not_now(kind("taro@example.jp")) == (some is None or kind.sqlstate in some)


def test_errors_that_asyncpg_does_not_know() -> None:
    """A newer server's or a pooler's own error is sorted by its class."""
    for sqlstate in ("57P99", "53999", "XX099"):
        assert is_not_now(asyncpg.PostgresError.new({"S": "ERROR", "C": sqlstate, "M": "new"}))
    assert not is_not_now(asyncpg.PostgresError.new({"S": "ERROR", "C": "22999", "M": "new"}))


def test_errors_of_this_side() -> None:
    """No connection, or a broken one, is "not now"; an argument that cannot be sent is a bug, as any other error."""
    for error in (
        ConnectionRefusedError(),
        TimeoutError(),
        asyncpg.InterfaceError("connection is closed"),
        asyncpg.TargetServerAttributeNotMatched("no primary"),
        asyncpg.ProtocolError("nonsense"),
    ):
        assert is_not_now(error)
    for bug in (_base.DataError("invalid input for query argument $1"), ValueError("a bug"), LookupError("a bug")):
        assert not is_not_now(bug)
