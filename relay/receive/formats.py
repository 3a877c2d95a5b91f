"""From a request's headers and body to webhooks, in whatever form their source sends them. Pure.

A source with a `plain` table sends its own form and no other. Every other one may send relay's own form or CloudEvents
at any time, which tell themselves apart by what they say they are.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from multidict import CIMultiDict

from relay.errors import FieldError, Invalid
from relay.receive.asked import OwnForm
from relay.receive.auth import ID_HEADER, Proof
from relay.receive.cloudevents import BinaryForm, StructuredForm, is_binary, is_structured
from relay.receive.limits import Limits
from relay.receive.parse import (
    InvalidWebhook,
    Malformed,
    Refused,
    TooMany,
    Types,
    Webhook,
    asks_opt_out,
    bound_values,
    bounded_json,
    check,
    may_exceed,
)
from relay.receive.plain import PlainForm
from relay.receive.reading import JSON_LINES
from relay.settings import Source

_NO_HEADERS: Mapping[str, str] = {}


class Form(Protocol):
    """One form of a webhook."""

    def read(self, value: object, headers: Mapping[str, str]) -> Webhook:
        """Read a webhook from a body's JSON. Raises Invalid with all that is wrong."""

    def told(self, value: object, headers: Mapping[str, str]) -> tuple[str | None, str | None]:
        """Tell the id and the type (one of relay's) of what cannot be read, as far as they are there and sound."""


class Entries:
    """The entries of a request that carries many: how many there are is known, each is read when its turn comes."""

    __slots__ = ("_count", "_read")

    def __init__(self, count: int, read: Iterator[Webhook | Refused]) -> None:
        self._count = count
        self._read = read

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Webhook | Refused]:
        return self._read


class Format:
    """How a source writes its webhooks. `headers` are to know no case, `kind` is the media type in lower case."""

    __slots__ = ("_binary", "_limits", "_own", "_plain", "_structured")

    def __init__(self, source: Source, limits: Limits) -> None:
        types = Types(source.types)
        self._limits = limits
        self._own = OwnForm(types)
        self._structured = StructuredForm(types, limits)
        self._binary = BinaryForm(types)
        self._plain = None if source.plain is None else PlainForm(source.plain, types)

    def signatures_cover(self, headers: Mapping[str, str], kind: str) -> bool:
        """Say whether a signature covers what is read: not where an event's type and id are headers."""
        return self._plain is not None or not is_binary(headers, kind)

    def trusted(self, headers: Mapping[str, str], proof: Proof) -> Mapping[str, str]:
        """Leave out the id in a header where only the body is proven: a recorded one must not be sent under another.

        A plain source says itself in which headers it believes.
        """
        if proof is not Proof.BODY or self._plain is not None:
            return headers
        trusted = CIMultiDict(headers)
        trusted.popall(ID_HEADER, None)
        return trusted

    def one(self, headers: Mapping[str, str], kind: str, body: bytes) -> Webhook:
        """Read one webhook. Raises Malformed or InvalidWebhook, which tell the type where it can be told."""
        value = bounded_json(body, self._limits)
        form: Form = self._plain or (self._binary if is_binary(headers, kind) else self._form(kind, value))
        try:
            if may_exceed(body, self._limits):
                check(value, self._limits)
            return form.read(value, headers)
        except Malformed as error:
            raise Malformed(str(error), limit=error.limit, type=form.told(value, headers)[1]) from None
        except Invalid as error:
            raise InvalidWebhook(*error.problems, type=form.told(value, headers)[1]) from None

    def many(self, headers: Mapping[str, str], kind: str, body: bytes) -> "Entries":
        """Read many webhooks, each with an id in it: a JSON array, or NDJSON, of which blank lines are passed over.

        Raises Malformed, TooMany or Invalid for the body as a whole before anything is yielded. An entry or a line that
        cannot be read is refused alone: its neighbours are none the worse for it.
        """
        if self._plain is not None:
            self._plain.check_many()
        seen = headers if self._plain is not None else _NO_HEADERS
        if kind in JSON_LINES:
            bound_values(max(body.count(b"\n"), body.count(b",")), self._limits)
            lines = [line for line in body.split(b"\n") if line.strip()]
            self._count(lines)
            return Entries(len(lines), (self._line(line, kind, seen) for line in lines))
        entries = bounded_json(body, self._limits)
        if not isinstance(entries, list):
            raise Invalid(FieldError("body", "expected a JSON array, or NDJSON as application/x-ndjson"))
        self._count(entries)
        unsafe = may_exceed(body, self._limits)
        return Entries(len(entries), (self._entry(entry, kind, seen, unsafe=unsafe) for entry in entries))

    def _form(self, kind: str, value: object) -> Form:
        """Choose between an event and relay's own form: by what the body says of itself, too, which is signed."""
        if is_structured(kind) or (isinstance(value, dict) and "specversion" in value):
            return self._structured
        return self._own

    def _count(self, entries: Sequence[object]) -> None:
        if not entries:
            raise Invalid(FieldError("body", "expected at least one webhook"))
        if len(entries) > self._limits.webhooks_max:
            raise TooMany(f"expected at most {self._limits.webhooks_max} webhooks in one request")

    def _line(self, line: bytes, kind: str, headers: Mapping[str, str]) -> Webhook | Refused:
        try:
            value = bounded_json(line, self._limits)
        except Malformed as error:
            return Refused(None, (FieldError("body", str(error)),), limit=error.limit)
        return self._entry(value, kind, headers, unsafe=may_exceed(line, self._limits))

    def _entry(self, entry: object, kind: str, headers: Mapping[str, str], *, unsafe: bool) -> Webhook | Refused:
        form: Form = self._plain or self._form(kind, entry)
        try:
            if unsafe:
                check(entry, self._limits)
            return form.read(entry, headers)
        except Malformed as error:
            return _refused(form.told(entry, headers), [FieldError("body", str(error))], error.limit)
        except Invalid as error:
            return _refused(form.told(entry, headers), error.problems)


def _refused(told: tuple[str | None, str | None], problems: Iterable[FieldError], limit: str | None = None) -> Refused:
    message_id, kind = told
    return Refused(message_id, tuple(problems), opt_out=asks_opt_out(kind), limit=limit)
