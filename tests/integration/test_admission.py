"""Who may do what, asked of the running service: networks, operations, rates, and that nobody learns more."""

import asyncio
import base64
import itertools
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from relay.events import TYPES, Operation
from relay.receive.auth import sign, signing_key
from relay.status.service import ENDPOINTS
from tests.integration.served import BEARER, SCOPES, TOKEN, Served, as_seen_from, problem, served, webhook

SECRET = "whsec_" + base64.b64encode(b"what signed sources sign with").decode()
PROXY, OTHER_PROXY, INSIDE, OUTSIDE = "127.0.0.10", "127.0.0.11", "127.0.7.1", "127.0.8.1"

SOURCES: Mapping[str, Mapping[str, object]] = {
    "crm": {},
    "inside": {"networks": ["127.0.7.0/24", "2001:db8::/32"]},
    "signed": {"bearer_tokens": [], "signing_secrets": [SECRET], "networks": ["127.0.7.0/24"]},
    "shop": {"operations": ["upsert"]},
    "leaver": {"operations": ["delete", "stop"]},
    "hurried": {"webhooks_per_s": 20, "webhooks_burst": 5},
    "slow": {"webhooks_per_s": 0.01, "webhooks_burst": 3},
    "closed": {"webhooks_per_s": 0.01, "webhooks_burst": 1, "networks": ["127.0.7.0/24"]},
}


@pytest.fixture
async def relay(database: str, tmp_path: Path) -> AsyncIterator[Served]:
    """Run relay behind two proxies."""
    async with served(database, tmp_path, SOURCES, RELAY_TRUSTED_PROXIES=f"{PROXY}, {OTHER_PROXY}/32") as relay:
        yield relay


def signed(message_id: str, raw: bytes, secret: str = SECRET) -> dict[str, str]:
    """Sign a body."""
    at = str(int(datetime.now(UTC).timestamp()))
    signature = sign(signing_key(secret), message_id, at, raw)
    return {"webhook-id": message_id, "webhook-timestamp": at, "webhook-signature": signature}


# -- networks --------------------------------------------------------------------------------------------------------

FORWARDED: list[tuple[str, list[str], int]] = [
    (INSIDE, [], 202),
    (OUTSIDE, [], 401),
    (OUTSIDE, [INSIDE], 401),
    (INSIDE, [OUTSIDE], 202),
    (PROXY, [], 401),
    (PROXY, [INSIDE], 202),
    (PROXY, [f"{INSIDE}:4711"], 202),
    (PROXY, ["[2001:db8::5]:4711"], 202),
    (PROXY, ["2001:db9::5"], 401),
    (PROXY, [f"::ffff:{INSIDE}"], 202),
    (PROXY, [OUTSIDE], 401),
    (PROXY, [f"{INSIDE}, {OUTSIDE}"], 401),
    (PROXY, [INSIDE, OUTSIDE], 401),
    (PROXY, [OUTSIDE, INSIDE], 202),
    (PROXY, [f"{OUTSIDE}, {INSIDE}, {OTHER_PROXY}"], 202),
    (PROXY, [f"{OUTSIDE}, {INSIDE}", OTHER_PROXY], 202),
    (PROXY, [f"{INSIDE}, {OUTSIDE}, {OTHER_PROXY}"], 401),
    (PROXY, [f"{INSIDE}, unknown"], 401),
    (PROXY, [""], 401),
]


async def test_only_from_the_sources_networks(relay: Served, subtests: pytest.Subtests) -> None:
    """The sender counts: the connection's other end, or whom a trusted proxy names; nobody else is believed."""
    for number, (peer, forwarded, status) in enumerate(FORWARDED):
        with subtests.test(peer=peer, forwarded=forwarded):
            async with as_seen_from(peer) as client:
                headers = [*BEARER.items(), *(("X-Forwarded-For", entry) for entry in forwarded)]
                response = await client.post(
                    f"{relay.url}/v1/webhooks/inside", json=webhook(f"w{number}"), headers=headers
                )
                assert response.status == status
    taken = [f"w{number}" for number, (_, _, status) in enumerate(FORWARDED) if status == 202]
    assert await relay.in_log() == sorted(taken)
    refused = len(FORWARDED) - len(taken)
    assert await relay.metric("relay_webhooks_total", source="inside", result="unauthorized") == refused


async def test_an_operator_learns_who_sent_from_elsewhere(relay: Served, caplog: pytest.LogCaptureFixture) -> None:
    """A good proof from a wrong network is logged with source and address; a wrong proof without the address."""
    async with as_seen_from(OUTSIDE) as client:
        await relay.post(webhook("w1"), "inside", {"Authorization": "Bearer wrong"}, client)
        assert OUTSIDE not in caplog.text
        assert "sent_from_elsewhere" not in caplog.text
        await relay.post(webhook("w1"), "inside", client=client)
    [told] = [record for record in caplog.records if "sent_from_elsewhere" in record.getMessage()]
    for expected in ("'source': 'inside'", "'reason': 'network'", f"'sent_from': '{OUTSIDE}'"):
        assert expected in told.getMessage()


# -- nobody learns what exists ---------------------------------------------------------------------------------------

# How each proves itself: None stands for a signature with the secret of `signed`.
TURNED_AWAY: list[tuple[str, str, str, Mapping[str, str] | None]] = [
    ("an unknown source", "nowhere", INSIDE, BEARER),
    ("relay's own name", "relay", INSIDE, BEARER),
    ("a name that none can have", "%C3%A9%00", INSIDE, BEARER),
    ("a wrong token", "inside", INSIDE, {"Authorization": "Bearer wrong"}),
    ("a wrong network", "inside", OUTSIDE, BEARER),
    ("a wrong token from a wrong network", "inside", OUTSIDE, {"Authorization": "Bearer wrong"}),
    ("no token", "inside", INSIDE, {}),
    ("no token for an unknown source", "nowhere", INSIDE, {}),
    ("another scheme", "inside", INSIDE, {"Authorization": f"Basic {TOKEN}"}),
    ("a token where signatures are wanted", "signed", INSIDE, BEARER),
    ("a signature where tokens are wanted", "crm", INSIDE, None),
    ("a signature for an unknown source", "nowhere", INSIDE, None),
    ("a signature from a wrong network", "signed", OUTSIDE, None),
    ("a wrong token for a source whose rate is used up", "slow", INSIDE, {"Authorization": "Bearer wrong"}),
    ("a wrong network for a source whose rate is used up", "closed", OUTSIDE, BEARER),
]


async def test_who_is_turned_away_learns_nothing(relay: Served, subtests: pytest.Subtests) -> None:
    """An unknown source, a wrong proof, a wrong network: one and the same status, headers and body."""
    for source, address in (("slow", OUTSIDE), ("closed", INSIDE)):
        async with as_seen_from(address) as client:
            while (await relay.post(webhook("w"), source, client=client)).status != 429:
                pass
    raw = b'{"type": "customer.created", "data": {"email": "taro@example.jp", "name": ""}}'
    for body, suffix in itertools.product((raw, b"[1, 2]", b"{", b"x" * 50_000), ("", "/batch")):
        answers: dict[tuple[object, ...], list[str]] = {}
        for what, source, address, proof in TURNED_AWAY:
            headers = signed("w1", body) if proof is None else proof
            async with as_seen_from(address) as client:
                response = await relay.post(body, source + suffix, headers, client)
                seen = sorted((name, value) for name, value in response.headers.items() if name != "Date")
                answers.setdefault((response.status, response.reason, *seen, await response.text()), []).append(what)
        with subtests.test(body=body[:5], suffix=suffix):
            assert len(answers) == 1, answers
            [(status, *_)] = answers
            assert status == 401
            assert any(header == ("WWW-Authenticate", 'Bearer realm="relay"') for header in next(iter(answers)))


HOSTILE: list[tuple[str, bytes, Mapping[str, str]]] = [
    ("another content type", b"{}", {"Content-Type": "text/plain"}),
    ("an unknown encoding", b"{}", {"Content-Encoding": "zstd"}),
    ("a huge body", b" " * 1_000_001, {}),
]


async def test_refusals_before_the_proof_tell_nothing_either(relay: Served, subtests: pytest.Subtests) -> None:
    """What is refused by its kind or size is refused alike for sources that exist and that do not."""
    for what, body, more in HOSTILE:
        answers = set()
        for source in ("crm", "signed", "nowhere"):
            response = await relay.post(body, source, {"Authorization": "Bearer wrong", **more})
            answers.add((response.status, await response.text()))
        with subtests.test(what):
            assert len(answers) == 1


# -- operations ------------------------------------------------------------------------------------------------------


async def test_a_source_sends_only_what_it_may(relay: Served, subtests: pytest.Subtests) -> None:
    """A type whose operation the source may not ask for is a 403 that names `type` and what is allowed."""
    for kind, operation in TYPES.items():
        with subtests.test(kind):
            response = await relay.post(webhook(f"w-{kind}", kind), "shop")
            if operation is Operation.UPSERT:
                assert response.status == 202
                continue
            assert response.status == 403
            [error] = problem(response, await response.json())
            assert error["field"] == "type"
            assert error["message"] == "this source may only send customer.created, customer.updated"
    assert await relay.in_log() == ["w-customer.created", "w-customer.updated"]
    assert await relay.metric("relay_webhooks_total", source="shop", result="forbidden") == 4
    assert await relay.metric("relay_webhooks_total", source="shop", result="accepted") == 2


async def test_a_forbidden_opt_out_is_told_to_operators(relay: Served, caplog: pytest.LogCaptureFixture) -> None:
    """Somebody opted out, and the source may not say so: counted and logged as an error, each time."""
    assert (await relay.post(webhook("w1", "customer.stopped"), "shop")).status == 403
    assert (await relay.post(webhook("w2", "customer.allowed"), "shop")).status == 403
    many = [webhook("w3", "customer.deleted"), webhook("w4", "customer.banned"), webhook("w5")]
    assert (await relay.post(many, "shop/batch")).status == 202
    assert await relay.metric("relay_opt_outs_refused_total", source="shop") == 3
    told = [record for record in caplog.records if "opt_out_refused" in record.getMessage()]
    assert [record.levelname for record in told] == ["ERROR", "ERROR"]
    assert "taro@example.jp" not in caplog.text


async def test_of_many_only_the_forbidden_are_refused(relay: Served) -> None:
    """In a request for many, each forbidden webhook is listed with its index, and its neighbours are taken."""
    many = [webhook("w0", "customer.deleted"), webhook("w1"), webhook("w2", "customer.stopped"), webhook("w3", "oops")]
    response = await relay.post(many, "leaver/batch")
    body = await response.json()
    assert response.status == 202
    assert (body["accepted"], body["refused"]) == (2, 2)
    assert [(error["index"], error["webhook_id"], error["errors"][0]["field"]) for error in body["errors"]] == [
        (1, "w1", "type"),
        (3, "w3", "type"),
    ]
    assert body["errors"][0]["errors"][0]["message"] == "this source may only send customer.deleted, customer.stopped"
    assert await relay.in_log() == ["w0", "w2"]
    assert await relay.metric("relay_webhooks_total", source="leaver", result="forbidden") == 1
    none = await relay.post([webhook("w1")], "leaver/batch")
    assert none.status == 422


# -- rates -----------------------------------------------------------------------------------------------------------


async def test_too_many_webhooks_are_slowed_down(relay: Served) -> None:
    """The burst gets in, then 429 until there is a token; who waits as told by Retry-After is taken."""
    statuses = [(await relay.post(webhook(f"w{n}"), "slow")).status for n in range(5)]
    assert statuses == [202, 202, 202, 429, 429]
    response = await relay.post(webhook("w5"), "slow")
    assert problem(response, await response.json()) == []
    assert 90 < int(response.headers["Retry-After"]) <= 100
    assert await relay.metric("relay_webhooks_total", source="slow", result="limited") == 3
    assert await relay.metric("relay_limits_met_total", limit="rate") == 3
    assert await relay.in_log() == ["w0", "w1", "w2"]
    assert (await relay.post(webhook("w5"), "crm")).status == 202  # other sources are none the slower

    first = await relay.post([webhook(f"h{n}") for n in range(10)], "hurried/batch")
    assert first.status == 202  # five more than the burst: a debt of a quarter of a second
    later = await relay.post(webhook("h10"), "hurried")
    assert (later.status, later.headers["Retry-After"]) == (429, "1")
    async with asyncio.timeout(1):
        while (await relay.post(webhook("h10"), "hurried")).status != 202:  # noqa: ASYNC110 - a rate is time
            await asyncio.sleep(0.02)


async def test_a_large_request_is_taken_and_paid_for(relay: Served) -> None:
    """Requests side by side cannot all use the same token: one is taken, and the others wait for its debt."""
    many = [[webhook(f"w{n}-{m}") for m in range(300)] for n in range(4)]
    responses = await asyncio.gather(*[relay.post(body, "slow/batch") for body in many])
    assert sorted(response.status for response in responses) == [202, 429, 429, 429]
    assert len(await relay.in_log()) == 300
    response = await relay.post(webhook("w"), "slow")
    assert 29_000 < int(response.headers["Retry-After"]) <= 29_800  # 297 of debt and a token, 100 s each


async def test_who_has_no_proof_uses_up_nothing(relay: Served) -> None:
    """Wrong proofs and wrong networks take no tokens, so that nobody else can keep a source out."""
    async with as_seen_from(OUTSIDE) as outside, as_seen_from(INSIDE) as inside:
        for _ in range(10):
            assert (await relay.post(webhook("w"), "closed", {"Authorization": "Bearer no"}, inside)).status == 401
            assert (await relay.post(webhook("w"), "closed", client=outside)).status == 401
        assert (await relay.post(webhook("w"), "closed", client=inside)).status == 202
        assert (await relay.post(webhook("w2"), "closed", client=inside)).status == 429


# -- the status API --------------------------------------------------------------------------------------------------

CUSTOMERS_DATA = {("GET", "/v1/batches/{id}/file"), ("POST", "/v1/customers/search")}
ANYBODY = {("GET", "/v1/token")}
"""Whoever has a token may ask what it is."""

LOOKING = {("POST", "/v1/accounts/{account}/preview")}
"""A POST that changes nothing: its answer takes work, and is nothing to keep or to ask for twice."""

CHANGING = {"POST", "PUT", "DELETE", "PATCH"}


def test_what_needs_which_scope() -> None:
    """Files and the search for a customer need `pii`; what changes something `operate`; all else `read`."""
    for endpoint in ENDPOINTS:
        place = (endpoint.method, endpoint.path)
        changes = endpoint.method in CHANGING and place not in LOOKING
        wanted = "pii" if place in CUSTOMERS_DATA else "operate" if changes else None if place in ANYBODY else "read"
        assert endpoint.scope == wanted, place
    assert {(endpoint.method, endpoint.path) for endpoint in ENDPOINTS} >= CUSTOMERS_DATA


async def test_without_the_scope_nobody_learns_what_exists(relay: Served, subtests: pytest.Subtests) -> None:
    """Each scope stands alone: a token without the one that is wanted gets one answer, whatever it asks about.

    So does who has no token, or a source's, or one that is wrong. What is asked with makes no difference either.
    """
    assert (await relay.post(webhook("known"), "crm")).status == 202
    proofs: dict[str, Mapping[str, str]] = {
        **{name: {"Authorization": f"Bearer {name}-token"} for name in SCOPES},
        "nobody": {},
        "a source": BEARER,
        "a stranger": {"Authorization": "Bearer wrong"},
    }
    names = (
        {"account": "letter", "login": "hai", "source": "crm", "webhook_id": "known"},
        {"account": "w", "login": "x", "source": "y", "webhook_id": "z"},
    )
    for endpoint, (who, headers) in itertools.product(ENDPOINTS, proofs.items()):
        if endpoint.scope in SCOPES.get(who, []) or (endpoint.scope is None and who in SCOPES):
            continue
        answers = set()
        for named, ask in itertools.product(names, ("", "?limit=many", "?account=letter")):
            url = relay.url + endpoint.path.format(id=1, **named) + ask
            body = b"{" if ask else None
            async with relay.client.request(endpoint.method, url, headers=headers, data=body) as response:
                answers.add((response.status, response.headers["WWW-Authenticate"], await response.text()))
        with subtests.test(who=who, method=endpoint.method, path=endpoint.path):
            assert len(answers) == 1
            [(status, challenge, _)] = answers
            assert status == (403 if who in SCOPES else 401)
            assert challenge.startswith('Bearer realm="relay"')
            assert (f'error="insufficient_scope", scope="{endpoint.scope}"' in challenge) == (status == 403)


# -- the rest of the port --------------------------------------------------------------------------------------------

STRANGE = [
    ("HEAD", "/v1/batches"),
    ("OPTIONS", "/v1/batches"),
    ("DELETE", "/v1/batches/1"),
    ("HEAD", "/v1/logins"),
    ("GET", "/v1/logins/{}"),
    ("GET", "/v1/logins/{}/flush"),
    ("OPTIONS", "/v1/logins/{}/flush"),
    ("GET", "/v1/webhooks/{}"),
    ("HEAD", "/v1/webhooks/{}"),
    ("OPTIONS", "/v1/webhooks/{}"),
    ("PUT", "/v1/webhooks/{}"),
    ("DELETE", "/v1/webhooks/{}/batch"),
    ("GET", "/v1/webhooks/{}/"),
    ("POST", "/v1/webhooks/{}/else"),
    ("POST", "/v1/webhooks/"),
    ("GET", "/v1/"),
    ("GET", "/v1/nothing"),
    ("GET", "/v2/batches"),
    ("GET", "/metrics"),
    ("TRACE", "/v1/webhooks/{}"),
]


async def test_other_methods_and_paths_tell_nothing(relay: Served, subtests: pytest.Subtests) -> None:
    """404 and 405 go by the route's shape alone: the same for every name, with a token and without."""
    for method, path in STRANGE:
        answers = set()
        for name, headers in itertools.product(
            ("crm", "hai", "nowhere"), ({}, BEARER, {"Authorization": "Bearer reader-token"})
        ):
            url = relay.url + path.format(name)
            async with relay.client.request(method, url, headers=headers) as response:
                told = response.headers.get("Allow"), response.headers.get("WWW-Authenticate")
                answers.add((response.status, *told, await response.text()))
        with subtests.test(method=method, path=path):
            assert len(answers) == 1
            assert next(iter(answers))[0] in {404, 405}
            assert await relay.in_log() == []
