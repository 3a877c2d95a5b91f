"""The door for webhooks: `POST /v1/webhooks/{source}` and `POST /v1/webhooks/{source}/batch`.

A request goes through: does it bring any proof, is it of a kind that is read here, is it small and quick enough; does
the proof hold; parse, map, append. Whatever stops it is told as a problem, by `REFUSALS`. A source that does not exist
is answered as one whose proof does not hold, after the same work.

A request for many answers 202 once any of its webhooks is in the log (now or since earlier) and lists those it refuses
by index, counted from 0; if it refuses all, 422 with the same list. All that it takes are appended together.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from time import perf_counter

from aiohttp import web

from relay.errors import RelayError, Unavailable
from relay.events import Keys, Operation
from relay.log import logger
from relay.metrics import Metrics
from relay.problem import unavailable
from relay.receive.admission import Admission, Admitted, Entrance
from relay.receive.appender import Appender
from relay.receive.limits import Limits, TooMuchAtOnce
from relay.receive.parse import InvalidWebhook, Malformed, TooMany
from relay.receive.reading import JSON_LINES, Body, Reading, expect
from relay.receive.refusals import REFUSALS, fields, note_limit, refusal_of, refuse
from relay.receive.taking import Taking
from relay.settings import Network, Settings

log = logger(__name__)

BODIES = "Too many bodies are on their way at the same time. Nothing of the request is stored: send it again."

Taker = Callable[[Admitted, str, Body, datetime], Awaitable[web.Response]]


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
        limits: Limits,
        clock: Callable[[], datetime] = _now,
        trusted_proxies: Sequence[Network] = (),
    ) -> None:
        self._admission = Admission(settings, keys, layouts, metrics, limits, trusted_proxies)
        self._reading = Reading(limits, metrics)
        self._taking = Taking(appender, metrics)
        self._appender = appender
        self._limits = limits
        self._metrics = metrics
        self._clock = clock

    async def one(self, request: web.Request) -> web.Response:
        """`POST /v1/webhooks/{source}`: one webhook."""
        return await self._answer(request, frozenset(), self._limits.webhook_bytes_max, self._take_one)

    async def many(self, request: web.Request) -> web.Response:
        """`POST /v1/webhooks/{source}/batch`: a JSON array or NDJSON of webhooks, each with its own `id`."""
        return await self._answer(request, JSON_LINES, self._limits.body_bytes_max, self._take_many)

    async def _answer(
        self, request: web.Request, more_types: frozenset[str], bytes_max: int, take: Taker
    ) -> web.Response:
        came = perf_counter()
        entrance = self._admission.named(request.match_info["source"])
        try:
            self._admission.knock(request)
            self._reading.check_kind(request, more_types)
            with self._reading.share() as share:
                body = await self._reading.read(request, bytes_max, share)
                now = self._clock()
                admitted = self._admission.admit(entrance, request, body, now)
                self._appender.check_room()
                return await take(admitted, request.content_type, body, now)
        except Unavailable as error:
            _count(entrance, "unavailable")
            return unavailable(BODIES) if isinstance(error, TooMuchAtOnce) else unavailable()
        except tuple(REFUSALS) as error:
            self._note(entrance, error)
            _tell(entrance, error)
            return refuse(error)
        except Exception:
            _count(entrance, "error")
            raise
        finally:
            self._metrics.webhook_seconds.observe(perf_counter() - came)

    def _note(self, entrance: Entrance | None, error: RelayError) -> None:
        """Count the limit that a request met, and an opt-out that could not even be read."""
        if isinstance(error, Malformed | TooMany) and error.limit is not None:
            note_limit(self._metrics, error.limit)
        if entrance is not None and isinstance(error, Malformed | InvalidWebhook):
            self._taking.note_opt_out(entrance, error.type)

    def _take_one(self, admitted: Admitted, kind: str, body: Body, now: datetime) -> Awaitable[web.Response]:
        entrance, headers = admitted
        webhook = entrance.format.one(headers, kind, body.text)
        return self._taking.one(entrance, webhook, now)

    def _take_many(self, admitted: Admitted, kind: str, body: Body, now: datetime) -> Awaitable[web.Response]:
        entrance, headers = admitted
        entries = entrance.format.many(headers, kind, body.text)
        entrance.charge(len(entries))
        return self._taking.many(entrance, entries, now)


def routes(receiver: Receiver) -> list[web.RouteDef]:
    """Say what is served where."""
    return [
        web.post("/v1/webhooks/{source}", receiver.one, expect_handler=expect),
        web.post("/v1/webhooks/{source}/batch", receiver.many, expect_handler=expect),
    ]


def _tell(entrance: Entrance | None, error: RelayError) -> None:
    refusal = refusal_of(error)
    _count(entrance, refusal.result)
    log.warning(
        "webhook_refused",
        source=None if entrance is None else entrance.name,
        result=refusal.result,
        status=refusal.status,
        fields=[problem.field for problem in fields(error)],
    )


def _count(entrance: Entrance | None, became: str) -> None:
    """Count webhooks by result; a source that does not exist must not make a series."""
    if entrance is not None:
        entrance.results[became].inc()
