"""The properties that `make fuzz` tries for minutes, tried for a moment, always with the same inputs.

What a fuzzer has found stands in the tests of the module concerned; here stands only what must hold for everything.
"""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from relay import csvline
from relay.events import Operation
from relay.vendors import Claim, Counted
from tests.fuzz.properties import lines, replies, webhooks
from tests.fuzz.properties import settings as of_settings

deterministic = settings(max_examples=200, derandomize=True, deadline=None, database=None)
"""A failure here is a failure everywhere, and no machine is too slow for it."""

TEXT = st.text(
    st.one_of(
        st.characters(),
        st.characters(categories=["Cs", "Mn", "Cc", "Zs"]),
        st.sampled_from('かﾊﾟ塚髙〜¥①〓"\\,\r\n\t\x00\u3099\u0301\ufe0f\ud83d\ude00@.'),
    ),
    max_size=60,
)
WORDS = st.one_of(TEXT, st.sampled_from(["taro@example.jp", "2026-04-01T09:00:00+09:00", "1990-05-31", "-0.5", "free"]))
NAMES = st.one_of(
    st.sampled_from(["contact", "email", "name", "number", "birthday", "plan", "orders", "total", "address", "must"]),
    TEXT,
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), WORDS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(NAMES, inner, max_size=4)),
    max_leaves=12,
)
DATA = st.dictionaries(NAMES, JSON, max_size=6)
CUSTOMER = DATA.map(lambda data: {"must": "x", **data, "contact": {"email": "taro@example.jp"}})
WEBHOOK = st.fixed_dictionaries(
    {
        "type": st.one_of(st.sampled_from(["customer.created", "com.x.customer.deleted"]), JSON),
        "data": st.one_of(DATA, JSON),
    },
    optional={
        "id": st.one_of(st.just("w-1"), JSON),
        "timestamp": JSON,
        "specversion": st.one_of(st.just("1.0"), JSON),
        "time": JSON,
        "data_base64": st.one_of(st.just("e30="), JSON),
        "meta": JSON,
        "changes": JSON,
    },
)
BODY = st.one_of(JSON, WEBHOOK, st.lists(WEBHOOK, max_size=3)).map(lambda value: json.dumps(value).encode())
OPERATIONS = st.sampled_from(sorted(replies.BLAST.operations))


@deterministic
@given(st.one_of(st.binary(max_size=200), TEXT.map(lambda text: text.encode("utf-8", "surrogatepass")), BODY))
def test_json_is_read_as_python_reads_it(body: bytes) -> None:
    """Whatever strict JSON takes, Python takes for the same; whatever it refuses, it refuses in its own way."""
    webhooks.json_is_read_strictly(body)


@deterministic
@given(JSON, JSON, st.integers(0, 9))
def test_digests_tell_meanings_apart(first: object, second: object, seed: int) -> None:
    """One digest for each JSON value, whatever the order of its keys."""
    webhooks.digests_tell_meanings_apart(first, second, seed)
    webhooks.digests_tell_meanings_apart(first, first, seed)


@deterministic
@given(
    st.sampled_from(sorted(webhooks.FORMATS)),
    st.sampled_from(sorted(webhooks.HEADERS)),
    st.sampled_from(webhooks.KINDS),
    BODY,
)
def test_webhooks_are_read_or_refused(form: str, headers: str, kind: str, body: bytes) -> None:
    """In every form a body is webhooks or refused in a documented way."""
    webhooks.webhooks_are_read_or_refused(webhooks.FORMATS[form], webhooks.HEADERS[headers], kind, body)
    webhooks.webhooks_are_read_or_refused(webhooks.FORMATS[form], webhooks.HEADERS[headers], kind, body + b"\n" + body)


@deterministic
@given(
    st.one_of(JSON, st.datetimes().map(lambda moment: moment.isoformat() + "Z"), st.from_regex(r"[0-9TtZz:.+-]{5,40}"))
)
def test_timestamps_never_win_by_running_ahead(value: object) -> None:
    """No timestamp makes an event later than it may be."""
    webhooks.timestamps_never_win_by_running_ahead(value)


@deterministic
@given(st.lists(TEXT, max_size=5), st.binary(max_size=60), st.one_of(st.none(), st.binary(max_size=60)), TEXT)
def test_doors_stay_shut(values: list[str], body: bytes, inflated: bytes | None, secret: str) -> None:
    """Nothing but the right proof opens, and nothing that is sent breaks the lock."""
    webhooks.doors_stay_shut(values, body, inflated)
    webhooks.keys_are_read_or_refused(secret)
    webhooks.keys_are_read_or_refused(f"whsec_{secret}")


@deterministic
@given(st.binary(max_size=300), st.integers(0, 400))
def test_compressed_bodies(body: bytes, cut: int) -> None:
    """What was compressed comes back; what was not, or not whole, is refused."""
    webhooks.compressed_bodies_come_back(body, cut)
    for encoding in ("gzip", "deflate"):
        webhooks.inflating_ends(body, encoding)


@deterministic
@given(
    st.one_of(st.ip_addresses().map(str), st.sampled_from(["10.0.0.1", "::ffff:10.0.0.1", "unix", ""]), TEXT),
    st.lists(st.one_of(TEXT, st.ip_addresses().map(str), st.just("10.1.1.1:80, [2001:db8::1]:9")), max_size=3),
)
def test_senders_cannot_choose_who_they_are(peer: str, forwarded: list[str]) -> None:
    """No header makes somebody of anybody."""
    webhooks.senders_cannot_choose_who_they_are(peer, forwarded)


@deterministic
@given(st.lists(TEXT, max_size=5), TEXT, st.binary(max_size=60))
def test_lines_come_back(cells: list[str], repeated: str, data: bytes) -> None:
    """Folding, encoding, records and their repetitions keep what they are given."""
    for text in (*cells, repeated):
        lines.text_is_folded_once(text)
    lines.cells_come_back(cells, repeated)
    lines.bytes_are_decoded_or_refused(data)


@deterministic
@given(st.one_of(TEXT, st.emails(), st.from_regex(r"[a-z.+@ -]{1,80}\.jp")))
def test_addresses_are_read_or_refused(text: str) -> None:
    """An address is one, and comes back as it was."""
    lines.addresses_are_read_or_refused(text)


@deterministic
@given(st.one_of(DATA, CUSTOMER))
def test_lines_are_rendered_or_refused(data: dict[str, object]) -> None:
    """Whatever a customer's data are, a line comes out or the fields at fault do."""
    lines.lines_are_rendered_or_refused(data)


@deterministic
@given(
    st.one_of(st.binary(max_size=200), TEXT.map(lambda text: f"Failure_{text}".encode("utf-8", "replace")), BODY),
    st.sampled_from(replies.STATUSES),
    st.sampled_from(["application/json", "text/html; charset=x", "taro@example.jp"]),
    st.integers(1, 12),
    OPERATIONS,
)
def test_replies_are_understood(body: bytes, status: int, kind: str, rows: int, operation: Operation) -> None:
    """No reply breaks an adapter, counts as delivered by chance, or is told."""
    replies.replies_are_understood(body, status, kind, rows, operation)


@deterministic
@given(st.integers(1, 12), st.dictionaries(st.integers(2, 13), TEXT), OPERATIONS, st.data())
def test_counts_are_judged(rows: int, messages: dict[int, str], operation: Operation, data: st.DataObject) -> None:
    """Honest counts are believed to the line, and made-up ones only where every row is accounted for."""
    rejected = {line: text for line, text in messages.items() if line < rows + 2}
    replies.honest_counts_are_delivered(rejected, rows, operation)
    sent = {n: csvline.decode(line) for n, line in replies.lines_of(rows).items()}
    numbers = data.draw(st.lists(st.integers(0, rows + 2), max_size=rows + 1))
    claims = tuple(Claim(n, data.draw(st.one_of(st.just(sent.get(n, "")), TEXT)), "no") for n in numbers)
    counted = Counted(data.draw(st.integers(0, rows + 1)), data.draw(st.integers(0, rows + 1)), claims)
    replies.counts_are_judged(counted, operation, rows)


@settings(deterministic, max_examples=50)
@given(st.sampled_from(["small", "shop", "whole"]), st.integers(0, 2000), TEXT, st.integers(0, 30))
def test_settings_are_read_or_refused(seed: str, place: int, text: str, gone: int) -> None:
    """Settings with something wrong in any place are told as mistakes; what is accepted, a service can be made of."""
    good = (of_settings.SEEDS / f"settings-{seed}").read_bytes()
    of_settings.settings_are_read_or_refused(good)
    at = place % len(good)
    of_settings.settings_are_read_or_refused(good[:at] + text.encode("utf-8", "replace") + good[at + gone :])


def test_the_strategies_reach_what_they_are_for() -> None:
    """The made-up customers can be rendered: else these tests would try refusals alone."""
    rendered = lines.PLANS[0].render({"must": "x", "contact": {"email": "taro@example.jp"}}, "replace")
    assert rendered.address == "taro@example.jp"
    assert len(rendered.cells) == len(lines.COLUMNS)
