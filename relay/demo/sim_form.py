"""multipart/form-data as the vendors' servers take it: text parts first, then one file, nothing after it. Pure.

The head (all up to the file's first byte) is read as soon as it is there, so that a server knows whose upload it is
while the file is still on its way. The body is kept in one buffer, which a server bounds.
"""

import re
from dataclasses import dataclass
from email.message import Message

HEAD_BYTES_MAX = 65_536
"""Text parts and part headers larger than this are no form of a client's."""

_DISPOSITION = re.compile(rb"(?im)^content-disposition:[ \t]*form-data[ \t]*(;.*)$")
_PARAMETER = re.compile(rb';[ \t]*([A-Za-z*]+)="([^"\r\n]*)"')


class BadForm(Exception):
    """A body that is no form as the vendors take it; the message says what was expected."""


@dataclass(frozen=True, slots=True)
class Head:
    """What stands before the file: the text parts in order, the file part's name, and where its content begins."""

    fields: tuple[tuple[str, str], ...]
    file_field: str | None
    start: int

    def get(self, name: str) -> str | None:
        """Return the text part of this name, or None."""
        return next((value for key, value in self.fields if key == name), None)


def boundary(content_type: str) -> bytes:
    """Return the boundary that a Content-Type header names. Raises BadForm."""
    message = Message()
    message["Content-Type"] = content_type
    found = message.get_param("boundary")
    if message.get_content_type() != "multipart/form-data" or not isinstance(found, str) or not found:
        raise BadForm("expected multipart/form-data with a boundary")
    return found.encode("ascii", "replace")


class Form:
    """A body as it arrives."""

    def __init__(self, content_type: str) -> None:
        self._dash = b"--" + boundary(content_type)
        self.body = bytearray()
        self.head: Head | None = None

    def feed(self, data: bytes) -> None:
        """Take the next bytes; sets `head` once all before the file is there. Raises BadForm."""
        self.body += data
        if self.head is None:
            self.head = self._read_head()
            if self.head is None and len(self.body) > HEAD_BYTES_MAX:
                raise BadForm("expected the text parts, then the file")

    def file(self) -> bytearray:
        """Return the file once the whole body is there; the form is spent then. Raises BadForm."""
        head, self.head = self.head, None
        if head is None or head.file_field is None:
            raise BadForm("expected a file part")
        end = self.body.find(b"\r\n" + self._dash, head.start)
        if end < 0:
            raise BadForm("expected a closing boundary")
        tail = bytes(self.body[end + 2 + len(self._dash) :])
        if tail not in (b"--\r\n", b"--"):
            raise BadForm("expected the file to be the last part, and nothing after it")
        file, self.body = self.body, bytearray()
        del file[end:]
        del file[: head.start]
        return file

    def _read_head(self) -> Head | None:
        fields: list[tuple[str, str]] = []
        opening, body = self._dash + b"\r\n", self.body
        if len(body) >= len(opening) and not body.startswith(opening):
            raise BadForm("expected the body to begin with the boundary")
        position = len(opening)
        while (headers_end := body.find(b"\r\n\r\n", position)) >= 0:
            name, is_file = _part(bytes(body[position:headers_end]))
            if is_file:
                return Head(tuple(fields), name, headers_end + 4)
            value_end = body.find(b"\r\n" + self._dash, headers_end + 4)
            position = value_end + 2 + len(self._dash) + 2
            if value_end < 0 or len(body) < position:
                return None
            fields.append((name, _text(bytes(body[headers_end + 4 : value_end]))))
            if body[position - 2 : position] != b"\r\n":
                return Head(tuple(fields), None, position)
        return None


def _part(headers: bytes) -> tuple[str, bool]:
    """Return a part's name and whether it is a file."""
    found = _DISPOSITION.search(headers)
    parameters = {key.lower(): value for key, value in _PARAMETER.findall(found[1])} if found else {}
    if b"name" not in parameters:
        raise BadForm("expected every part to have a name")
    if re.search(rb"(?im)^content-transfer-encoding:[ \t]*(base64|quoted-printable)", headers):
        raise BadForm("expected parts without a transfer encoding")
    return _text(parameters[b"name"]), b"filename" in parameters or b"filename*" in parameters


def _text(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise BadForm("expected text parts in UTF-8") from None
