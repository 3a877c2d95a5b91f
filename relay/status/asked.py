"""What callers of the status API ask with: the models of queries and bodies, and reading them."""

from typing import Annotated, TypeVar

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator

from relay import csvline
from relay.batches import BatchState
from relay.errors import FieldError, Invalid
from relay.events import Operation
from relay.settings import Name

PAGE_MAX = 500
"""Entries of one page: a few hundred kB at most."""

DETAIL_CHARACTERS_MAX = 200
"""Why an operator pauses a lane fits into one line of a table."""

Id = Annotated[int, Field(ge=0, lt=2**63)]
Limit = Annotated[int, Field(ge=1, le=PAGE_MAX)]


class Asked(BaseModel):
    """Frozen, and an unknown key is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class BatchesQuery(Asked):
    """Which batches to list; `after` is a page's `next`."""

    account: Name | None = None
    state: BatchState | None = None
    operation: Operation | None = None
    limit: Limit = 100
    after: Id | None = None


class RejectionsQuery(Asked):
    """Which refused lines to list; `after` is a page's `next`."""

    limit: Limit = 100
    after: Id = 0


class Report(Asked):
    """What the vendor's report mail counts."""

    success: Annotated[int, Field(ge=0, le=10**9)]
    failure: Annotated[int, Field(ge=0, le=10**9)]


class Pause(Asked):
    """Why an operator pauses a login, for other operators to read."""

    reason: Annotated[str, StringConstraints(max_length=DETAIL_CHARACTERS_MAX, strip_whitespace=True)] = ""

    @field_validator("reason")
    @classmethod
    def _one_line(cls, reason: str) -> str:
        if not reason.isprintable():
            raise ValueError("expected one line of text")
        return reason


class CustomerSearch(Asked):
    """Whom to look for. In a body, so that no address enters a URL or a log."""

    email: str = Field(repr=False)

    @field_validator("email")
    @classmethod
    def _address(cls, email: str) -> str:
        try:
            return csvline.address(email)
        except ValueError as error:
            raise ValueError(f"expected {error}") from None


_Asked = TypeVar("_Asked", bound=Asked)


def query(request: web.Request, model: type[_Asked]) -> _Asked:
    """Read the query string. Raises Invalid."""
    try:
        return model.model_validate(dict(request.query))
    except ValidationError as error:
        problems = _problems(error, "query")
    raise Invalid(*problems)


async def body(request: web.Request, model: type[_Asked]) -> _Asked:
    """Read a JSON body; none at all is `{}`. Raises Invalid."""
    raw = await request.read()
    try:
        return model.model_validate_json(raw or b"{}", strict=True)
    except ValidationError as error:
        problems = _problems(error, "body")
    # Outside of `except`: pydantic's error, which quotes what was given, must not be chained to ours.
    raise Invalid(*problems)


def _problems(error: ValidationError, whole: str) -> list[FieldError]:
    return [
        FieldError(".".join(map(str, detail["loc"])) or whole, detail["msg"].removeprefix("Value error, "))
        for detail in error.errors(include_url=False, include_input=False, include_context=False)
    ]
