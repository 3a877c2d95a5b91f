"""Refused lines, kept small: a reply may name hundreds of thousands."""

from array import array
from collections.abc import Iterator, Sequence
from typing import Final, overload

from relay.vendors.base import Claim

MESSAGE_CHARS_MAX: Final = 500
"""So much of a vendor's message on one line is kept; a longer one is no message."""

MESSAGES_MAX: Final = 1_000
"""So many different messages are looked for again: a message that holds its line's number is like no other."""


class Claims(Sequence[Claim]):
    """Claims in the order in which they were added, made anew whenever they are asked for.

    All texts stand in one row of bytes, equal messages once, so that they take no more than in the reply itself.
    """

    def __init__(self) -> None:
        self._texts = bytearray()
        self._numbers = array("Q")  # for each claim: its line, then where content and message begin and end
        self._messages: dict[str, tuple[int, int]] = {}

    def add(self, claim: Claim) -> None:
        """Keep one more; a message is cut at `MESSAGE_CHARS_MAX`."""
        content = self._keep(claim.content)
        text = claim.message[:MESSAGE_CHARS_MAX]
        message = self._messages.get(text)
        if message is None:
            message = self._keep(text)
            if len(self._messages) < MESSAGES_MAX:
                self._messages[text] = message
        self._numbers.extend((claim.line, *content, *message))

    def __len__(self) -> int:
        return len(self._numbers) // 5

    @overload
    def __getitem__(self, index: int) -> Claim: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Claim, ...]: ...
    def __getitem__(self, index: int | slice) -> Claim | tuple[Claim, ...]:
        """Make one claim, or some."""
        if isinstance(index, slice):
            return tuple(self._made(at) for at in range(*index.indices(len(self))))
        return self._made(range(len(self))[index])

    def __iter__(self) -> Iterator[Claim]:
        """Make them one by one."""
        return map(self._made, range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(Claim.__eq__, self, other))

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"<{len(self)} claims>"

    def _keep(self, text: str) -> tuple[int, int]:
        begin = len(self._texts)
        self._texts += text.encode("utf-8", "surrogatepass")  # JSON lets lone surrogates through
        return begin, len(self._texts)

    def _made(self, at: int) -> Claim:
        line, *places = self._numbers[5 * at : 5 * at + 5]
        content, message = (
            self._texts[a:b].decode("utf-8", "surrogatepass") for a, b in zip(places[::2], places[1::2], strict=True)
        )
        return Claim(line, content, message)
