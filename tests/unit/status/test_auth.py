"""Who is recognised by the status API's tokens."""

import hashlib

import pytest

from relay.settings import ApiToken
from relay.status.auth import Guard


def token(text: str, *scopes: str) -> ApiToken:
    """A token as the settings know it."""
    return ApiToken.model_validate({"sha256": hashlib.sha256(text.encode()).hexdigest(), "scopes": scopes})


GUARD = Guard({"ops": token("ops-token", "read", "operate"), "audit": token("audit-token", "pii")})


@pytest.mark.parametrize(
    ("header", "name"),
    [("Bearer ops-token", "ops"), ("bearer  audit-token ", "audit")],
)
def test_a_known_token_is_recognised(header: str, name: str) -> None:
    """Each token has its own name and scopes; the scheme's case and outer spaces make no difference."""
    caller = GUARD.recognise({"Authorization": header})
    assert caller is not None
    assert caller.name == name
    assert caller.sees_customers == (name == "audit")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Basic ops-token"},
        {"Authorization": "ops-token"},
        {"Authorization": "Bearer " + hashlib.sha256(b"ops-token").hexdigest()},
        {"Authorization": "Bearer \udcff"},
    ],
)
def test_nobody_else_is(headers: dict[str, str]) -> None:
    """Nothing but a token opens, its hash from the settings least of all."""
    assert GUARD.recognise(headers) is None


def test_without_tokens_nobody_is_recognised() -> None:
    """A deployment that configures no token has closed the status API."""
    guard = Guard({})
    assert guard.closed
    assert guard.recognise({"Authorization": "Bearer "}) is None
