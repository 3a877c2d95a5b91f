"""The status API: what is served where, and which scope it needs."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus

from aiohttp import web

from relay.events import Keys
from relay.log import logger
from relay.metrics import Metrics
from relay.problem import problem
from relay.settings import Scope, Settings
from relay.status import answers, batches, events, lanes
from relay.status.auth import Caller, Guard
from relay.status.context import Context
from relay.store import Store

log = logger(__name__)

Act = Callable[[Context, web.Request, Caller], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One thing that can be asked: where, with which scope, and what the answer is (None for a file)."""

    method: str
    path: str
    scope: Scope
    act: Act
    answer: type[answers.Answer] | None


_NUMBER = "{id:[0-9]{1,18}}"
"""What `{id}` takes: a longer number is none of Postgres's."""

_BATCH = "/v1/batches/{id}"
_LOGIN = "/v1/logins/{login}"

ENDPOINTS = (
    Endpoint("GET", "/v1/batches", "read", batches.list_batches, answers.BatchesPage),
    Endpoint("GET", _BATCH, "read", batches.tell_batch, answers.BatchDetail),
    Endpoint("GET", f"{_BATCH}/rejections", "read", batches.list_rejections, answers.RejectionsPage),
    Endpoint("GET", f"{_BATCH}/file", "pii", batches.download, None),
    Endpoint("POST", f"{_BATCH}/retry", "operate", batches.retry, answers.Changed),
    Endpoint("POST", f"{_BATCH}/dismiss", "operate", batches.dismiss, answers.Changed),
    Endpoint("PUT", f"{_BATCH}/report", "operate", batches.report, answers.Reported),
    Endpoint("GET", "/v1/webhooks/{source}/{webhook_id}", "read", events.tell_webhook, answers.Webhook),
    Endpoint("POST", "/v1/customers/search", "pii", events.search_customer, answers.Customer),
    Endpoint("GET", "/v1/accounts", "read", lanes.list_accounts, answers.Accounts),
    Endpoint("GET", "/v1/logins", "read", lanes.list_logins, answers.Logins),
    Endpoint("POST", f"{_LOGIN}/flush", "operate", lanes.flush, answers.Login),
    Endpoint("POST", f"{_LOGIN}/pause", "operate", lanes.pause, answers.Login),
    Endpoint("POST", f"{_LOGIN}/resume", "operate", lanes.resume, answers.Login),
)


class Status:
    """The status API of one process. `wake` makes the flusher look for work at once."""

    def __init__(
        self, store: Store, settings: Settings, keys: Keys, metrics: Metrics, *, wake: Callable[[], None]
    ) -> None:
        self._context = Context(store, settings, keys, metrics, wake)
        self._guard = Guard(settings.api.tokens)
        if self._guard.closed:
            log.warning("status_api_closed", hint="the settings have no [api.tokens.<name>]: every call gets 401")

    def routes(self) -> list[web.RouteDef]:
        """Say what is served where."""
        return [_route(endpoint, self._guard, self._context) for endpoint in ENDPOINTS]


def _route(endpoint: Endpoint, guard: Guard, context: Context) -> web.RouteDef:
    async def answer(request: web.Request) -> web.StreamResponse:
        caller = guard.recognise(request.headers)
        if caller is None:
            log.warning("caller_unknown", method=endpoint.method, path=endpoint.path)
            detail = "An API token is needed: Authorization: Bearer <token>."
            return problem(HTTPStatus.UNAUTHORIZED, detail, headers={"WWW-Authenticate": "Bearer"})
        if endpoint.scope not in caller.scopes:
            log.warning("caller_refused", method=endpoint.method, path=endpoint.path, token=caller.name)
            return problem(HTTPStatus.FORBIDDEN, f"The token lacks the scope `{endpoint.scope}`.")
        return await endpoint.act(context, request, caller)

    # A HEAD of a file would render it for nothing.
    kwargs = {"allow_head": False} if endpoint.method == "GET" else {}
    return web.RouteDef(endpoint.method, endpoint.path.replace("{id}", _NUMBER), answer, kwargs)
