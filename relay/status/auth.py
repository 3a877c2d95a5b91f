"""Who may use the status API: bearer tokens, of which the settings know only the SHA-256, each with its scopes."""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass

from relay.settings import ApiToken, Scope
from relay.store import Operator


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: the token's name in the settings, and what it may do."""

    name: str
    scopes: frozenset[Scope]

    @property
    def operator(self) -> Operator:
        """Who acts, for the audit record."""
        return Operator(self.name, "api")

    @property
    def sees_customers(self) -> bool:
        """Whether answers to this caller may hold customers' data."""
        return "pii" in self.scopes


class Guard:
    """Recognises callers. Every known token is compared, in constant time."""

    def __init__(self, tokens: Mapping[str, ApiToken]) -> None:
        self._tokens = [(token.sha256, Caller(name, token.scopes)) for name, token in tokens.items()]

    @property
    def closed(self) -> bool:
        """Whether nobody at all may call."""
        return not self._tokens

    def recognise(self, headers: Mapping[str, str]) -> Caller | None:
        """Tell who calls by `Authorization: Bearer <token>`; None if nobody that is known."""
        scheme, _, token = headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        given = hashlib.sha256(token.strip().encode("utf-8", "surrogateescape")).hexdigest()
        found = None
        for sha256, caller in self._tokens:
            if hmac.compare_digest(sha256, given):
                found = caller
        return found
