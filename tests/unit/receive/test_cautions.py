"""What `relay check` warns of: sources that are easy to get into, or easy to flood once one is in."""

from relay.receive.cautions import SECRET_CHARACTERS_MIN, cautions
from relay.settings import Settings

LONG = "x" * SECRET_CHARACTERS_MIN
SHORT = LONG[1:]


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
    found = cautions(
        settings(
            networks=["10.0.0.0/8"],
            signing_secrets=[LONG, SHORT],
            bearer_tokens=[SHORT, LONG],
            body_signature={"header": "X-Signature", "secrets": [LONG, LONG, SHORT]},
        )
    )
    assert [caution.field for caution in found] == [
        "sources.crm.signing_secrets[1]",
        "sources.crm.bearer_tokens[0]",
        "sources.crm.body_signature.secrets[2]",
    ]
    assert not any(SHORT in str(caution) for caution in found)


def test_a_source_without_bounds() -> None:
    """Neither networks nor a rate: whoever has the secret could send anything from anywhere. One of them is enough."""
    [found] = cautions(settings(bearer_tokens=[LONG]))
    assert found.field == "sources.crm"
    assert cautions(settings(bearer_tokens=[LONG], webhooks_per_s=100)) == []
    assert cautions(settings(bearer_tokens=[LONG], networks=["10.0.0.0/8"])) == []
