"""The status API: what is served where, and which scope it needs."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from aiohttp import web

from relay.client import HostState
from relay.events import Keys
from relay.log import logger
from relay.metrics import Metrics
from relay.settings import Login, Scope, Settings
from relay.status import acts, answers, batches, events, history, lanes, previewing, token, unresolved
from relay.status.acting import Missing
from relay.status.asked import (
    ActsQuery,
    Asked,
    BatchesQuery,
    CustomerSearch,
    HistoryQuery,
    Nothing,
    Pause,
    RejectionsQuery,
    Report,
    UnresolvedQuery,
    WebhookQuery,
    asked,
)
from relay.status.auth import Caller, Guard
from relay.status.context import Context
from relay.status.respond import lacks, nobody, not_found
from relay.store import Store

log = logger(__name__)

_Asks = TypeVar("_Asks", bound=Asked)
Act = Callable[[Context, web.Request, Caller, _Asks], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Endpoint(Generic[_Asks]):
    """One thing that can be asked: where, with which scope, with what, and what the answer is (None for a file).

    Without a `scope` any token will do. A GET asks in its query, everything else in a JSON body. `conflicts`: it may
    not fit the present state (409).
    """

    method: str
    path: str
    scope: Scope | None
    act: Act[_Asks]
    asks: type[_Asks]
    answer: type[answers.Answer] | None
    conflicts: bool = False


ID_DIGITS_MAX = 18
"""What `{id}` takes: a longer number is none of Postgres's."""

_BATCH = "/v1/batches/{id}"
_ACCOUNT = "/v1/accounts/{account}"
_LOGIN = "/v1/logins/{login}"
_WEBHOOK = "/v1/webhooks/{source}/{webhook_id}"

ENDPOINTS: tuple[Endpoint[Any], ...] = (
    Endpoint("GET", "/v1/batches", "read", batches.list_batches, BatchesQuery, answers.BatchesPage),
    Endpoint("GET", _BATCH, "read", batches.tell_batch, Nothing, answers.BatchDetail),
    Endpoint("GET", f"{_BATCH}/rejections", "read", batches.list_rejections, RejectionsQuery, answers.RejectionsPage),
    Endpoint("GET", f"{_BATCH}/file", "pii", batches.download, Nothing, None),
    Endpoint("POST", f"{_BATCH}/retry", "operate", batches.retry, Nothing, answers.Changed, conflicts=True),
    Endpoint("POST", f"{_BATCH}/dismiss", "operate", batches.dismiss, Nothing, answers.Changed, conflicts=True),
    Endpoint("PUT", f"{_BATCH}/report", "operate", batches.report, Report, answers.Reported, conflicts=True),
    Endpoint("GET", _WEBHOOK, "read", events.tell_webhook, WebhookQuery, answers.Webhook),
    Endpoint(
        "POST", f"{_WEBHOOK}/dismiss", "operate", unresolved.dismiss_webhook, Nothing, answers.Changed, conflicts=True
    ),
    Endpoint("GET", "/v1/unresolved", "read", unresolved.list_unresolved, UnresolvedQuery, answers.UnresolvedPage),
    Endpoint("POST", "/v1/customers/search", "pii", events.search_customer, CustomerSearch, answers.Customer),
    Endpoint("GET", "/v1/accounts", "read", lanes.list_accounts, Nothing, answers.Accounts),
    Endpoint("POST", f"{_ACCOUNT}/preview", "read", previewing.preview_account, Nothing, answers.Preview),
    Endpoint("GET", "/v1/logins", "read", lanes.list_logins, Nothing, answers.Logins),
    Endpoint("POST", f"{_LOGIN}/flush", "operate", lanes.flush, Nothing, answers.Login),
    Endpoint("POST", f"{_LOGIN}/pause", "operate", lanes.pause, Pause, answers.Login),
    Endpoint("POST", f"{_LOGIN}/resume", "operate", lanes.resume, Nothing, answers.Login),
    Endpoint("GET", "/v1/acts", "read", acts.list_acts, ActsQuery, answers.ActsPage),
    Endpoint("GET", "/v1/history", "read", history.tell_history, HistoryQuery, answers.History),
    Endpoint("GET", "/v1/token", None, token.tell_token, Nothing, answers.Token),
)


class Status:
    """The status API of one process.

    `wake` makes the flusher look for work at once, `host` tells of vendors' hosts, where the process uploads at all.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        keys: Keys,
        metrics: Metrics,
        *,
        wake: Callable[[], None],
        host: Callable[[Login], HostState] | None = None,
    ) -> None:
        self._context = Context(store, settings, keys, metrics, wake, host)
        self._guard = Guard(settings.api.tokens)
        if self._guard.closed:
            log.warning("status_api_closed", hint="the settings have no [api.tokens.<name>]: every call gets 401")

    def routes(self) -> list[web.RouteDef]:
        """Say what is served where."""
        return [_route(endpoint, self._guard, self._context) for endpoint in ENDPOINTS]


def _route(endpoint: Endpoint[Any], guard: Guard, context: Context) -> web.RouteDef:
    async def answer(request: web.Request) -> web.StreamResponse:
        caller = guard.recognise(request.headers)
        if caller is None:
            log.warning("caller_unknown", method=endpoint.method, path=endpoint.path)
            return nobody()
        if endpoint.scope is not None and endpoint.scope not in caller.scopes:
            log.warning("caller_refused", method=endpoint.method, path=endpoint.path, token=caller.name)
            return lacks(endpoint.scope)
        try:
            return await endpoint.act(context, request, caller, await asked(request, endpoint.asks))
        except Missing as error:
            raise not_found(str(error)) from None

    # A HEAD of a file would render it for nothing.
    kwargs = {"allow_head": False} if endpoint.method == "GET" else {}
    return web.RouteDef(
        endpoint.method, endpoint.path.replace("{id}", f"{{id:[0-9]{{1,{ID_DIGITS_MAX}}}}}"), answer, kwargs
    )
