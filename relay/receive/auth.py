"""Who may send a webhook: Standard Webhooks signatures, signatures of the body alone, and bearer tokens. Pure.

A signature (standardwebhooks.com) covers `<webhook-id>.<webhook-timestamp>.<raw body>` with HMAC-SHA256; the header
carries one or several, `v1,<base64> v1,<base64>`, so that a sender can change its secret without a gap. All secrets of
a source are live at once for the same reason. What is not `v1` (`v1a` is the asymmetric scheme) fits no key and is
passed over. Every comparison is constant-time, and none is left out once one fits.

How long it takes must not tell which sources exist or how they prove themselves. So every door tries as many keys as
the one with the most (`padded`), against the headers of all sources, with random keys where it has none.

A body that comes compressed may have been signed before or after: a sender's library signs what it is given, and its
HTTP client or a proxy compresses behind it. Either is good; both say the same to who inflates it.
"""

import base64
import binascii
import hmac
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from secrets import token_bytes

from relay.errors import FieldError
from relay.settings import BodySignature, Secret, Settings, Source

TOLERANCE_S = 300
"""How far `webhook-timestamp` may be from now, either way: Standard Webhooks' five minutes against replays."""

SECRET_PREFIX = "whsec_"  # noqa: S105 - the prefix is public

ID_HEADER = "webhook-id"
TIMESTAMP_HEADER = "webhook-timestamp"
SIGNATURE_HEADER = "webhook-signature"
AUTHORIZATION_HEADER = "Authorization"


def signing_key(secret: str) -> bytes:
    """Turn a secret into the key: base64 after `whsec_`, any other string as it is. Raises ValueError.

    The base64's padding may be missing, as the reference libraries allow.
    """
    if not secret.startswith(SECRET_PREFIX):
        return secret.encode("utf-8")
    encoded = secret.removeprefix(SECRET_PREFIX)
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise ValueError("expected base64 after whsec_")
    return key


def sign(key: bytes, message_id: str, timestamp: str, body: bytes) -> str:
    """Sign a body: the value of `webhook-signature`."""
    signed = _bytes(f"{message_id}.{timestamp}.") + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode("ascii")


@dataclass(frozen=True, slots=True)
class BodyProof:
    """What a signature of the body alone is compared with. Its repr tells nothing."""

    header: str
    prefix: str
    algorithm: str
    hexadecimal: bool
    keys: tuple[bytes, ...]

    def __repr__(self) -> str:
        return "BodyProof(<secret>)"

    @classmethod
    def of(cls, signature: BodySignature, secrets: Iterable[bytes]) -> "BodyProof":
        """Prepare a source's setting; `secrets` are its keys."""
        hexadecimal = signature.encoding == "hex"
        return cls(signature.header, signature.prefix, signature.algorithm, hexadecimal, tuple(secrets))

    def fits(self, headers: Mapping[str, str], bodies: Sequence[bytes]) -> bool:
        """Say whether the header holds the signature of one of the bodies with one of the keys."""
        value = headers.get(self.header)
        if value is None or not value.startswith(self.prefix):
            return False
        given = value[len(self.prefix) :]
        digests = [hmac.digest(key, body, self.algorithm) for key in self.keys for body in bodies]
        if self.hexadecimal:
            return _any_equal([digest.hex().encode("ascii") for digest in digests], [_bytes(given.lower())])
        return _any_equal([base64.b64encode(digest) for digest in digests], [_bytes(given)])


class Proof(Enum):
    """What has opened a door, and with it what of a request can be trusted to come from the source."""

    TOKEN = "all of it"  # noqa: S105 - says what it proves
    SIGNATURE = "the body and the webhook's id"
    BODY = "the body alone"


@dataclass(frozen=True, slots=True)
class Door:
    """What opens a source: keys and tokens, ready to compare with. Its repr tells nothing."""

    keys: tuple[bytes, ...]
    tokens: tuple[bytes, ...]
    body_proofs: tuple[BodyProof, ...] = ()

    def __repr__(self) -> str:
        return "Door(<secret>)"

    @classmethod
    def of(cls, source: Source) -> "Door":
        """Make the door of a source; ValueError where a secret is malformed."""
        proofs: tuple[BodyProof, ...] = ()
        if source.body_signature is not None:
            proofs = (BodyProof.of(source.body_signature, _keys(source.body_signature.secrets)),)
        return cls(
            _keys(source.signing_secrets),
            tuple(token.value.encode("utf-8") for token in source.bearer_tokens),
            proofs,
        )

    @classmethod
    def of_nowhere(cls, settings: Settings) -> "Door":
        """Make the door of all sources that do not exist: nothing opens it, and trying takes as long as elsewhere."""
        return cls((), (token_bytes(),)).padded(settings)

    def padded(self, settings: Settings) -> "Door":
        """Add random keys, which nothing fits, until trying takes as long as at any other source's door."""
        sources = settings.sources.values()
        proofs = {proof.header.lower(): proof for proof in self.body_proofs}
        for signature in (source.body_signature for source in sources):
            if signature is not None:
                header = signature.header.lower()
                proof = proofs.setdefault(header, BodyProof.of(signature, ()))
                proofs[header] = replace(proof, keys=_padded(proof.keys, len(signature.secrets)))
        most = max(len(source.signing_secrets) for source in sources)
        return Door(_padded(self.keys, most), self.tokens, tuple(proofs.values()))

    def proof(
        self,
        headers: Mapping[str, str],
        sent: bytes,
        now: datetime,
        *,
        inflated: bytes | None = None,
        signatures_cover: bool = True,
    ) -> Proof | None:
        """Say what proves that the request comes from the source: the best of what fits, or None.

        `inflated` is the body after inflation, where that is not what was `sent`. Where a signature would not cover
        all that is read of the request (`signatures_cover`), only a token opens.
        """
        bodies = (sent,) if inflated is None or inflated is sent else (sent, inflated)
        signed = self._signed(headers, bodies, now)
        fits = [proof.fits(headers, bodies) for proof in self.body_proofs]
        if self._borne(headers):
            return Proof.TOKEN
        if not signatures_cover:
            return None
        return Proof.SIGNATURE if signed else Proof.BODY if any(fits) else None

    def _signed(self, headers: Mapping[str, str], bodies: Sequence[bytes], now: datetime) -> bool:
        signatures = headers.get(SIGNATURE_HEADER)
        message_id = headers.get(ID_HEADER)
        timestamp = headers.get(TIMESTAMP_HEADER)
        if signatures is None or message_id is None or timestamp is None or not _timely(timestamp, now):
            return False
        given = [_bytes(part) for part in signatures.split(" ")]
        fitting = [sign(key, message_id, timestamp, body).encode("ascii") for key in self.keys for body in bodies]
        return _any_equal(fitting, given)

    def _borne(self, headers: Mapping[str, str]) -> bool:
        scheme, _, token = headers.get(AUTHORIZATION_HEADER, "").partition(" ")
        if scheme.lower() != "bearer":
            return False
        return _any_equal(self.tokens, [_bytes(token.strip())])


def proof_headers(settings: Settings) -> frozenset[str]:
    """Name the headers that hold a proof for any of the sources, in lower case."""
    own = {source.body_signature.header for source in settings.sources.values() if source.body_signature is not None}
    return frozenset(name.lower() for name in (SIGNATURE_HEADER, AUTHORIZATION_HEADER, *own))


def carries_proof(headers: Mapping[str, str], names: Collection[str]) -> bool:
    """Say whether there is anything to check at all; if not, the body need not even be read.

    `names` are those of all sources (`proof_headers`), so that the answer tells nothing about one of them; `headers`
    are to know no case.
    """
    return any(name in headers for name in names)


def check(settings: Settings) -> list[FieldError]:
    """Find signing secrets that cannot work."""
    problems = []
    for name, source in settings.sources.items():
        listed = {f"sources.{name}.signing_secrets": source.signing_secrets}
        if source.body_signature is not None:
            listed[f"sources.{name}.body_signature.secrets"] = source.body_signature.secrets
        for path, secrets in listed.items():
            for index, secret in enumerate(secrets):
                try:
                    signing_key(secret.value)
                except ValueError as error:
                    problems.append(FieldError(f"{path}[{index}]", str(error)))
    return problems


def _padded(keys: tuple[bytes, ...], count: int) -> tuple[bytes, ...]:
    return keys + tuple(token_bytes() for _ in range(count - len(keys)))


def _keys(secrets: Iterable[Secret]) -> tuple[bytes, ...]:
    return tuple(signing_key(secret.value) for secret in secrets)


def _timely(timestamp: str, now: datetime) -> bool:
    """Unix seconds as the standard writes them: ASCII digits, at most twelve."""
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= len("999999999999")):
        return False
    return abs(now.timestamp() - int(timestamp)) <= TOLERANCE_S


def _bytes(text: str) -> bytes:
    """Encode what came in a header, whatever it is: bytes that are no UTF-8 came as lone surrogates."""
    return text.encode("utf-8", "surrogatepass")


def _any_equal(known: Sequence[bytes], given: Sequence[bytes]) -> bool:
    equal = False
    for one in known:
        for other in given:
            equal |= hmac.compare_digest(one, other)
    return equal
