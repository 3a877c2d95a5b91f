"""Time grows with an input's size and no faster: what would take seconds for 300 kB would hold up everybody else."""

import contextlib
import gzip
import time
from collections import deque
from collections.abc import Callable, Iterator

import pytest

from relay import csvline
from relay.errors import Invalid, RelayError
from relay.events import Operation
from relay.receive.inflating import inflated
from relay.receive.limits import Limits
from relay.receive.networks import sender
from relay.receive.parse import Malformed, check, strict_json
from relay.vendors import Reply, excerpt
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
