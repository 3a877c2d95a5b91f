"""Time grows with an input's size and no faster: what would take seconds for 300 kB would hold up everybody else.

Neither does memory: of a vendor's reply, all that is kept takes less than the reply itself.
"""

import contextlib
import gzip
import json
import time
import tracemalloc
from collections import deque
from collections.abc import Callable, Iterator

import pytest

from relay import csvline
from relay.batches import Delivered, Transient, Unknown
from relay.errors import Invalid, RelayError
from relay.events import Operation
from relay.receive.inflating import inflated
from relay.receive.limits import Limits
from relay.receive.networks import sender
from relay.receive.parse import Malformed, check, strict_json
from relay.vendors import Counted, Reply, Sent, excerpt
from relay.vendors.bme import Bme
from tests.fuzz.properties import lines, replies, webhooks

SIZE = 300_000
SECONDS_MAX = 1.5
"""Of this process's own time. All take a tenth of it or less; what is quadratic takes minutes."""

HOSTILE = {
    "letters": "a",
    "open": "[",
    "objects": '{"a":',
    "quotes": '"',
    "backslashes": "\\",
    "escapes": "\\u9ad9",
    "digits": "9",
    "minus": "-",
    "marks": "\u0301",
    "voiced": "か\u3099",
    "surrogates": "𠮷",
    "spaces": " ",
    "line ends": "\r\n",
    "commas": '","',
    "ats": "a@",
    "dots": "a.",
    "failures": "Failure_",
    "words": "Failure_a a ",
    "counts": '"success":',
    "codes": "81401 ",
    "tags": "<a>",
    "entities": "&lt;",
    "addresses": "10.0.0.1, ",
    "signatures": "v1,",
}


def quick(work: Callable[..., object], *given: object) -> None:
    """Do it to the end, whatever it raises of what is documented, and fail if it takes long."""
    began = time.process_time()
    with contextlib.suppress(RelayError, ValueError):
        done = work(*given)
        if isinstance(done, Iterator):
            deque(done, maxlen=0)
    took_s = time.process_time() - began
    assert took_s < SECONDS_MAX, f"took {took_s:.1f} s"


def of_size(unit: str) -> str:
    """Repeat something until it is large."""
    return unit * (SIZE // len(unit.encode()))


@pytest.mark.parametrize("unit", HOSTILE)
def test_bodies(unit: str) -> None:
    """A body of one repeated thing, alone and as a value, as JSON and as a webhook in every form."""
    text = of_size(HOSTILE[unit])
    in_string = '{"data": {"email": "' + text.replace("\\", "\\\\").replace('"', '\\"') + '"}}'
    for body in (text.encode(), in_string.encode("utf-8", "replace")):
        quick(strict_json, body)
        for form in webhooks.FORMATS.values():
            quick(form.one, webhooks.HEADERS["none"], "application/json", body)
            quick(form.many, webhooks.HEADERS["none"], "application/x-ndjson", body)
        quick(inflated, body, "gzip")
        quick(inflated, gzip.compress(body)[:-9], "gzip")


@pytest.mark.parametrize("unit", HOSTILE)
def test_values(unit: str) -> None:
    """A value of one repeated thing: folded, encoded, compared, read as an address, a date, a number, a key."""
    text = of_size(HOSTILE[unit])
    quick(csvline.replace_unencodable, text)
    quick(csvline.unencodable, text)
    quick(csvline.address, text)
    quick(csvline.record, [text.replace("𠮷", "")])
    quick(csvline.same_record, b'"a","b"\r\n', text)
    for name in ("name", "number", "birthday", "plan", "must"):
        customer = {"contact": {"email": "taro@example.jp"}, "must": "x", name: text}
        quick(lines.PLANS[0].render, customer, "replace")
    quick(webhooks.timestamps_never_win_by_running_ahead, text)


@pytest.mark.parametrize("unit", HOSTILE)
def test_headers(unit: str) -> None:
    """A header of one repeated thing, though heads are far smaller: as a signature, a token, a list of proxies."""
    text = of_size(HOSTILE[unit])
    quick(webhooks.doors_stay_shut, ["w", "1", text, text, text], b"{}", None)
    quick(sender, "10.0.0.1", [text], webhooks.PROXIES)


@pytest.mark.parametrize("unit", HOSTILE)
@pytest.mark.parametrize("status", [200, 400])
def test_replies(unit: str, status: int) -> None:
    """A vendor's reply of one repeated thing, alone and among counts."""
    text = of_size(HOSTILE[unit])
    for body in (text, f'{{"success":"1","failure":"1","details":"{text}"}}', f"<a><success>1</success>{text}</a>"):
        answer = body.encode()
        quick(excerpt, Reply(status, "text/html", answer))
        quick(replies.replies_are_understood, answer, status, "x", 2, Operation.UPSERT)


def test_many_keys_and_many_levels() -> None:
    """An object of 30,000 members, and of as many levels as can be written, is read or refused at once."""
    wide = ("{" + ",".join(f'"{n}": [{{}}]' for n in range(20_000)) + "}").encode()
    quick(check, strict_json(wide), Limits())
    quick(webhooks.FORMATS["own"].one, webhooks.HEADERS["id"], "application/json", wide)
    with pytest.raises((Malformed, Invalid)):
        check(strict_json(b"[" * 900 + b"]" * 900), Limits())


REPLY_BYTES = 1_000_000
"""A sixteenth of the largest: memory is in proportion, and a test must not take seconds."""

PIECE_BYTES = 800_000
"""What the piece that is being read takes, however large the reply is."""


def reply_of(form: str, message: str, cell: str, *, escaped: bool = False) -> tuple[bytes, dict[int, bytes]]:
    """Make a reply that names line after line until it is large, and the lines; `#` is the line's number."""
    lines: dict[int, bytes] = {}
    details: list[str] = []
    size = 0
    while size < REPLY_BYTES:
        number = len(lines) + 2
        row = csvline.record([f"taro{number}@example.jp", cell]).removesuffix(b"\r\n")
        content, said = csvline.decode(row), message.replace("#", str(number))
        if form == "json":
            detail = {"content": content, "message": said, "lineNumber": number}
            details.append(json.dumps(detail, ensure_ascii=escaped, separators=(",", ":")))
        else:
            told = f"<lineNumber>{number}</lineNumber><content>{content}</content><message>{said}</message>"
            details.append(f"<detail>{told}</detail>")
        lines[number] = row
        size += len(details[-1].encode())
    if form == "json":
        text = f'{{"success":"0","failure":"{len(lines)}","details":{{"detail":[{",".join(details)}]}}}}'
    else:
        counts = f"<success>0</success><failure>{len(lines)}</failure>"
        text = f'<?xml version="1.0"?><contact>{counts}<details>{"".join(details)}</details></contact>'
    return text.encode(), lines


@pytest.mark.parametrize("form", ["json", "xml"])
@pytest.mark.parametrize(
    ("message", "cell", "escaped", "judged_max"),
    [
        ("メールアドレスの形式が不正です", "髙橋 太郎" * 8, False, 1.7),
        ("メールアドレスの形式が不正です", "髙橋 太郎" * 8, True, 1.7),
        ("メールアドレスの形式が不正です", "", False, 2.0),
        ("#行目の形式が不正です", "", False, 3.5),
    ],
    ids=["names", "escapes", "addresses", "a message for each"],
)
def test_a_large_reply_is_read_in_little_memory(
    form: str, message: str, cell: str, *, escaped: bool, judged_max: float
) -> None:
    """Beside the reply, what is read takes little more than its size; rejections are what is kept in the end."""
    body, lines = reply_of(form, message, cell, escaped=escaped)
    sent = Sent(replies.BLAST, replies.NEWS.model_copy(update={"mode": "update"}), Operation.UPSERT, len(lines))
    answer = Reply(200, "application/json", body)
    tracemalloc.start()
    try:
        counted = Bme().read(answer, sent)
        _, reading = tracemalloc.get_traced_memory()
        assert isinstance(counted, Counted)
        tracemalloc.reset_peak()
        outcome = Bme().judge(counted, sent, lines)
        _, judging = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(outcome, Delivered)
    assert [rejection.line for rejection in outcome.rejections] == list(lines)
    assert outcome.rejections[-1].message == message.replace("#", str(len(lines) + 1))
    assert reading < 1.1 * len(body) + PIECE_BYTES, f"{reading / len(body):.2f} times the reply to read it"
    assert judging < judged_max * len(body), f"{judging / len(body):.2f} times the reply to judge it"


HOSTILE_REPLIES = {
    "claims of nothing": b'{"success":0,"failure":2,"details":{"detail":[' + b'{"a":1},' * 500_000,
    "empty objects": b'{"success":0,"failure":2,"details":{"detail":[' + b"{}," * 1_300_000,
    "empty elements": b"<c><details>" + b"<detail/>" * 450_000,
    "numbers": b'{"x":[' + b"1," * 2_000_000,
    "names": b"{" + b"".join(b'"%d":1,' % n for n in range(400_000)),
    "a text": b'{"x":"' + b"x" * 4_000_000,
    "a text in XML": b"<x>" + b"x" * 4_000_000,
    "lists": b'{"x":' + b"[" * 4_000_000,
    "levels": b'{"x":' * 800_000,
    "tags": b"<a>" * 1_300_000,
    "a tag": b"<a" + b"x" * 4_000_000,
    "attributes": b"<a " + b"".join(b'x%d="1" ' % n for n in range(350_000)),
    "a comment": b"<a><!--" + b"x" * 4_000_000,
    "tokens": b'{"x":[' + b"".join(b'{"accessToken":"%d"},' % n for n in range(200_000)),
}


@pytest.mark.parametrize("name", HOSTILE_REPLIES)
def test_a_large_reply_of_anything_else_takes_little_memory(name: str) -> None:
    """What no vendor says is given up, before it takes many times its size."""
    answer = Reply(200, "", HOSTILE_REPLIES[name])
    sent = Sent(replies.BLAST, replies.NEWS, Operation.UPSERT, 2)
    tracemalloc.start()
    try:
        assert isinstance(Bme().read(answer, sent), Unknown)
        assert isinstance(Bme().read_token(answer), Transient)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * len(answer.body), f"{peak / len(answer.body):.2f} times the reply"
