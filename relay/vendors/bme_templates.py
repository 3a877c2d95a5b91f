"""blastmail's and blaynmail's templates (`contact/import/usage`): how they are asked for, and how they are read.

Both API documents: a CSV file comes back, `type` 1 for registering and 2 for deleting. One brand's table says POST, its
own sample and the other brand GET. Neither the file's encoding nor its line ends are documented. Its first record are
the names of the contract's items; what stands below are samples. A GET may not ask for a format: `format=json` was seen
to answer 500 `illegal format: json,json`.

Whatever else may come with a 200, a page, an error, a part of a file, must not be taken for a template: relay would
stop sending because of it.
"""

import codecs
import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Final

from relay.batches import Outcome, Transient
from relay.csvline import decode, unencodable
from relay.vendors.base import Call, Reply, by_status_without_file, excerpt
from relay.vendors.templates import Template, TemplateKind

TEMPLATE_BYTES_MAX: Final = 262_144
"""A contract has some hundred items at most, with names of some tens of bytes; what is larger is no template."""

HEADERS_MAX: Final = 1_000
"""More columns than that is text that happens to hold commas."""

HEADER_CHARS_MAX: Final = 200
"""A longer name is a sentence, or a line that does not end."""

_TYPES: Mapping[TemplateKind, str] = {"register": "1", "delete": "2"}

_NOT_CSV = re.compile(r"\s*[<{]")  # a page, XML, JSON, also where it breaks off
_FAILURE = re.compile(r"\s*\"?failure_", re.IGNORECASE)
_NO_NAME = re.compile("[\r\n@＠]")  # two lines; or an address, which a name is shown to more people than
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def template_call(kind: TemplateKind, token: str) -> Call:
    """Ask for a template."""
    return Call("GET", "contact/import/usage", query=(("access_token", token), ("type", _TYPES[kind])))


def read_template(reply: Reply, kind: TemplateKind) -> Template | Outcome:
    """Read a template, or say what came instead. No file has been sent, so what is not understood is `Transient`."""
    told = "template: " + excerpt(reply)
    if reply.status != HTTPStatus.OK:
        return by_status_without_file(reply, told) or Transient(told)
    if reply.truncated or len(reply.body) > TEMPLATE_BYTES_MAX:
        return Transient(f"{told}, too large or not whole")
    for encoding, text in _decoded(reply.body):
        if headers := _headers(text, kind):
            return Template(headers, encoding)
    return Transient(f"{told}, no CSV file with the columns' names")


def _decoded(body: bytes) -> Iterator[tuple[str, str]]:
    """Decode a file in each encoding that it may be in, the likeliest first.

    Text in Shift_JIS is hardly ever valid UTF-8, but a few half-width kana are. What they then read has no Shift_JIS
    form, which the vendor's own names must have, as it takes files in Shift_JIS.
    """
    found: list[tuple[str, str]] = []
    if body.isascii():
        found = [("ASCII", body.decode("ascii"))]
    else:
        for name, decoding in (("UTF-8", _utf_8), ("Shift_JIS", decode)):
            try:
                found.append((name, decoding(body)))
            except UnicodeDecodeError:
                continue
    yield from sorted(found, key=lambda each: bool(unencodable(each[1])))


def _utf_8(body: bytes) -> str:
    return body.removeprefix(codecs.BOM_UTF8).decode("utf-8")


def _headers(text: str, kind: TemplateKind) -> tuple[str, ...] | None:
    """Read the names in the first record; None where the text is something else."""
    if _NOT_CSV.match(text) or _FAILURE.match(text) or _CONTROL.search(text) or _is_json(text):
        return None
    try:
        cells = next(csv.reader(io.StringIO(text.lstrip("\r\n"), newline=""), strict=True), [])
    except csv.Error:
        return None
    while cells and not cells[-1].strip():  # a comma at the end of the line
        cells.pop()
    named = all(cell.strip() and len(cell) <= HEADER_CHARS_MAX and not _NO_NAME.search(cell) for cell in cells)
    # A file to register has the state and the address at least (seen), so that a word alone is a message.
    enough = len(cells) >= (2 if kind == "register" else 1)
    return tuple(cells) if named and enough and len(cells) <= HEADERS_MAX else None


def _is_json(text: str) -> bool:
    """Tell whether it is a list or an object; a name in quotes is JSON as well, and a template of one column."""
    try:
        return isinstance(json.loads(text), list | dict)
    except (ValueError, RecursionError):
        return False
