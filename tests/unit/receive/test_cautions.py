"""What `relay check` warns of: secrets that can be guessed."""

import base64

import pytest

from relay.receive.cautions import KEY_BYTES_MIN, TOKEN_CHARACTERS_MIN, cautions
from relay.settings import Settings

LONG = "x" * KEY_BYTES_MIN
SHORT = LONG[1:]


def whsec(size: int) -> str:
    """Make a secret of Standard Webhooks with a key of so many bytes."""
    return "whsec_" + base64.b64encode(b"k" * size).decode()


def settings(**source: object) -> Settings:
    """Make settings with one source."""
    return Settings.model_validate(
        {
            "sources": {"crm": {"accounts": ["news"], **source}},
            "logins": {"blast": {"vendor": "blastmail", "username": "u", "password": "p", "api_key": "k"}},
            "accounts": {"news": {"login": "blast", "columns": {"E-Mail": "email"}}},
        }
    )


def test_short_secrets() -> None:
    """Each secret that could be guessed is named by its path, never by its value."""
    assert KEY_BYTES_MIN == TOKEN_CHARACTERS_MIN
    found = cautions(
        settings(
            signing_secrets=[LONG, SHORT],
            bearer_tokens=[SHORT, LONG],
            body_signature={"header": "X-Signature", "secrets": [LONG, LONG, SHORT]},
        )
    )
    assert {caution.field for caution in found} == {
        "sources.crm.signing_secrets[1]",
        "sources.crm.bearer_tokens[0]",
        "sources.crm.body_signature.secrets[2]",
    }
    assert not any(SHORT in str(caution) for caution in found)


@pytest.mark.parametrize(
    ("secret", "short"),
    [
        (whsec(15), True),
        (whsec(16), False),
        (whsec(24), False),
        (whsec(8), True),
        ("髙" * 5, True),
        ("髙" * 6, False),
        ("whsec_!", False),
    ],
)
def test_keys_are_measured_not_texts(secret: str, short: bool) -> None:  # noqa: FBT001 - a table's column
    """The prefix and base64 make a secret longer, and its key no better. One that is no key at all is a mistake."""
    for source in ({"signing_secrets": [secret]}, {"body_signature": {"header": "X", "secrets": [secret]}}):
        found = cautions(settings(**source))
        assert bool(found) is short
        assert all("fewer than 16 bytes" in str(caution) and "24" in str(caution) for caution in found)


def test_a_token_is_measured_as_it_is_sent() -> None:
    """What looks like a secret of Standard Webhooks is no more than a text where it is a token."""
    assert cautions(settings(bearer_tokens=[whsec(8)])) == []
