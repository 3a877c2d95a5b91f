"""Properties of what reads vendors' replies: rows are accounted for, and nothing of a reply is told."""

import re
from collections.abc import Mapping

from relay import csvline
from relay.batches import Accepted, Busy, Delivered, Misconfigured, Outcome
from relay.events import Operation
from relay.settings import Account, BmeLogin, HaihaiLogin
from relay.vendors import Claim, Counted, Reply, Sent, excerpt
from relay.vendors.base import _WORDS as WORDS
from relay.vendors.bme import Bme
from relay.vendors.bme_judging import FIRST_LINE
from relay.vendors.haihai import Haihai

BLAST = BmeLogin.model_validate(
    {
        "name": "blast",
        "vendor": "blastmail",
        "username": "u",
        "password": "p",
        "api_key": "k",
        "unknown_address_messages": ["登録されていない"],
    }
)
HAI = HaihaiLogin.model_validate(
    {
        "name": "hai",
        "vendor": "haihai",
        "base_url": "https://hai.example.jp",
        "aid": 1,
        "login_id": "u",
        "transport_password": "p",
    }
)
NEWS = Account.model_validate({"name": "news", "login": "blast", "columns": {"E-Mail": "email", "氏名": "name"}})

STATUSES = (200, 201, 302, 400, 401, 403, 404, 408, 409, 413, 423, 429, 500, 503)

DOUBTS = (
    "a count or a part of a line that is no single value",
    "a count out of place",
    "a count that is no whole number",
    "a document type or an entity",
    "a line with two numbers or contents",
    "a list of lists",
    "a name stands twice, or there are too many",
    "a value is too long",
    "broken off or not valid JSON",
    "broken off or not valid XML",
    "broken off",
    "counts and a failure",
    "details that are a line and hold lines",
    "details that name no line",
    "empty",
    "more is said than can be meant",
    "more lines are named than were sent",
    "neither JSON nor XML",
    "not valid JSON",
    "one count is missing",
    "something stands behind the end",
    "text between elements",
    "too deep",
)
"""All that may be said of what is wrong with a reply."""

_WORD = f"(?:{'|'.join(sorted(WORDS, key=len, reverse=True))}|…)"
_PARTS = (
    r"(?:login: )?HTTP [0-9]{3}",
    r"(?:, (?:application/json|application/xml|text/html|text/plain|text/xml))?",
    r", [0-9]+ bytes(?: \(not whole\))?",
    r"(?:, 814[0-9]{2})*",
    rf"(?:, Failure_{_WORD}(?: {_WORD})*)?",
    r"(?:, (?:success|failure) [0-9]{1,9}){0,2}",
    r"(?:, no token)?",
    rf"(?:; (?:{'|'.join(DOUBTS)}))?",
)
EXCERPT = re.compile("".join(_PARTS), re.IGNORECASE)
"""All that may be kept of a reply."""

_REASONS = re.compile(
    r"[0-9]+ of [0-9]+ lines delivered|[0-9]+ \+ [0-9]+ counted, but [0-9]+ rows were sent"
    r"|[0-9]+ failures counted, but [0-9]+ lines named|a line was named twice"
    r"|line [0-9]+ was named, but lines 2 to [0-9]+ were sent"
    r"|what was repeated of line [0-9]+ does not fit the line as sent"
    r"|all lines were refused by one message, as for an unknown header(?P<told>; it holds .*)?"
    r"|814[0-9]{2}: .*"
)


def lines_of(rows: int) -> dict[int, bytes]:
    """Make the lines of a file of so many rows, by number and without line ends."""
    return {
        n: csvline.record([f"taro{n}@example.jp", f"髙橋{n}郎"]).removesuffix(b"\r\n")
        for n in range(FIRST_LINE, FIRST_LINE + rows)
    }


def replies_are_understood(body: bytes, status: int, content_type: str, rows: int, operation: Operation) -> None:
    """A reply of any vendor is an outcome or counts; what is told of it has the shape of an excerpt, and no more."""
    reply = Reply(status, content_type, body, truncated=bool(rows % 2))
    assert EXCERPT.fullmatch(excerpt(reply)), "an excerpt tells more than it may"
    for login, vendor in ((BLAST, Bme()), (HAI, Haihai())):
        sent = Sent(login, NEWS, operation, rows)
        claimed = vendor.read(reply, sent)
        if isinstance(claimed, Counted):
            assert isinstance(vendor, Bme)
            assert status == 200
            counts_are_judged(claimed, operation, rows)
        else:
            _tells_little(claimed)
            assert not isinstance(claimed, Delivered)
            assert not isinstance(claimed, Accepted) or (status == 200 and isinstance(vendor, Haihai))
    token = Bme().read_token(reply)
    if isinstance(token, str):
        assert re.fullmatch("[!-~]{1,4096}", token)
    else:
        _tells_little(token)


def counts_are_judged(
    counted: Counted, operation: Operation, rows: int, lines: Mapping[int, bytes] | None = None
) -> None:
    """Only counts that add up are delivered: each row is delivered or rejected, each rejection is of a row, once."""
    sent = Sent(BLAST, NEWS, operation, rows)
    outcome = Bme().judge(counted, sent, lines_of(rows) if lines is None else lines)
    _tells_little(outcome)
    if isinstance(outcome, Delivered):
        rejected = [rejection.line for rejection in outcome.rejections]
        assert len(set(rejected)) == len(rejected)
        assert set(rejected) <= set(range(FIRST_LINE, FIRST_LINE + rows))
        assert counted.success + counted.failure == rows
        assert len(counted.claims) == counted.failure
        assert counted.success + len(rejected) <= rows
        assert {claim.line for claim in counted.claims} >= set(rejected)
        assert all(_storable(rejection.message) for rejection in outcome.rejections)


def honest_counts_are_delivered(rejected: Mapping[int, str], rows: int, operation: Operation) -> None:
    """What a vendor truly says of its lines is believed: exactly the lines that it names are rejected."""
    lines = lines_of(rows)
    claims = tuple(Claim(n, csvline.decode(lines[n]), text) for n, text in rejected.items())
    counted = Counted(rows - len(claims), len(claims), claims)
    outcome = Bme().judge(counted, Sent(BLAST, NEWS, operation, rows), lines)
    if isinstance(outcome, Misconfigured):
        assert len(rejected) == rows
        return
    assert isinstance(outcome, Delivered)
    wanted = operation in (Operation.DELETE, Operation.STOP)
    assert {r.line for r in outcome.rejections} == {
        n for n, text in rejected.items() if not (wanted and "登録されていない" in text)
    }
    counts_are_judged(counted, operation, rows, lines)


def _tells_little(outcome: Outcome) -> None:
    reason = outcome.reason
    if not EXCERPT.fullmatch(reason):
        found = _REASONS.fullmatch(reason)
        assert found, "a reason tells more than it may"
        told = csvline.fold(found["told"] or "").casefold()
        assert not re.search("taro|髙橋", told), "a reason repeats a line"
    assert not isinstance(outcome, Busy) or outcome.retry_after_s is None


def _storable(text: str) -> bool:
    return len(text) <= 500 and not re.search("[\x00-\x1f\x7f\ud800-\udfff]", text)
