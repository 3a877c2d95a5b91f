"""Nothing that belongs to a customer, and no secret, gets out of relay by what it answers, logs or counts.

The fixture `watched` searches everything that a test has made relay say, and fails where it finds a canary.
"""

import itertools
import json
from collections.abc import Mapping

from relay.receive.refusals import REFUSALS
from relay.status.service import ENDPOINTS
from tests.acceptance import canary_requests as requests
from tests.acceptance.processes import Relay, until
from tests.acceptance.settings_file import account, bme
from tests.acceptance.watched import API_TOKENS, EMAIL, SECRETS, UNMISTAKABLE, Watched
from tests.acceptance.wire import request

NOBODY = "http://127.0.0.1:9"
"""Where nobody listens: uploads fail, and are told of."""

READ, PII = (f"Bearer {token}" for token, _ in API_TOKENS.values())

CRM = {
    "signing_secrets": [{"env": "CRM_WEBHOOK_SECRET"}, {"env": "CRM_RAW_SECRET"}],
    "bearer_tokens": [{"env": "CRM_TOKEN"}],
    "accounts": ["news"],
}

LIMITS = {
    "RELAY_WEBHOOK_BYTES_MAX": str(requests.BODY_BYTES_MAX),
    "RELAY_BODY_BYTES_MAX": str(requests.BODY_BYTES_MAX),
    "RELAY_BODY_TIMEOUT_S": str(requests.BODY_TIMEOUT_S),
    "RELAY_WEBHOOKS_MAX": str(requests.WEBHOOKS_MAX),
    "RELAY_TRUSTED_PROXIES": "127.0.0.0/8",
}


async def started(watched: Watched, **sources: Mapping[str, object]) -> Relay:
    """Start a relay that has one source, or these besides, and a vendor that is not there."""
    login = {**bme(NOBODY, "user"), "password": {"env": "VENDOR_PASSWORD"}, "api_key": {"env": "VENDOR_API_KEY"}}
    columns = {
        "E-Mail": "email",
        "氏名": "name",
        "フリガナ": {"path": "kana"},
        "生年月日": {"path": "birthday", "type": "date"},
    }
    columns["会員種別"] = {"path": "plan", "type": "choice", "values": {"free": "無料"}}
    strict = account("blast", columns=columns, unencodable="reject")
    watched.write({"blast": login}, {"news": account("blast"), "strict": strict}, {"crm": CRM, **sources})
    relay = watched.relay(**LIMITS)
    await relay.start()
    return relay


async def test_webhooks_that_are_taken(watched: Watched) -> None:
    """Signed, with a token, repeated, many at once with some refused among them: no answer or log line repeats any."""
    relay = await started(watched)
    for status, sent in requests.taken():
        assert (await watched.say("a webhook that is taken", relay.url, sent)).status == status
    await watched.look(relay)
    assert await relay.stop() == 0


def test_every_refusal_has_a_case() -> None:
    """A new way of being refused needs a request here that shows what it repeats."""
    assert set(requests.CASES) == set(REFUSALS)


async def test_webhooks_that_are_refused(watched: Watched) -> None:
    """Every way of being refused, with secrets and a customer wherever a sender could put them."""
    relay = await started(
        watched,
        strict={**CRM, "accounts": ["strict"]},
        upserts={**CRM, "operations": ["upsert"]},
        elsewhere={**CRM, "networks": ["10.9.8.0/24"]},
        hasty={**CRM, "webhooks_per_s": 0.001, "webhooks_burst": 1},
    )
    otherwise = []
    for kind, case in ((kind, case) for kind, cases in requests.CASES.items() for case in cases):
        for before in case.sent_before:
            await watched.say(f"before what is refused as {kind.__name__}", relay.url, before)
        answer = await watched.say(f"refused as {kind.__name__}", relay.url, case.sent)
        if answer.status != case.status:
            otherwise.append((kind.__name__, case.status, answer.status, case.sent[-200:]))
    assert otherwise == []
    await watched.look(relay)
    assert await relay.stop() == 0


OTHER_FORMS: Mapping[str, Mapping[str, object]] = {
    "shop": {
        "body_signature": {"header": "X-Hmac", "secrets": [{"env": "SHOP_SECRET"}]},
        "plain": {"id": {"header": "X-Id"}, "type": {"header": "X-Topic"}},
        "types": {"customers/update": "customer.updated"},
        "accounts": ["news"],
    },
    "moving": {**CRM, "customer_id": "id", "previous_address": "previous"},
}


async def test_webhooks_in_other_forms(watched: Watched) -> None:
    """Plain bodies with their id and type in headers, CloudEvents, and customers who are known by an id and move."""
    relay = await started(watched, **OTHER_FORMS)
    for number, (status, sent) in enumerate(requests.other_forms()):
        answer = await watched.say(f"answer {number} to another form", relay.url, sent)
        assert answer.status == status, answer.raw
    await watched.say("/metrics", relay.ops_url, request("GET", "/metrics"))
    await watched.look(relay)
    assert await relay.stop() == 0


async def test_what_is_hardly_http(watched: Watched) -> None:
    """Paths and methods that are not there, and heads that cannot be read, on both ports: none is repeated."""
    relay = await started(watched)
    for sent, url in itertools.product(requests.hardly_http(), (relay.url, relay.ops_url)):
        answer = await watched.say(f"answer to {sent[:40]!r}", url, sent)
        assert answer.status != 500
    assert await relay.stop() == 0


async def test_the_status_api(watched: Watched) -> None:
    """Every endpoint, asked by nobody, with wrong tokens, with too small a scope, with nonsense; and what it answers.

    Answers to the scope `pii` may hold customers' data, but not where they are errors.
    """
    relay = await started(watched, **OTHER_FORMS)
    for _, sent in (*requests.taken(), *requests.other_forms()):
        await watched.say("a webhook", relay.url, sent)
    await until("a batch has been tried", lambda: batches(watched))
    wrong = (f"Bearer {EMAIL}", f"Bearer {SECRETS['VENDOR_PASSWORD']}", f"Basic {SECRETS['CRM_TOKEN']}")
    for endpoint, bearer in itertools.product(ENDPOINTS, (*wrong, READ, PII)):
        for target, body in questions(endpoint.path):
            headers = {"Authorization": bearer, "Content-Type": "application/json"}
            sent = request(endpoint.method, target, headers, body)
            answer = await watched.say(f"{endpoint.method} {endpoint.path}", relay.url, sent, secret=bearer == PII)
            assert answer.status is not None
            assert answer.status < 500, endpoint
            if answer.status >= 400:
                watched.heard.append((f"an error of {endpoint.method} {endpoint.path}", answer.raw))
    for url, path in itertools.product((relay.url, relay.ops_url), ("/metrics", "/healthz", "/readyz", "/docs", "/")):
        await watched.say(path, url, request("GET", path))
    await watched.say("/openapi.json", relay.url, request("GET", "/openapi.json"))
    await watched.look(relay)
    assert await relay.stop() == 0


async def batches(watched: Watched) -> bool:
    """Say whether an upload has ended."""
    return bool(await watched.value("select count(*) from upload where ended_at is not null"))


def questions(path: str) -> list[tuple[str, bytes]]:
    """Fill a path with what is there and with canaries, and ask good and bad questions there."""
    name = path.replace("{id:[0-9]{1,18}}", "{id}")
    there = {"{id}": "1", "{login}": "blast", "{source}": "crm", "{webhook_id}": "created"}
    paths = [name, name]
    for field, value in there.items():
        paths = [paths[0].replace(field, value), paths[1].replace(field, EMAIL)]
    bodies = [
        b"",
        json.dumps({"email": EMAIL}).encode(),
        json.dumps({EMAIL: SECRETS["CRM_TOKEN"]}).encode(),
        json.dumps({"email": UNMISTAKABLE, "success": EMAIL, "failure": [EMAIL]}).encode(),
        json.dumps(EMAIL).encode()[:-1],
    ]
    asked = [f"?{EMAIL}={EMAIL}", f"?account={EMAIL}&state={EMAIL}&limit={EMAIL}&after={EMAIL}&operation={EMAIL}"]
    asked += [f"?act={EMAIL}&batch={EMAIL}&who={EMAIL}&hours={EMAIL}", f"?messages={EMAIL}", f"?who={EMAIL}"]
    return [(paths[0], body) for body in bodies] + [(paths[0] + query, b"") for query in asked] + [(paths[1], b"")]
