"""How a request is refused: every way in which a webhook is not taken, with its status and what it says."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import web

from relay.errors import FieldError, Invalid, RelayError
from relay.metrics import Metrics
from relay.problem import CHALLENGE, problem
from relay.receive.parse import Malformed, TooMany
from relay.receive.tally import KNOWN_OTHERWISE


class Unauthorized(RelayError):
    """No such source, or no valid proof for it."""


class Forbidden(RelayError):
    """The source may not do this; `problem` names the field and what it may."""

    def __init__(self, problem: FieldError) -> None:
        self.problem = problem
        super().__init__(str(problem))


class Unsupported(RelayError):
    """The body is of a kind that is not read here; the text says what is."""


class TooLarge(RelayError):
    """The body is larger than the limit."""


class TooSlow(RelayError):
    """The body did not arrive in time."""


class Reused(RelayError):
    """The webhook's id is known with another content."""


class TooOften(RelayError):
    """The source sends more than it may; `retry_after_s` is when there is room again."""

    def __init__(self, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s
        super().__init__()


@dataclass(frozen=True, slots=True)
class Refusal:
    """How a request is refused: status, result (a label of `relay_webhooks_total`), and what it says."""

    status: int
    result: str
    detail: str


REFUSALS: Mapping[type[RelayError], Refusal] = {
    Malformed: Refusal(400, "invalid", "The body is not JSON."),
    Unauthorized: Refusal(401, "unauthorized", "There is no such source, or neither signature nor token fits it."),
    Forbidden: Refusal(403, "forbidden", "The source may not do this."),
    TooSlow: Refusal(408, "invalid", "The body did not arrive in time."),
    Reused: Refusal(409, "conflict", "A webhook with this id is known, and says something else."),
    TooLarge: Refusal(413, "too_large", "The body is too large."),
    TooMany: Refusal(413, "too_large", "The body holds too many webhooks."),
    Unsupported: Refusal(415, "invalid", "The body is of a kind that is not read here."),
    Invalid: Refusal(422, "invalid", "The webhook cannot be taken."),
    TooOften: Refusal(429, "limited", "The source sends more webhooks than it may."),
}


def refuse(error: RelayError) -> web.Response:
    """Answer with the refusal of an error: one of `REFUSALS`, or of a kind of one."""
    refusal = refusal_of(error)
    headers = {}
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = CHALLENGE
    if isinstance(error, TooOften):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    return problem(refusal.status, refusal.detail, fields(error), headers=headers)


def refusal_of(error: RelayError) -> Refusal:
    """Find the refusal of an error."""
    return next(REFUSALS[kind] for kind in type(error).__mro__ if kind in REFUSALS)


def fields(error: RelayError) -> tuple[FieldError, ...]:
    """Name the fields that an error is about."""
    if isinstance(error, Invalid):
        return error.problems
    if isinstance(error, Forbidden):
        return (error.problem,)
    if isinstance(error, Reused):
        return (KNOWN_OTHERWISE,)
    return (FieldError("body", str(error)),) if str(error) else ()


def note_limit(metrics: Metrics, limit: str) -> None:
    """Count a request that met a limit."""
    metrics.limits_met.labels(limit).inc()
