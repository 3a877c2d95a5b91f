"""What is allowed in a source's settings and yet unwise: `relay check` warns of it."""

from collections.abc import Iterator

from relay.errors import FieldError
from relay.settings import Secret, Settings, Source

SECRET_CHARACTERS_MIN = 16
"""Of random letters and digits: 95 bits. Whoever may try from anywhere tries shorter ones until one fits."""

_SHORT = (
    f"has fewer than {SECRET_CHARACTERS_MIN} characters, so that it can be guessed: `openssl rand -hex 32` makes one"
)
_OPEN = (
    "with its secret anybody can send from anywhere and as fast as they like: `networks`, `webhooks_per_s` limit that"
)


def cautions(settings: Settings) -> list[FieldError]:
    """Name what should be otherwise: short secrets, and sources with neither networks nor a rate."""
    found = []
    for name, source in settings.sources.items():
        for path, secret in _secrets(source):
            if len(secret.value) < SECRET_CHARACTERS_MIN:
                found.append(FieldError(f"sources.{name}.{path}", _SHORT))
        if not source.networks and source.webhooks_per_s is None:
            found.append(FieldError(f"sources.{name}", _OPEN))
    return found


def _secrets(source: Source) -> Iterator[tuple[str, Secret]]:
    body = () if source.body_signature is None else source.body_signature.secrets
    listed = {
        "signing_secrets": source.signing_secrets,
        "bearer_tokens": source.bearer_tokens,
        "body_signature.secrets": body,
    }
    for path, secrets in listed.items():
        yield from ((f"{path}[{index}]", secret) for index, secret in enumerate(secrets))
