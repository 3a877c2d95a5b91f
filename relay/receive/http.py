"""The door for webhooks: `POST /v1/webhooks/{source}` and `POST /v1/webhooks/{source}/batch`.

A request goes through: does it bring any proof, is it JSON, is it small enough; read it; does the proof hold; parse,
map, append. Whatever stops it is told as a problem, by `REFUSALS`. A source that does not exist is answered as one
whose proof does not hold, after the same work.

A request for many answers 202 once any of its webhooks is in the log (now or since earlier) and lists those it refuses
by index, counted from 0; if it refuses all, 422 with the same list. All that it takes are appended together.
"""

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from aiohttp import StreamReader, web
from prometheus_client import Counter

from relay.errors import FieldError, Invalid, RelayError, Unavailable
from relay.events import TYPES, Keys, Operation
from relay.log import logger
from relay.metrics import WEBHOOK_RESULTS, Metrics
from relay.problem import problem, unavailable
from relay.receive.appender import Appender
from relay.receive.auth import ID_HEADER, Door, carries_proof
from relay.receive.mapping import Mapped, Mapper, Stamps
from relay.receive.parse import Malformed, TooMany, Webhook, parse, parse_array, parse_lines
from relay.receive.tally import KNOWN_OTHERWISE, NOT_STORABLE, Tally, recalled, result
from relay.settings import Settings
from relay.store.append import Appended

BODY_BYTES_MAX = 1_000_000
"""Some thousand times what a customer's record takes."""

MANY_BYTES_MAX = 10_000_000
"""A full request of large records; a few such at once still fit into a small container."""

BODY_TIMEOUT_S = 30.0
"""A sender slower than this would hold a connection for nothing; 10 MB in this time is 3 Mbit/s."""

MAPPED_AT_ONCE_MAX = 50
"""After so many webhooks of one request (some 2 ms) other requests get their turn."""

JSON_LINES = frozenset({"application/x-ndjson", "application/ndjson"})

log = logger(__name__)


class Unauthorized(RelayError):
    """No such source, or no valid proof for it."""


class Unsupported(RelayError):
    """The body is of a kind that is not read here; the text says what is."""


class TooLarge(RelayError):
    """The body is larger than the limit."""


class TooSlow(RelayError):
    """The body did not arrive in time."""


class Reused(RelayError):
    """The webhook's id is known with another content."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """How a request is refused: status, result (a label of `relay_webhooks_total`), and what it says."""

    status: int
    result: str
    detail: str


REFUSALS: Mapping[type[RelayError], Refusal] = {
    Malformed: Refusal(400, "invalid", "The body is not JSON."),
    Unauthorized: Refusal(401, "unauthorized", "There is no such source, or neither signature nor token fits it."),
    TooSlow: Refusal(408, "invalid", "The body did not arrive in time."),
    Reused: Refusal(409, "conflict", "A webhook with this id is known, and says something else."),
    TooLarge: Refusal(413, "too_large", "The body is too large."),
    TooMany: Refusal(413, "too_large", "The body holds too many webhooks."),
    Unsupported: Refusal(415, "invalid", "The body is of a kind that is not read here."),
    Invalid: Refusal(422, "invalid", "The webhook cannot be taken."),
}


@dataclass(frozen=True, slots=True)
class Entrance:
    """A source as requests meet it."""

    name: str
    door: Door
    mapper: Mapper
    results: Mapping[str, Counter]


Taker = Callable[[Entrance, web.Request, bytes, datetime], Awaitable[web.Response]]


def _now() -> datetime:
    return datetime.now(UTC)


class Receiver:
    """Receives webhooks. `layouts` holds the layout id of every account and operation that is served."""

    def __init__(
        self,
        settings: Settings,
        keys: Keys,
        layouts: Mapping[tuple[str, Operation], int],
        appender: Appender,
        metrics: Metrics,
        clock: Callable[[], datetime] = _now,
        *,
        body_bytes_max: int = BODY_BYTES_MAX,
        many_bytes_max: int = MANY_BYTES_MAX,
    ) -> None:
        self._entrances = {
            name: Entrance(
                name,
                Door.of(source),
                Mapper.of(settings, name, layouts, keys),
                {label: metrics.webhooks.labels(name, label) for label in WEBHOOK_RESULTS},
            )
            for name, source in settings.sources.items()
        }
        self._nowhere = Door((secrets.token_bytes(),), (secrets.token_bytes(),))
        self._appender = appender
        self._metrics = metrics
        self._clock = clock
        self._stamps = Stamps()
        self._body_bytes_max = body_bytes_max
        self._many_bytes_max = many_bytes_max

    async def one(self, request: web.Request) -> web.Response:
        """`POST /v1/webhooks/{source}`: one webhook."""
        return await self._answer(request, frozenset(), self._body_bytes_max, self._take_one)

    async def many(self, request: web.Request) -> web.Response:
        """`POST /v1/webhooks/{source}/batch`: a JSON array or NDJSON of webhooks, each with its own `id`."""
        return await self._answer(request, JSON_LINES, self._many_bytes_max, self._take_many)

    async def _answer(
        self, request: web.Request, more_types: frozenset[str], bytes_max: int, take: Taker
    ) -> web.Response:
        entrance = self._entrances.get(request.match_info["source"])
        try:
            _check_kind(request, more_types)
            body = await _read(request, bytes_max)
            now = self._clock()
            return await take(self._admit(entrance, request, body, now), request, body, now)
        except Unavailable:
            _count(entrance, "unavailable")
            return unavailable()
        except tuple(REFUSALS) as error:
            return _refuse(entrance, error)
        except Exception:
            _count(entrance, "error")
            raise

    def _admit(self, entrance: Entrance | None, request: web.Request, body: bytes, now: datetime) -> Entrance:
        door = self._nowhere if entrance is None else entrance.door
        if not door.opens(request.headers, body, now) or entrance is None:
            raise Unauthorized
        return entrance

    async def _take_one(self, entrance: Entrance, request: web.Request, body: bytes, now: datetime) -> web.Response:
        webhook = parse(body, request.headers.get(ID_HEADER))
        try:
            mapped = entrance.mapper.events(webhook, self._stamps.next(now))
        except Invalid as error:
            return await self._recall(entrance, webhook, error)
        appended = await self._appender.append(mapped.events)
        became = result(appended)
        if became in ("conflict", "invalid"):
            self._note_opt_out(entrance, webhook)
            raise Reused if became == "conflict" else Invalid(NOT_STORABLE)
        _count(entrance, became)
        if became == "accepted":
            self._count_replaced(mapped.replaced)
        return _taken(_members(webhook.message_id, became, mapped, appended))

    async def _recall(self, entrance: Entrance, webhook: Webhook, error: Invalid) -> web.Response:
        """Answer a webhook that cannot be mapped: a duplicate if it was taken before. Raises Reused, or the error."""
        known = (await self._appender.known(entrance.name, [webhook.message_id])).get(webhook.message_id, ())
        became = recalled(known, entrance.mapper.digest(webhook))
        if became != "duplicate":
            self._note_opt_out(entrance, webhook)
            raise Reused if became == "conflict" else error
        _count(entrance, became)
        events = [{"account": one.account, "event_id": one.event_id} for one in known]
        return _taken({"webhook_id": webhook.message_id, "duplicate": True, "events": events, "warnings": []})

    def _note_opt_out(self, entrance: Entrance, webhook: Webhook) -> None:
        """Tell of an opt-out that is refused: somebody has to mend it, or a customer is mailed who must not be."""
        if TYPES[webhook.type].opt_out:
            self._metrics.opt_outs_refused.labels(entrance.name).inc()
            log.error("opt_out_refused", source=entrance.name, type=webhook.type)

    async def _take_many(self, entrance: Entrance, request: web.Request, body: bytes, now: datetime) -> web.Response:
        entries = parse_lines(body) if request.content_type in JSON_LINES else parse_array(body)
        tally = Tally()
        for index, entry in enumerate(entries):
            tally.add(index, entry, entrance.mapper, self._stamps.next(now))
            if index % MAPPED_AT_ONCE_MAX == MAPPED_AT_ONCE_MAX - 1:
                await asyncio.sleep(0)
        if tally.unmapped:
            ids = [webhook.message_id for webhook, _ in tally.unmapped.values()]
            tally.recall(await self._appender.known(entrance.name, ids), entrance.mapper)
        tally.settle(await self._appender.append(tally.events))
        for became, count in tally.results.items():
            _count(entrance, became, count)
        self._count_replaced(tally.replaced)
        if tally.opt_outs_refused:
            self._metrics.opt_outs_refused.labels(entrance.name).inc(tally.opt_outs_refused)
            log.error("opt_out_refused", source=entrance.name, count=tally.opt_outs_refused)
        if tally.fields:
            log.warning("webhooks_refused", source=entrance.name, fields=sorted(tally.fields), **tally.results)
        if tally.nothing_taken:
            return problem(422, "None of the webhooks can be taken.", members=tally.members())
        return _taken(tally.members())

    def _count_replaced(self, replaced: Mapping[str, int]) -> None:
        for account, characters in replaced.items():
            if characters:
                self._metrics.replaced_characters.labels(account).inc(characters)


def routes(receiver: Receiver) -> list[web.RouteDef]:
    """Say what is served where."""
    return [
        web.post("/v1/webhooks/{source}", receiver.one),
        web.post("/v1/webhooks/{source}/batch", receiver.many),
    ]


def _check_kind(request: web.Request, more_types: frozenset[str]) -> None:
    """Refuse by the headers what need not be read."""
    if not carries_proof(request.headers):
        raise Unauthorized
    kind = request.content_type
    if kind != "application/json" and not kind.endswith("+json") and kind not in more_types:
        raise Unsupported(f"expected Content-Type {' or '.join(['application/json', *sorted(more_types)])}")
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise Unsupported("expected no Content-Encoding: signatures cover the bytes as sent")


async def _read(request: web.Request, bytes_max: int) -> bytes:
    """Read the body, at most `bytes_max` of it."""
    if (request.content_length or 0) > bytes_max:
        raise TooLarge
    content = request.content
    if content.is_eof():  # a small body comes in one piece with the headers
        body = content.read_nowait()
        if len(body) > bytes_max:
            raise TooLarge
        return body
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            return await _read_on(content, bytes_max)
    except TimeoutError:
        raise TooSlow from None
    except (OSError, web.RequestPayloadError):
        raise Malformed("the body ended early") from None


async def _read_on(content: StreamReader, bytes_max: int) -> bytes:
    body = bytearray()
    async for chunk in content.iter_any():
        body += chunk
        if len(body) > bytes_max:
            raise TooLarge
    return bytes(body)


def _members(message_id: str, became: str, mapped: Mapped, appended: Sequence[Appended]) -> dict[str, object]:
    return {
        "webhook_id": message_id,
        "duplicate": became == "duplicate",
        "events": [
            {"account": event.account, "event_id": one.event_id}
            for event, one in zip(mapped.events, appended, strict=True)
            if one.status != "foreign"
        ],
        "warnings": [remark.members() for remark in mapped.remarks],
    }


def _taken(members: Mapping[str, object]) -> web.Response:
    return web.Response(status=202, body=json.dumps(members).encode("ascii"), content_type="application/json")


def _refuse(entrance: Entrance | None, error: RelayError) -> web.Response:
    refusal = REFUSALS[type(error)]
    if isinstance(error, Invalid):
        problems = error.problems
    elif isinstance(error, Reused):
        problems = (KNOWN_OTHERWISE,)
    elif str(error):
        problems = (FieldError("body", str(error)),)
    else:
        problems = ()
    _count(entrance, refusal.result)
    log.warning(
        "webhook_refused",
        source=None if entrance is None else entrance.name,
        result=refusal.result,
        status=refusal.status,
        fields=[problem.field for problem in problems],
    )
    headers = {"WWW-Authenticate": "Bearer"} if isinstance(error, Unauthorized) else None
    return problem(refusal.status, refusal.detail, problems, headers=headers)


def _count(entrance: Entrance | None, became: str, count: int = 1) -> None:
    """Count webhooks by result; a source that does not exist must not make a series."""
    if entrance is not None:
        entrance.results[became].inc(count)
