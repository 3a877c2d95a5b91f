"""Who may send a webhook: Standard Webhooks signatures and bearer tokens. Pure: the time is an argument.

A signature (standardwebhooks.com) covers `<webhook-id>.<webhook-timestamp>.<raw body>` with HMAC-SHA256; the header
carries one or several, `v1,<base64> v1,<base64>`, so that a sender can change its secret without a gap. All secrets of
a source are live at once for the same reason. Every comparison is constant-time, and none is left out once one fits.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from relay.errors import FieldError
from relay.settings import Settings, Source

TOLERANCE_S = 300
"""How far `webhook-timestamp` may be from now, either way: Standard Webhooks' five minutes against replays."""

SECRET_PREFIX = "whsec_"  # noqa: S105 - the prefix is public

ID_HEADER = "webhook-id"
TIMESTAMP_HEADER = "webhook-timestamp"
SIGNATURE_HEADER = "webhook-signature"
AUTHORIZATION_HEADER = "Authorization"


def signing_key(secret: str) -> bytes:
    """Turn a secret into the key: base64 after `whsec_`, any other string as it is. Raises ValueError."""
    if not secret.startswith(SECRET_PREFIX):
        return secret.encode("utf-8")
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise ValueError("expected base64 after whsec_")
    return key


def sign(key: bytes, message_id: str, timestamp: str, body: bytes) -> str:
    """Sign a body: the value of `webhook-signature`."""
    signed = f"{message_id}.{timestamp}.".encode("utf-8", "surrogateescape") + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode("ascii")


@dataclass(frozen=True, slots=True)
class Door:
    """What opens a source: keys and tokens, ready to compare with. Its repr tells nothing."""

    keys: tuple[bytes, ...]
    tokens: tuple[bytes, ...]

    def __repr__(self) -> str:
        return "Door(<secret>)"

    @classmethod
    def of(cls, source: Source) -> "Door":
        """Make the door of a source; ValueError where a secret is malformed."""
        return cls(
            tuple(signing_key(secret.value) for secret in source.signing_secrets),
            tuple(token.value.encode("utf-8") for token in source.bearer_tokens),
        )

    def opens(self, headers: Mapping[str, str], body: bytes, now: datetime) -> bool:
        """Say whether the request is signed with one of the keys or bears one of the tokens."""
        return self._signed(headers, body, now) | self._borne(headers)

    def _signed(self, headers: Mapping[str, str], body: bytes, now: datetime) -> bool:
        signatures = headers.get(SIGNATURE_HEADER)
        message_id = headers.get(ID_HEADER)
        timestamp = headers.get(TIMESTAMP_HEADER)
        if signatures is None or message_id is None or timestamp is None or not _timely(timestamp, now):
            return False
        given = [part.encode("utf-8", "surrogateescape") for part in signatures.split(" ")]
        return _any_equal([sign(key, message_id, timestamp, body).encode("ascii") for key in self.keys], given)

    def _borne(self, headers: Mapping[str, str]) -> bool:
        scheme, _, token = headers.get(AUTHORIZATION_HEADER, "").partition(" ")
        if scheme.lower() != "bearer":
            return False
        return _any_equal(self.tokens, [token.strip().encode("utf-8", "surrogateescape")])


def carries_proof(headers: Mapping[str, str]) -> bool:
    """Say whether there is anything to check at all; if not, the body need not even be read."""
    return SIGNATURE_HEADER in headers or AUTHORIZATION_HEADER in headers


def check(settings: Settings) -> list[FieldError]:
    """Find signing secrets that cannot work."""
    problems = []
    for name, source in settings.sources.items():
        for index, secret in enumerate(source.signing_secrets):
            try:
                signing_key(secret.value)
            except ValueError as error:
                problems.append(FieldError(f"sources.{name}.signing_secrets[{index}]", str(error)))
    return problems


def _timely(timestamp: str, now: datetime) -> bool:
    """Unix seconds as the standard writes them: ASCII digits, at most twelve."""
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= len("999999999999")):
        return False
    return abs(now.timestamp() - int(timestamp)) <= TOLERANCE_S


def _any_equal(known: Sequence[bytes], given: Sequence[bytes]) -> bool:
    equal = False
    for one in known:
        for other in given:
            equal |= hmac.compare_digest(one, other)
    return equal
