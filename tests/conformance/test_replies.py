"""A vendor's own answers, taken from its simulator and then damaged: nothing raises, and nothing is made up."""

import copy
import gzip
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from relay.batches import Accepted, Busy, Delivered, Outcome, Unknown
from relay.events import Operation
from relay.vendors import Counted, Reply, Sent, Vendor
from relay.vendors.claims import MESSAGE_CHARS_MAX
from tests.conformance.candidates import CANDIDATES, Candidate
from tests.conformance.uploading import CUSTOMERS, uploading
from tests.unit.vendors.made import reply, sent

REFUSED = range(len(CUSTOMERS) + 1)
"""How many lines the vendor refuses, the first ones: answers may look different for none, one, and more."""

HOSTILE: tuple[object, ...] = (
    None, True, False, -1, 0, 999, 10**30, 1.5, "", "x", "-1", "٣", "\ud800\0\x1b", "y" * 100_000, [], {}, [[]],
    [None], ["x"], {"": {}},
)  # fmt: skip
"""What a part of an answer may turn out to be. No number of a line of the file is among it."""

GARBAGE = (
    b"",
    b"\0",
    b"\xff\xfe\xfd" * 100,
    bytes(range(256)),
    b"[" * 200_000,
    b'{"a":' * 200_000,
    b"<a>" * 200_000,
    b"NaN",
    b"9" * 10_000,
    b'{"success": 1e400, "failure": -1e400}',
    gzip.compress(b"{}"),
    "受け付けました".encode("utf-16"),
    "受け付けました".encode("euc-jp"),
)


class Judged:
    """Reads and judges answers to a file as the client does."""

    def __init__(self, adapter: Vendor, uploaded: Sent, file: bytes) -> None:
        self.adapter, self.sent = adapter, uploaded
        self.lines = dict(enumerate(file.removesuffix(b"\r\n").split(b"\r\n"), 1))

    def __call__(self, answer: Reply) -> Outcome:
        """Say what an answer comes to."""
        claimed = self.adapter.read(answer, self.sent)
        if not isinstance(claimed, Counted):
            return claimed
        named = {claim.line for claim in claimed.claims} & self.lines.keys()
        return self.adapter.judge(claimed, self.sent, {line: self.lines[line] for line in named})


async def _answered(candidate: Candidate, folder: Path, refused: int = 2) -> tuple[Reply, Judged]:
    """Get the answer to a file of which the vendor refuses the first lines."""
    async with uploading(candidate, folder) as up:
        if refused:
            addresses = [customer["email"] for customer in CUSTOMERS[:refused]]
            up.sim.faults.arm({"fault": "reject_lines", "addresses": addresses})
        answer = await up.answer()
        file = up.files[Operation.UPSERT].path.read_bytes()
        return answer, Judged(candidate.adapter, Sent(up.login, up.account, Operation.UPSERT, len(CUSTOMERS)), file)


def _made_up(outcome: Outcome, refused: int) -> bool:
    """Say whether this tells of other lines than the vendor refused, or of them what cannot be stored."""
    if not isinstance(outcome, Delivered):
        return isinstance(outcome, Accepted)
    told = [rejection.message for rejection in outcome.rejections]
    lines = {rejection.line for rejection in outcome.rejections}
    return lines != set(range(2, 2 + refused)) or not all(map(_can_be_stored, told))


def _can_be_stored(message: str) -> bool:
    whole = message.encode("utf-8", "replace").decode("utf-8") == message
    return whole and len(message) <= MESSAGE_CHARS_MAX and not any(ord(character) < 0x20 for character in message)


CONFIRMING = [vendor for vendor, candidate in CANDIDATES.items() if candidate.confirms is Delivered]


@pytest.mark.parametrize("vendor", CONFIRMING)
@pytest.mark.parametrize("refused", REFUSED)
async def test_what_is_wrong_in_a_part_of_an_answer_confirms_nothing(vendor: str, refused: int, tmp_path: Path) -> None:
    """A part missing, of another kind, or in the place of another: never a raise, never other lines than refused."""
    answer, judged = await _answered(CANDIDATES[vendor], tmp_path, refused)
    good = judged(answer)
    assert isinstance(good, Delivered)
    assert not _made_up(good, refused)
    for damaged in _damaged(json.loads(answer.text)):
        body = json.dumps(damaged).encode()
        assert not _made_up(judged(replace(answer, body=body)), refused), body[:500]


@pytest.mark.parametrize("vendor", CONFIRMING)
async def test_a_yes_that_is_a_no_confirms_nothing(vendor: str, tmp_path: Path) -> None:
    """Where an answer says true and false besides its counts, both have to fit."""
    answer, judged = await _answered(CANDIDATES[vendor], tmp_path)
    tree = json.loads(answer.text)
    for *way, last in _paths(tree):
        if isinstance(said := _at(tree, way)[last], bool):
            turned = copy.deepcopy(tree)
            _at(turned, way)[last] = not said
            assert not isinstance(judged(replace(answer, body=json.dumps(turned).encode())), Delivered)


@pytest.mark.parametrize("vendor", CONFIRMING)
@pytest.mark.parametrize("refused", REFUSED)
async def test_a_part_of_an_answer_confirms_nothing(vendor: str, refused: int, tmp_path: Path) -> None:
    """An answer that ends early, although the server says that it is whole."""
    answer, judged = await _answered(CANDIDATES[vendor], tmp_path, refused)
    for end in range(len(answer.body)):
        assert not _made_up(judged(replace(answer, body=answer.body[:end])), refused), answer.body[:end]


@pytest.mark.parametrize("vendor", CANDIDATES)
async def test_an_answer_that_is_not_whole_confirms_nothing(vendor: str, tmp_path: Path) -> None:
    """Not even where all of it seems to be there; where answers grow with the file, the next file is smaller."""
    candidate = CANDIDATES[vendor]
    answer, judged = await _answered(candidate, tmp_path)
    for end in range(len(answer.body) + 1):
        outcome = judged(replace(answer, body=answer.body[:end], truncated=True))
        assert isinstance(outcome, Unknown)
        assert outcome.timed_out == (candidate.confirms is Delivered)


@pytest.mark.parametrize("vendor", CANDIDATES)
@pytest.mark.parametrize("number", range(len(GARBAGE)))
def test_garbage_raises_nothing(vendor: str, number: int) -> None:
    """Whatever the bytes, at any status: an outcome, and never that lines were delivered."""
    candidate = CANDIDATES[vendor]
    judged = Judged(candidate.adapter, sent(candidate.login(), 3), b"x\r\n" * 4)
    for status in (200, 400, 401, 429, 500):
        for kind in ("application/json", "text/html; charset=x"):
            assert not isinstance(judged(reply(GARBAGE[number], status, kind)), Delivered)


BUSY = [(vendor, kind) for vendor, c in CANDIDATES.items() for kind, outcome in c.outcomes.items() if outcome is Busy]


@pytest.mark.parametrize(("vendor", "kind"), BUSY)
async def test_a_vendor_busy_in_its_own_words_may_say_for_how_long(vendor: str, kind: str, tmp_path: Path) -> None:
    """The wait that its answer asks for is handed on, as it is from a 429."""
    async with uploading(CANDIDATES[vendor], tmp_path) as up:
        up.sim.faults.arm({"fault": kind})
        answer = replace(await up.answer(), retry_after_s=17.0)
        outcome = up.candidate.adapter.read(answer, Sent(up.login, up.account, Operation.UPSERT, len(CUSTOMERS)))
    assert isinstance(outcome, Busy)
    assert outcome.retry_after_s == 17.0


def _damaged(tree: Any) -> Iterator[Any]:  # noqa: ANN401 - JSON
    """Damage one part at a time."""
    for path in list(_paths(tree)):
        *way, last = path
        for value in HOSTILE:
            changed = copy.deepcopy(tree)
            _at(changed, way)[last] = value
            yield changed
        without = copy.deepcopy(tree)
        del _at(without, way)[last]
        yield without
        if isinstance(last, int):  # the same refused line twice, and the other one not at all
            twice = copy.deepcopy(tree)
            _at(twice, way)[last] = copy.deepcopy(_at(tree, way)[last - 1])
            yield twice


def _paths(tree: Any, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:  # noqa: ANN401 - JSON
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in inner:
        yield (*at, key)
        yield from _paths(value, (*at, key))


def _at(tree: Any, way: list[str | int]) -> Any:  # noqa: ANN401 - JSON
    for key in way:
        tree = tree[key]
    return tree
