"""What is fuzzed: each target makes inputs of what the fuzzer gives and tries a property on them. Needs atheris.

Where an input has a form that is worth keeping (JSON, XML, TOML), the fuzzer's bytes are it, behind one byte that
chooses the circumstances; so the seeds are the texts themselves, and what is kept in the corpus can be read. Values
without a text are drawn.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module

from relay import csvline
from relay.events import Operation
from relay.vendors import Claim, Counted
from tests.fuzz.properties import lines, replies, settings, webhooks

atheris = import_module("atheris")  # has no types, and newer Pythons have none of it

DEPTH_MAX = 4
MEMBERS_MAX = 5


@dataclass(frozen=True, slots=True)
class Target:
    """One target: what to try, and the names of its seeds (files beginning so) and dictionary, if any."""

    run: Callable[[bytes], None]
    seeds: str = ""
    dictionary: str = ""
    bytes_max: int = 4_096


class Drawn:
    """Values drawn from the fuzzer's bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = atheris.FuzzedDataProvider(data)

    def number(self, low: int, high: int) -> int:
        """Draw a whole number; both ends are possible."""
        return int(self._data.ConsumeIntInRange(low, high))

    def text(self, characters_max: int = 40) -> str:
        """Draw a text: words that matter, or any characters, halves of surrogate pairs among them."""
        if self.number(0, 3) == 0:
            return WORDS[self.number(0, len(WORDS) - 1)]
        return str(self._data.ConsumeUnicode(self.number(0, characters_max)))

    def body(self) -> bytes:
        """Draw all that is left."""
        return bytes(self._data.ConsumeBytes(self._data.remaining_bytes()))

    def json(self, depth: int = DEPTH_MAX) -> object:
        """Draw any JSON value, with keys that columns and forms look for."""
        kind = self.number(0, 9 if depth else 6)
        if kind > 6:
            return self.members(depth - 1) if kind > 7 else [self.json(depth - 1) for _ in range(self.number(0, 5))]
        if kind > 3:
            return self.text()
        number = self._data.ConsumeRegularFloat() if kind == 3 else 0.0
        plain = (None, bool(self.number(0, 1)), self.number(-(2**70), 2**70), number if abs(number) < 1e308 else 0.5)
        return plain[kind]

    def members(self, depth: int = DEPTH_MAX) -> dict[str, object]:
        """Draw a JSON object."""
        return {self.text(12): self.json(depth) for _ in range(self.number(0, MEMBERS_MAX))}


WORDS = (
    *(
        "contact",
        "email",
        "name",
        "number",
        "birthday",
        "plan",
        "family",
        "given",
        "orders",
        "total",
        "address",
        "must",
    ),
    *(
        "street",
        "addresses",
        "id",
        "free",
        "1",
        "true",
        "taro@example.jp",
        "花子 髙橋",
        "〜塚",
        "𠮷",
        "か\u3099",
        "ﾊﾟ",
        "①",
    ),
    *(
        "2026-04-01T09:00:00+09:00",
        "1990-05-31",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59-14:00",
        "",
        " ",
        '"',
        "\\",
    ),
    *(
        "-0.5",
        "1e9",
        "0" * 30,
        "\x00",
        "\ud83d",
        "\ude00",
        "\r\n",
        '","',
        "￥",
        "a\u0301" * 3,
        "v1,",
        "Bearer ",
        "sha256=",
    ),
)


def _json(data: bytes) -> None:
    webhooks.json_is_read_strictly(data)


def _digest(data: bytes) -> None:
    drawn = Drawn(data)
    webhooks.digests_tell_meanings_apart(drawn.json(), drawn.json(), drawn.number(0, 9))


def _forms(data: bytes) -> None:
    chosen = data[0] if data else 0
    form = list(webhooks.FORMATS.values())[chosen % 4]
    headers = list(webhooks.HEADERS.values())[chosen // 4 % 4]
    webhooks.webhooks_are_read_or_refused(form, headers, webhooks.KINDS[chosen // 16 % len(webhooks.KINDS)], data[1:])


def _auth(data: bytes) -> None:
    drawn = Drawn(data)
    webhooks.keys_are_read_or_refused(drawn.text(60))
    values = [drawn.text(60) for _ in range(drawn.number(0, 5))]
    body = drawn.body()
    webhooks.doors_stay_shut(values, body, body[::-1] if len(values) % 2 else None)


def _timestamps(data: bytes) -> None:
    webhooks.timestamps_never_win_by_running_ahead(data.decode("utf-8", "surrogateescape"))
    webhooks.timestamps_never_win_by_running_ahead(Drawn(data).json())


def _inflating(data: bytes) -> None:
    webhooks.inflating_ends(data, "gzip")
    webhooks.inflating_ends(data, "deflate")
    webhooks.compressed_bodies_come_back(data, len(data))


def _networks(data: bytes) -> None:
    peer, *forwarded = data.decode("latin-1").split("\n")
    webhooks.senders_cannot_choose_who_they_are(peer, forwarded)


def _csvline(data: bytes) -> None:
    lines.bytes_are_decoded_or_refused(data)
    drawn = Drawn(data)
    cells = [drawn.text() for _ in range(drawn.number(0, 4))]
    lines.cells_come_back(cells, drawn.text(80))
    for text in (*cells, drawn.text(200)):
        lines.text_is_folded_once(text)


def _addresses(data: bytes) -> None:
    lines.addresses_are_read_or_refused(data.decode("utf-8", "surrogateescape"))


def _columns(data: bytes) -> None:
    lines.lines_are_rendered_or_refused(Drawn(data).members())


def _columns_of_json(data: bytes) -> None:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return
    if isinstance(value, dict):
        lines.lines_are_rendered_or_refused(value)


def _expressions(data: bytes) -> None:
    """The expression is the first line, the data what else there is."""
    path, _, rest = data.partition(b"\n")
    try:
        value = json.loads(rest)
    except (ValueError, RecursionError):
        value = None
    given = value if isinstance(value, dict) else CUSTOMER
    lines.expressions_are_applied_or_refused(path.decode("utf-8", "replace"), given)


def _replies(data: bytes) -> None:
    """The first byte chooses status and operation, the second the number of rows."""
    chosen, rows = (*data[:2], 0, 0)[:2]
    status = replies.STATUSES[chosen % len(replies.STATUSES)]
    operation = (Operation.UPSERT, Operation.DELETE, Operation.STOP, Operation.ALLOW)[
        chosen // len(replies.STATUSES) % 4
    ]
    replies.replies_are_understood(data[2:], status, "application/json", rows % 12 + 1, operation)


def _counts(data: bytes) -> None:
    drawn = Drawn(data)
    rows, operation = drawn.number(1, 12), list(Operation)[drawn.number(0, 4)]
    if operation is Operation.BAN:
        return
    lines_sent = replies.lines_of(rows)
    refused = {n: drawn.text(30) for n in lines_sent if drawn.number(0, 1)}
    replies.honest_counts_are_delivered(refused, rows, operation)
    content = {n: csvline.decode(line) for n, line in lines_sent.items()}
    claims = tuple(
        Claim(number, content.get(drawn.number(0, rows + 2), drawn.text()), drawn.text())
        for _ in range(drawn.number(0, rows + 1))
        for number in [drawn.number(0, rows + 2)]
    )
    counted = Counted(drawn.number(0, rows + 1), drawn.number(0, rows + 1), claims)
    replies.counts_are_judged(counted, operation, rows)


def _settings(data: bytes) -> None:
    settings.settings_are_read_or_refused(data)


CUSTOMER: Mapping[str, object] = {
    "name": "髙橋",
    "number": -0.5,
    "tags": ["a", 1, None, {"b": [2, "x"]}],
    "orders": [{"total": 5, "id": "x"}, {"total": "y"}],
    "nested": {"a": {"b": {"c": None}}},
}

TARGETS: Mapping[str, Target] = {
    "json": Target(_json, "json", "json"),
    "digest": Target(_digest),
    "forms": Target(_forms, "form", "json"),
    "auth": Target(_auth),
    "timestamps": Target(_timestamps, "time", "time", 64),
    "inflating": Target(_inflating, "gzip"),
    "networks": Target(_networks, "network", "network", 400),
    "csvline": Target(_csvline, "line"),
    "addresses": Target(_addresses, "address", "", 300),
    "columns": Target(_columns),
    "columns_json": Target(_columns_of_json, "data", "json"),
    "expressions": Target(_expressions, "expression", "expression", 400),
    "replies": Target(_replies, "reply", "reply"),
    "counts": Target(_counts),
    "settings": Target(_settings, "settings", "settings", 6_000),
}
