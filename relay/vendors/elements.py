"""JSON and XML replies as one stream of named elements, read piece by piece and strictly.

Theory of operation. A reply may have many megabytes, of which little is wanted, so no tree of it is built. Both forms
become the same elements: a member of an object is an element, a list is its element again and again, as in XML. JSON
is told from XML by its first character, whatever a header says.

What cannot be read beyond doubt raises `Doubt`: what breaks off or goes on behind its end, a name that stands twice in
one object, a document type or an entity, lists of lists, text between elements, and what is deeper or longer than any
reply is. Scalars of JSON are read by the standard library's scanner, so they are what `json.loads` makes of them.
"""

import json
import re
from collections.abc import Iterator
from typing import Final, Literal
from xml.etree.ElementTree import ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

DEPTH_MAX: Final = 32
"""The documents' samples have four levels, and a wrapper or two were seen around them."""

TEXT_CHARS_MAX: Final = 4_194_304
"""The longest value or tag: twice what a webhook of a million bytes becomes where each character is an escape."""

NAMES_MAX: Final = 1_000
"""Members of one object: the documents' samples have three."""

ELEMENTS_MAX: Final = 100_000
"""Starts, leaves and ends of a reply that names no lines."""

Scalar = str | int | float | bool | None

Element = tuple[Literal["start", "leaf", "end"], str, Scalar]
"""An element with others in it starts and ends; one with a value, or nothing, in it is a leaf."""


class Doubt(ValueError):
    """A reply cannot be read beyond doubt. The text says why, in words of relay's own."""


def elements(texts: Iterator[str], elements_max: int = ELEMENTS_MAX) -> Iterator[Element]:
    """Read a document; the outermost element of JSON has no name.

    Raises:
        Doubt: it is neither JSON nor XML, or there is something wrong with it, perhaps only at its end; or there are
            more starts, leaves and ends than `elements_max`.
    """
    for number, element in enumerate(_elements(_Window(texts)), 1):
        if number > elements_max:
            raise Doubt("more is said than can be meant")
        yield element


def _elements(window: "_Window") -> Iterator[Element]:
    first = window.peek()
    if first in ("{", "["):
        yield from _value(window, "", depth=0)
        if window.peek():
            raise Doubt("something stands behind the end")
    elif first == "<":
        yield from _xml(window)
    else:
        raise Doubt("neither JSON nor XML" if first else "empty")


class _Window:
    """The part of a text that is being read."""

    def __init__(self, texts: Iterator[str]) -> None:
        self._texts = texts
        self._text = ""
        self._at = 0

    def peek(self) -> str:
        """Pass over white space and give the next character, which is not taken; nothing at the end."""
        while not (found := _NO_SPACE.search(self._text, self._at)):
            self._at = len(self._text)
            if not self._more():
                return ""
        self._at = found.start()
        return found[0]

    def take(self, *characters: str) -> str:
        """Take the next character, which must be one of these."""
        if (found := self.peek()) not in characters:
            raise Doubt("broken off" if not found else "not valid JSON")
        self._at += 1
        return found

    def scalar(self) -> Scalar:
        """Take a string, a number, or one of the three words; nothing else is here."""
        value: Scalar
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except ValueError:
                if not self._more():
                    raise Doubt("broken off or not valid JSON") from None
                continue
            # Without its end a number may go on in the next piece: 1 in 1.5, or in 1e5.
            if self._text[end : end + 1] in _AFTER_VALUE or not self._more():
                self._at = end
                return value

    def rest(self) -> Iterator[str]:
        """Give what has not been taken."""
        yield self._text[self._at :]
        yield from self._texts

    def _more(self) -> bool:
        more = next(self._texts, None)
        if more is None:
            return False
        self._text, self._at = self._text[self._at :] + more, 0
        if len(self._text) > TEXT_CHARS_MAX:
            raise Doubt("a value is too long")
        return True


# -- JSON ------------------------------------------------------------------------------------------------------------

_AFTER_VALUE = (",", "}", "]", ":", " ", "\t", "\n", "\r")
_NO_SPACE = re.compile("[^ \t\n\r]")


def _refuse(word: str) -> None:
    raise ValueError(word)  # NaN and Infinity, which the standard library lets through


_DECODER = json.JSONDecoder(parse_constant=_refuse)


def _value(window: _Window, name: str, depth: int, *, listed: bool = False) -> Iterator[Element]:
    if depth > DEPTH_MAX:
        raise Doubt("too deep")
    match window.peek():
        case "{":
            yield "start", name, None
            for member in _members(window):
                yield from _value(window, member, depth + 1)
            yield "end", name, None
        case "[":
            if listed:
                raise Doubt("a list of lists")
            window.take("[")
            if window.peek() == "]":
                window.take("]")
                return
            yield from _value(window, name, depth + 1, listed=True)
            while window.take(",", "]") == ",":
                yield from _value(window, name, depth + 1, listed=True)
        case _:
            yield "leaf", name, window.scalar()


def _members(window: _Window) -> Iterator[str]:
    """Name an object's members; whoever asks takes each one's value before the next."""
    names: set[str] = set()
    window.take("{")
    if window.peek() == "}":
        window.take("}")
        return
    while True:
        if window.peek() != '"':
            raise Doubt("broken off" if not window.peek() else "not valid JSON")
        name = str(window.scalar())
        if name in names or len(names) == NAMES_MAX:
            raise Doubt("a name stands twice, or there are too many")
        names.add(name)
        window.take(":")
        yield name
        if window.take(",", "}") == "}":
            return


# -- XML -------------------------------------------------------------------------------------------------------------


class _Target:
    """What the parser tells of: gathers an element's text until it is known what it is."""

    def __init__(self) -> None:
        self.found: list[Element] = []
        self._names: list[str] = []
        self._text: list[str] | None = None  # of the innermost element, as long as it may be a leaf
        self._chars = 0

    def start(self, tag: str, attributes: object) -> None:
        """Begin an element: what it stands in is no leaf."""
        del attributes  # the documents know none
        if self._text is not None:
            self._blank()
            self.found.append(("start", self._names[-1], None))
        self._names.append(tag.rpartition("}")[2])
        if len(self._names) > DEPTH_MAX:
            raise Doubt("too deep")
        self._text, self._chars = [], 0

    def data(self, text: str) -> None:
        """Take a piece of text."""
        if self._text is None:
            if text.strip():
                raise Doubt("text between elements")
            return
        self._chars += len(text)
        if self._chars > TEXT_CHARS_MAX:
            raise Doubt("a value is too long")
        self._text.append(text)

    def end(self, tag: str) -> None:
        """End an element."""
        del tag  # the parser sees to it that it is the innermost one
        name = self._names.pop()
        if self._text is None:
            self.found.append(("end", name, None))
        else:
            self.found.append(("leaf", name, "".join(self._text).strip()))
        self._text = None

    def _blank(self) -> None:
        if "".join(self._text or ()).strip():
            raise Doubt("text between elements")


def _xml(window: _Window) -> Iterator[Element]:
    """Read XML. It is decoded already, so what it declares of its encoding does not matter."""
    target = _Target()
    parser = DefusedXMLParser(target=target, encoding="utf-8", forbid_dtd=True)
    silent = 0
    try:
        for text in window.rest():
            parser.feed(text.encode("utf-8", "replace"))
            silent = 0 if target.found else silent + len(text)
            if silent > TEXT_CHARS_MAX:  # of a tag or a comment nothing is told until its end
                raise Doubt("a value is too long")
            yield from target.found
            target.found.clear()
        parser.close()
    except DefusedXmlException:
        raise Doubt("a document type or an entity") from None
    except ParseError:
        raise Doubt("broken off or not valid XML") from None
    yield from target.found
