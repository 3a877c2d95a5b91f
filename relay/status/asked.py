"""What callers of the status API ask with: the models of queries and bodies, and reading them.

A GET asks in its query, everything else in a JSON body. What is not asked for is refused, not passed over: whoever
sends `{"lines": [3]}` to an endpoint that retries the whole batch means something that relay does not do.
"""

import asyncio
import re
from typing import Annotated, TypeVar

from aiohttp import web
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
)

from relay import csvline
from relay.batches import BatchState
from relay.errors import FieldError, Invalid
from relay.events import Operation
from relay.settings import Name
from relay.store import ActName

PAGE_MAX = 500
"""Entries of one page: a few hundred kB at most."""

DETAIL_CHARACTERS_MAX = 200
"""Why an operator pauses a lane fits into one line of a table."""

WHO_CHARACTERS_MAX = 100
"""Who acts has a name that fits into a column of a table."""

HOURS_MAX = 48
"""Yesterday beside today. What is older is a matter for Prometheus."""

BODY_BYTES_MAX = 10_000
"""Many times the longest body that is asked for here."""

BODY_TIMEOUT_S = 10.0
"""A body of a few hundred bytes that takes longer is none that somebody waits for."""

ENDED_EARLY = "The body ended early."
TOO_SLOW = "The body did not arrive in time."
UNSUPPORTED = "Expected Content-Type application/json and no Content-Encoding."

ONE_LINE = re.compile(r"^[^\x00-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff]*$")
"""What has no line end in any script and hides nothing: no invisible characters, none that turn the direction."""

_WORD = re.compile("[a-z][a-z_]{0,39}")
"""A key like those that are asked for, and so most likely one that is misspelt."""

_NUMERAL = re.compile("[0-9]{1,19}")


def _numeral(given: object) -> object:
    """Take digits alone: Python and pydantic would read ` 1_0` as 10."""
    if isinstance(given, str) and not _NUMERAL.fullmatch(given):
        raise ValueError("expected a whole number")
    return given


def _yes_or_no(given: object) -> object:
    """Take the words that JSON has for it: pydantic would read `y` and `0` as well."""
    if isinstance(given, str) and given not in ("true", "false"):
        raise ValueError("expected true or false")
    return given


YesOrNo = Annotated[bool, BeforeValidator(_yes_or_no)]
Id = Annotated[int, Field(ge=0, lt=2**63), BeforeValidator(_numeral)]
Limit = Annotated[int, Field(ge=1, le=PAGE_MAX), BeforeValidator(_numeral)]


class Asked(BaseModel):
    """Frozen, and an unknown key is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, use_attribute_docstrings=True)


class Nothing(Asked):
    """Nothing is asked for: neither a query nor a body, unless it is `{}`."""


class BatchesQuery(Asked):
    """Which batches to list; `after` is a page's `next`."""

    account: Name | None = None
    """Batches of this account alone."""

    state: BatchState | None = None
    """Batches in this state alone."""

    operation: Operation | None = None
    """Batches of this operation alone."""

    limit: Limit = 100
    """How many to tell at most."""

    after: Id | None = None
    """Go on behind this batch: the `next` of the page before."""


class RejectionsQuery(Asked):
    """Which refused lines to list; `after` is a page's `next`."""

    limit: Limit = 100
    """How many to tell at most."""

    after: Id = 0
    """Go on behind this line: the `next` of the page before."""

    messages: YesOrNo = True
    """Whether to tell the vendor's messages; only with the scope `pii`."""


class WebhookQuery(Asked):
    """Whether to tell what vendors say about its lines."""

    messages: YesOrNo = True
    """Whether to tell the vendors' messages; only with the scope `pii`."""


class ActsQuery(Asked):
    """Which acts to list; `after` is a page's `next`."""

    login: Name | None = None
    """What was done at this login alone."""

    account: Name | None = None
    """What was done to this account's batches and records alone."""

    batch: Id | None = None
    """What was done to this batch alone."""

    who: Annotated[str, StringConstraints(max_length=WHO_CHARACTERS_MAX, pattern=ONE_LINE.pattern)] | None = None
    """What this token or user did alone."""

    act: ActName | None = None
    """Acts of this kind alone."""

    limit: Limit = 100
    """How many to tell at most."""

    after: Id | None = None
    """Go on behind this act: the `next` of the page before."""


class HistoryQuery(Asked):
    """Of which account, and how far back."""

    account: Name | None = None
    """What happened at this account alone."""

    hours: Annotated[int, Field(ge=1, le=HOURS_MAX), BeforeValidator(_numeral)] = 6
    """How many hours back."""


def _whole(given: object) -> object:
    """Take 98.0 as 98: to JSON they are the same."""
    return int(given) if isinstance(given, float) and given.is_integer() else given


Count = Annotated[int, Field(ge=0, le=10**9), BeforeValidator(_whole)]


class UnresolvedQuery(Asked):
    """Which opt-outs without an address to list; `after` is a page's `next`."""

    source: Name | None = None
    """Those of this source alone."""

    limit: Limit = 100
    """How many to tell at most."""

    after: Id = 0
    """Go on behind this one: the `next` of the page before."""


class Report(Asked):
    """What the vendor's report mail counts."""

    success: Count
    """Lines that the vendor has imported."""

    failure: Count
    """Lines that the vendor has refused."""


class Pause(Asked):
    """Why an operator pauses a login, for other operators to read."""

    reason: Annotated[
        str,
        StringConstraints(max_length=DETAIL_CHARACTERS_MAX, strip_whitespace=True),
        Field(json_schema_extra={"pattern": ONE_LINE.pattern}),
    ] = ""
    """One line of text: no control characters and none that are not seen."""

    @field_validator("reason", mode="before")  # before a line end is stripped off like white space
    @classmethod
    def _one_line(cls, reason: object) -> object:
        if isinstance(reason, str) and not ONE_LINE.fullmatch(reason):
            raise ValueError("expected one line of text")
        return reason


class CustomerSearch(Asked):
    """Whom to look for. In a body, so that no address enters a URL or a log."""

    email: str = Field(repr=False, json_schema_extra={"format": "email", "maxLength": csvline.ADDRESS_CHARS_MAX})
    """The customer's address; upper and lower case are the same."""

    @field_validator("email")
    @classmethod
    def _address(cls, email: str) -> str:
        try:
            return csvline.address(email)
        except ValueError as error:
            raise ValueError(f"expected {error}") from None


_Asked = TypeVar("_Asked", bound=Asked)


async def asked(request: web.Request, model: type[_Asked]) -> _Asked:
    """Read what is asked: the query of a GET, the body of everything else. Raises Invalid or an HTTP error."""
    if request.method == "GET":
        return query(request, model)
    query(request, Nothing)
    return await body(request, model)


def query(request: web.Request, model: type[_Asked]) -> _Asked:
    """Read the query string. Raises Invalid."""
    twice = [name for name in model.model_fields if len(request.query.getall(name, ())) > 1]
    if twice:
        raise Invalid(*(FieldError(name, "is given more than once") for name in twice))
    try:
        return model.model_validate(dict(request.query))
    except ValidationError as error:
        problems = _problems(error, model, "query")
    raise Invalid(*problems)


async def body(request: web.Request, model: type[_Asked]) -> _Asked:
    """Read a JSON body; none at all is `{}`. Raises Invalid or an HTTP error."""
    raw = await _read(request)
    if raw and (request.content_type != "application/json" or "Content-Encoding" in request.headers):
        raise web.HTTPUnsupportedMediaType(reason=UNSUPPORTED)
    try:
        return model.model_validate_json(raw or b"{}", strict=True)
    except ValidationError as error:
        problems = _problems(error, model, "body")
    # Outside of `except`: pydantic's error, which quotes what was given, must not be chained to ours.
    raise Invalid(*problems)


async def _read(request: web.Request) -> bytes:
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            return await request.clone(client_max_size=BODY_BYTES_MAX).read()
    except TimeoutError:
        raise web.HTTPRequestTimeout(reason=TOO_SLOW) from None
    except (OSError, web.RequestPayloadError):
        raise web.HTTPBadRequest(reason=ENDED_EARLY) from None


def _problems(error: ValidationError, model: type[Asked], whole: str) -> list[FieldError]:
    found = []
    for detail in error.errors(include_url=False, include_input=False, include_context=False):
        place, message = ".".join(map(str, detail["loc"])), detail["msg"].removeprefix("Value error, ")
        if detail["type"] == "extra_forbidden":  # its place is what the caller sent: it might be an address
            place = place if _WORD.fullmatch(place) else ""
            message = f"is not asked for here; expected {_expected(model)}"
        found.append(FieldError(place or whole, message))
    return list(dict.fromkeys(found))


def _expected(model: type[Asked]) -> str:
    return " or ".join(f"`{name}`" for name in model.model_fields) or "nothing"
