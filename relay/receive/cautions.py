"""What is allowed in a source's settings and yet unwise: `relay check` warns of it."""

from collections.abc import Iterator

from relay.errors import FieldError
from relay.receive.auth import signing_key
from relay.settings import Settings, Source

KEY_BYTES_MIN = 16
"""Whoever has seen one signed request tries shorter keys in peace, at home, until one fits."""

TOKEN_CHARACTERS_MIN = 16
"""Of random letters and digits: 95 bits."""

_MAKE_ONE = "`openssl rand -hex 32` makes one"
_SHORT_KEY = f"is a key of fewer than {KEY_BYTES_MIN} bytes, so that it can be guessed: take 24 or more; {_MAKE_ONE}"
_SHORT_TOKEN = f"has fewer than {TOKEN_CHARACTERS_MIN} characters, so that it can be guessed: {_MAKE_ONE}"


def cautions(settings: Settings) -> list[FieldError]:
    """Name the secrets that should be longer. Those that cannot work at all are told elsewhere, as mistakes."""
    return [
        FieldError(f"sources.{name}.{path}", problem)
        for name, source in settings.sources.items()
        for path, problem in (*_short_keys(source), *_short_tokens(source))
    ]


def _short_keys(source: Source) -> Iterator[tuple[str, str]]:
    body = () if source.body_signature is None else source.body_signature.secrets
    for path, secrets in (("signing_secrets", source.signing_secrets), ("body_signature.secrets", body)):
        for index, secret in enumerate(secrets):
            try:
                key = signing_key(secret.value)
            except ValueError:
                continue
            if len(key) < KEY_BYTES_MIN:
                yield f"{path}[{index}]", _SHORT_KEY


def _short_tokens(source: Source) -> Iterator[tuple[str, str]]:
    for index, token in enumerate(source.bearer_tokens):
        if len(token.value) < TOKEN_CHARACTERS_MIN:
            yield f"bearer_tokens[{index}]", _SHORT_TOKEN
