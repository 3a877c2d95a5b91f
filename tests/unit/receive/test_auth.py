"""Signatures and tokens: who is let in, and that nothing else is."""

import base64
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest

from relay.receive.auth import TOLERANCE_S, Door, check, sign, signing_key
from relay.settings import Secret, Settings, Source

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER_SECRET = "whsec_" + base64.b64encode(b"another secret of a source").decode()
BODY = b'{"test": 2432232314}'
NOW = datetime.fromtimestamp(1614265330, UTC)
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
HEADERS = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": "1614265330",
    "webhook-signature": SIGNATURE,
}


def door(*secrets: str, tokens: tuple[str, ...] = ()) -> Door:
    """The door of a source with these secrets and tokens."""
    return Door.of(
        Source(
            signing_secrets=tuple(map(Secret, secrets)), bearer_tokens=tuple(map(Secret, tokens)), accounts=("news",)
        )
    )


def test_standard_example() -> None:
    """The example of the Standard Webhooks specification is signed and accepted as it says."""
    key = signing_key(SECRET)
    assert sign(key, HEADERS["webhook-id"], HEADERS["webhook-timestamp"], BODY) == SIGNATURE
    assert door(SECRET).opens(HEADERS, BODY, NOW)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"webhook-id": "msg_other"}, BODY),
        ({"webhook-timestamp": "1614265331"}, BODY),
        ({"webhook-timestamp": "1614265330.0"}, BODY),
        ({"webhook-timestamp": "１６１４２６５３３０"}, BODY),
        ({"webhook-timestamp": "-1614265330"}, BODY),
        ({"webhook-timestamp": "²"}, BODY),
        ({"webhook-timestamp": "9" * 5000}, BODY),
        ({"webhook-signature": SIGNATURE.replace("v1,", "v2,")}, BODY),
        ({"webhook-signature": SIGNATURE.removeprefix("v1,")}, BODY),
        ({"webhook-signature": SIGNATURE + "="}, BODY),
        ({"webhook-signature": "v1,"}, BODY),
        ({"webhook-signature": ""}, BODY),
        ({"webhook-signature": "\udcff"}, BODY),
        ({}, BODY + b" "),
        ({}, b""),
    ],
)
def test_anything_changed_is_refused(headers: Mapping[str, str], body: bytes) -> None:
    """A signature holds for exactly one id, timestamp and body, and only as `v1`."""
    assert not door(SECRET).opens({**HEADERS, **headers}, body, NOW)


@pytest.mark.parametrize("missing", list(HEADERS))
def test_every_header_is_needed(missing: str) -> None:
    """Without one of its three headers a request is not signed."""
    assert not door(SECRET).opens({name: value for name, value in HEADERS.items() if name != missing}, BODY, NOW)


@pytest.mark.parametrize(
    ("off_s", "opens"), [(0, True), (TOLERANCE_S, True), (-TOLERANCE_S, True), (301, False), (-301, False)]
)
def test_five_minutes_of_tolerance(off_s: int, opens: bool) -> None:  # noqa: FBT001 - a table's column
    """A signature is taken five minutes before and after its timestamp, and not a second longer."""
    assert door(SECRET).opens(HEADERS, BODY, NOW + timedelta(seconds=off_s)) is opens


def test_several_live_secrets() -> None:
    """While a secret is changed, each of the source's secrets opens, at any place of the list."""
    assert door(OTHER_SECRET, SECRET).opens(HEADERS, BODY, NOW)
    assert door(SECRET, OTHER_SECRET).opens(HEADERS, BODY, NOW)
    assert not door(OTHER_SECRET).opens(HEADERS, BODY, NOW)


@pytest.mark.parametrize(
    "signatures", [f"v1,AAAA {SIGNATURE}", f"{SIGNATURE} v1a,AAAA", f"v2,AAAA  {SIGNATURE} v1,BBBB"]
)
def test_several_signatures(signatures: str) -> None:
    """A sender that changes its secret signs with both; one that fits is enough."""
    assert door(SECRET).opens({**HEADERS, "webhook-signature": signatures}, BODY, NOW)


def test_a_raw_secret_is_its_own_key() -> None:
    """A secret without `whsec_` is used as it is, as UTF-8."""
    assert signing_key("ひみつ plain") == "ひみつ plain".encode()


@pytest.mark.parametrize("secret", ["whsec_", "whsec_not base64!", "whsec_a"])
def test_a_broken_secret_is_found_at_start(secret: str) -> None:
    """A secret that is no base64 after `whsec_` is a mistake of the settings, told by its path and without its text."""
    settings = Settings.model_construct(
        sources={"crm": Source(signing_secrets=(Secret(SECRET), Secret(secret)), accounts=("news",))}
    )
    (problem,) = check(settings)
    assert problem.field == "sources.crm.signing_secrets[1]"
    assert problem.message == "expected base64 after whsec_"


@pytest.mark.parametrize(
    ("authorization", "opens"),
    [
        ("Bearer first-token", True),
        ("bearer second-token", True),
        ("BEARER  second-token", True),
        ("Bearer third-token", False),
        ("Bearer first-token2", False),
        ("Bearer first", False),
        ("Bearer", False),
        ("Bearer ", False),
        ("Basic first-token", False),
        ("first-token", False),
        ("Bearer \udcff", False),
    ],
)
def test_bearer_tokens(authorization: str, opens: bool) -> None:  # noqa: FBT001 - a table's column
    """Any of the source's tokens opens, whole and after the word Bearer; nothing else does."""
    entry = door(tokens=("first-token", "second-token"))
    assert entry.opens({"Authorization": authorization}, BODY, NOW) is opens


def test_no_token_means_no_bearer() -> None:
    """A source without tokens is not opened by an empty one, nor one without secrets by an empty signature."""
    assert not door(SECRET).opens({"Authorization": "Bearer "}, BODY, NOW)
    assert not door(tokens=("t",)).opens(HEADERS, BODY, NOW)


def test_a_token_opens_beside_a_foreign_signature() -> None:
    """A sender whose tool signs everything with a secret of its own still gets in by its token."""
    headers = {**HEADERS, "webhook-signature": "v1,AAAA", "Authorization": "Bearer t"}
    assert door(tokens=("t",)).opens(headers, BODY, NOW)


def test_the_door_tells_nothing() -> None:
    """A door's repr holds neither keys nor tokens."""
    assert repr(door(SECRET, tokens=("sesame",))) == "Door(<secret>)"
