"""Signatures and tokens: who is let in, and that nothing else is."""

import base64
import gzip
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict
from standardwebhooks.webhooks import Webhook

from relay.receive.auth import TOLERANCE_S, Door, Proof, carries_proof, check, proof_headers, sign, signing_key
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


def door(*secrets: str, tokens: tuple[str, ...] = (), body: Mapping[str, object] | None = None) -> Door:
    """The door of a source with these secrets and tokens, and this signature of the body."""
    given = {"signing_secrets": secrets, "bearer_tokens": tokens, "body_signature": body, "accounts": ["news"]}
    return Door.of(Source.model_validate(given))


def test_standard_example() -> None:
    """The example of the Standard Webhooks specification is signed and accepted as it says."""
    key = signing_key(SECRET)
    assert sign(key, HEADERS["webhook-id"], HEADERS["webhook-timestamp"], BODY) == SIGNATURE
    assert door(SECRET).proof(HEADERS, BODY, NOW)


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
    assert not door(SECRET).proof({**HEADERS, **headers}, body, NOW)


@pytest.mark.parametrize("missing", list(HEADERS))
def test_every_header_is_needed(missing: str) -> None:
    """Without one of its three headers a request is not signed."""
    assert not door(SECRET).proof({name: value for name, value in HEADERS.items() if name != missing}, BODY, NOW)


@pytest.mark.parametrize(
    ("off_s", "opens"), [(0, True), (TOLERANCE_S, True), (-TOLERANCE_S, True), (301, False), (-301, False)]
)
def test_five_minutes_of_tolerance(off_s: int, opens: bool) -> None:  # noqa: FBT001 - a table's column
    """A signature is taken five minutes before and after its timestamp, and not a second longer."""
    assert door(SECRET).proof(HEADERS, BODY, NOW + timedelta(seconds=off_s)) is (Proof.SIGNATURE if opens else None)


def test_several_live_secrets() -> None:
    """While a secret is changed, each of the source's secrets opens, at any place of the list."""
    assert door(OTHER_SECRET, SECRET).proof(HEADERS, BODY, NOW)
    assert door(SECRET, OTHER_SECRET).proof(HEADERS, BODY, NOW)
    assert not door(OTHER_SECRET).proof(HEADERS, BODY, NOW)


@pytest.mark.parametrize(
    "signatures", [f"v1,AAAA {SIGNATURE}", f"{SIGNATURE} v1a,AAAA", f"v2,AAAA  {SIGNATURE} v1,BBBB"]
)
def test_several_signatures(signatures: str) -> None:
    """A sender that changes its secret signs with both; one that fits is enough."""
    assert door(SECRET).proof({**HEADERS, "webhook-signature": signatures}, BODY, NOW)


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
    assert entry.proof({"Authorization": authorization}, BODY, NOW) is (Proof.TOKEN if opens else None)


def test_no_token_means_no_bearer() -> None:
    """A source without tokens is not opened by an empty one, nor one without secrets by an empty signature."""
    assert not door(SECRET).proof({"Authorization": "Bearer "}, BODY, NOW)
    assert not door(tokens=("t",)).proof(HEADERS, BODY, NOW)


def test_a_token_opens_beside_a_foreign_signature() -> None:
    """A sender whose tool signs everything with a secret of its own still gets in by its token."""
    headers = {**HEADERS, "webhook-signature": "v1,AAAA", "Authorization": "Bearer t"}
    assert door(tokens=("t",)).proof(headers, BODY, NOW)


def test_the_door_tells_nothing() -> None:
    """A door's repr holds neither keys nor tokens."""
    assert repr(door(SECRET, tokens=("sesame",))) == "Door(<secret>)"


# -- the specification's own examples and its reference library --------------------------------------------------------


SPEC_HEADER = (
    "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4= "
    "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="
)


def test_the_asymmetric_scheme_is_passed_over() -> None:
    """A sender that signs both ways, as in the specification, is let in by `v1` alone; `v1a` opens nothing."""
    foreign, asymmetric = SPEC_HEADER.split(" ")
    assert door(SECRET).proof({**HEADERS, "webhook-signature": f"{asymmetric} {foreign} {SIGNATURE}"}, BODY, NOW)
    assert not door(SECRET).proof({**HEADERS, "webhook-signature": SPEC_HEADER}, BODY, NOW)
    right_but_asymmetric = SIGNATURE.replace("v1,", "v1a,")
    assert not door(SECRET).proof({**HEADERS, "webhook-signature": right_but_asymmetric}, BODY, NOW)


REFERENCE_SIGNATURES = "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc= v2,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc="


def test_the_reference_tests() -> None:
    """What the reference libraries test: a partial signature, a foreign one, and one that fits among others."""
    for refused in (SIGNATURE[:8], "v1,dawfeoifkpqwoekfpqoekf", REFERENCE_SIGNATURES):
        assert not door(SECRET).proof({**HEADERS, "webhook-signature": refused}, BODY, NOW)
    among = f"{REFERENCE_SIGNATURES} {SIGNATURE} {REFERENCE_SIGNATURES}"
    assert door(SECRET).proof({**HEADERS, "webhook-signature": among}, BODY, NOW)


@given(
    st.binary(min_size=1, max_size=64),
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=30),
    st.integers(min_value=946684800, max_value=4102444800),
    st.text(st.characters(codec="utf-8"), max_size=100),
    st.booleans(),
)
def test_the_reference_library_signs_the_same(
    key: bytes,
    message_id: str,
    at: int,
    body: str,
    padded: bool,  # noqa: FBT001 - drawn
) -> None:
    """Whatever is signed, the PyPI library `standardwebhooks` and relay sign it alike, and each takes the other's."""
    encoded = base64.b64encode(key).decode()
    secret = "whsec_" + (encoded if padded else encoded.rstrip("="))
    moment = datetime.fromtimestamp(at, UTC)
    theirs = Webhook(secret).sign(message_id, moment, body)
    assert theirs == sign(signing_key(secret), message_id, str(at), body.encode())
    headers = {"webhook-id": message_id, "webhook-timestamp": str(at), "webhook-signature": theirs}
    assert door(OTHER_SECRET, secret).proof(headers, body.encode(), moment)
    assert not door(OTHER_SECRET).proof(headers, body.encode(), moment)


# -- bodies that come compressed ---------------------------------------------------------------------------------------


def test_signed_before_or_after_compression() -> None:
    """A signature over what was sent is good, and one over what it inflates to; one over anything else is not."""
    sent = gzip.compress(BODY)
    assert door(SECRET).proof(HEADERS, sent, NOW, inflated=BODY)
    assert not door(SECRET).proof(HEADERS, sent, NOW, inflated=BODY + b" ")
    over_sent = {**HEADERS, "webhook-signature": sign(signing_key(SECRET), HEADERS["webhook-id"], "1614265330", sent)}
    assert door(SECRET).proof(over_sent, sent, NOW, inflated=BODY)
    assert not door(SECRET).proof(over_sent, BODY, NOW, inflated=BODY)


def test_only_a_token_opens_what_a_signature_does_not_cover() -> None:
    """Where part of what is read is in headers that are not signed, signatures do not count."""
    entry = door(SECRET, tokens=("t",), body={"header": "X-Signature", "secrets": ["shop"]})
    both = {**HEADERS, "X-Signature": base64.b64encode(hmac.digest(b"shop", BODY, "sha256")).decode()}
    assert entry.proof(both, BODY, NOW)
    assert not entry.proof(both, BODY, NOW, signatures_cover=False)
    assert entry.proof({"Authorization": "Bearer t"}, BODY, NOW, signatures_cover=False)


# -- signatures of the body alone --------------------------------------------------------------------------------------


BODY_SIGNATURES = [
    ({}, base64.b64encode(hmac.digest(b"new", BODY, "sha256")).decode()),
    ({}, base64.b64encode(hmac.digest(b"old", BODY, "sha256")).decode()),
    ({"encoding": "hex"}, hmac.digest(b"new", BODY, "sha256").hex()),
    ({"encoding": "hex"}, hmac.digest(b"new", BODY, "sha256").hex().upper()),
    ({"encoding": "hex", "prefix": "sha256="}, "sha256=" + hmac.digest(b"old", BODY, "sha256").hex()),
    ({"algorithm": "sha512"}, base64.b64encode(hmac.digest(b"new", BODY, "sha512")).decode()),
    ({"algorithm": "sha512", "encoding": "hex", "prefix": "s "}, "s " + hmac.digest(b"new", BODY, "sha512").hex()),
]


@pytest.mark.parametrize(("how", "value"), BODY_SIGNATURES)
def test_body_signatures(how: dict[str, str], value: str) -> None:
    """An HMAC over the raw body opens in the header, encoding and form that the source says, with any live secret."""
    entry = door(body={"header": "X-Shop-Signature", "secrets": ["new", "old"], **how})
    headers = CIMultiDict({"x-shop-signature": value})
    assert entry.proof(headers, BODY, NOW)
    assert entry.proof(headers, gzip.compress(BODY), NOW, inflated=BODY)
    assert not entry.proof(headers, BODY + b" ", NOW)
    assert not entry.proof(headers, b"", NOW)
    assert not entry.proof(CIMultiDict({"X-Other": value}), BODY, NOW)
    assert not door(body={"header": "X-Shop-Signature", "secrets": ["other"], **how}).proof(headers, BODY, NOW)


@pytest.mark.parametrize(("how", "value"), BODY_SIGNATURES)
def test_anything_but_the_body_signature_is_refused(how: dict[str, str], value: str) -> None:
    """Cut, longer, in another form or another alphabet, not ASCII or empty: none opens, and none raises."""
    entry = door(body={"header": "X-Shop-Signature", "secrets": ["new", "old"], **how})
    wrong = [value[:-2], value + "=", value + " ", " " + value, "", "sha256=", "é" + value, value[:-1] + "é"]
    wrong += [
        value.replace("sha256=", "sha512=") if value.startswith("sha256=") else "sha256=" + value,
        "\udcff",
        value + "\udcff",
        "\ud800",
        "髙",
        "０" * 64,
        "A" * 100_000,
        "v1," + value,
        value.swapcase() + "0",
    ]
    for other, _ in BODY_SIGNATURES:
        if other != how:
            wrong += [given for same, given in BODY_SIGNATURES if same == other]
    for given_value in wrong:
        assert not entry.proof({"X-Shop-Signature": given_value}, BODY, NOW), given_value


def test_an_empty_body_signature_opens_nothing() -> None:
    """A source without a body signature is not opened by a header of that name."""
    assert not door(SECRET).proof({"X-Shop-Signature": "", "": ""}, BODY, NOW)


def test_broken_body_secrets_are_found_at_start() -> None:
    """A secret of the body's signature that cannot work is a mistake of the settings, by its path."""
    settings = Settings.model_construct(
        sources={
            "shop": Source.model_validate(
                {"body_signature": {"header": "X-S", "secrets": ["fine", "whsec_!"]}, "accounts": ["news"]}
            )
        }
    )
    (problem,) = check(settings)
    assert (problem.field, problem.message) == (
        "sources.shop.body_signature.secrets[1]",
        "expected base64 after whsec_",
    )


# -- which headers are proofs ------------------------------------------------------------------------------------------


def shops() -> Settings:
    """Two sources with signatures in headers of their own, and one with none."""
    return Settings.model_construct(
        sources={
            "one": Source.model_validate(
                {"body_signature": {"header": "X-One-Signature", "secrets": ["s"]}, "accounts": ["news"]}
            ),
            "two": Source.model_validate(
                {"body_signature": {"header": "X-Two-Signature", "secrets": ["s"]}, "accounts": ["news"]}
            ),
            "crm": Source(bearer_tokens=(Secret("t"),), accounts=("news",)),
        }
    )


@pytest.mark.parametrize(
    ("header", "carries"),
    [
        ("Webhook-Signature", True),
        ("AUTHORIZATION", True),
        ("x-one-signature", True),
        ("X-Two-Signature", True),
        ("X-Three-Signature", False),
        ("webhook-id", False),
    ],
)
def test_which_headers_are_looked_at(header: str, carries: bool) -> None:  # noqa: FBT001 - a table's column
    """A request that holds no proof for any source need not be read; which source has which header shows nowhere."""
    assert carries_proof(CIMultiDict({header: ""}), proof_headers(shops())) is carries


def test_nowhere_has_a_door_that_nothing_opens() -> None:
    """The sources that do not exist are opened by nothing, and try what the others try."""
    nowhere = Door.of_nowhere(shops())
    assert {proof.header for proof in nowhere.body_proofs} == {"X-One-Signature", "X-Two-Signature"}
    value = base64.b64encode(hmac.digest(b"s", BODY, "sha256")).decode()
    assert not nowhere.proof({**HEADERS, "X-One-Signature": value, "Authorization": "Bearer t"}, BODY, NOW)


def test_every_door_tries_as_much() -> None:
    """How long a refusal takes tells neither whether a source exists nor how it proves itself."""
    settings = Settings.model_validate(
        {
            "logins": {"blast": {"vendor": "blastmail", "username": "u", "password": "p", "api_key": "k"}},
            "accounts": {"news": {"login": "blast", "columns": {"E-Mail": "email"}}},
            "sources": {
                "two": {"signing_secrets": ["a", "b"], "accounts": ["news"]},
                "bearer": {"bearer_tokens": ["t"], "accounts": ["news"]},
                "shop": {"body_signature": {"header": "X-One", "secrets": ["s", "u"]}, "accounts": ["news"]},
                "other": {"body_signature": {"header": "X-Two", "secrets": ["s"]}, "accounts": ["news"]},
            },
        }
    )
    doors = [Door.of(source).padded(settings) for source in settings.sources.values()]
    tried = [
        (len(door.keys), {proof.header: len(proof.keys) for proof in door.body_proofs})
        for door in [*doors, Door.of_nowhere(settings)]
    ]
    assert tried == [(2, {"X-One": 2, "X-Two": 1})] * 5
    assert doors[1].keys != Door.of(settings.sources["bearer"]).padded(settings).keys
    signature = sign(b"b", HEADERS["webhook-id"], HEADERS["webhook-timestamp"], BODY)
    assert doors[0].proof({**HEADERS, "webhook-signature": signature}, BODY, NOW) is Proof.SIGNATURE


def test_body_proofs_tell_nothing() -> None:
    """Nor does the repr of what compares a body's signature."""
    entry = door(body={"header": "X-S", "secrets": ["sesame"]})
    assert "sesame" not in repr(entry.body_proofs)
    assert repr(entry.body_proofs) == "(BodyProof(<secret>),)"
