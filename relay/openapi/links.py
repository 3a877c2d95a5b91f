"""Where an answer leads: which of its values another operation takes. For readers, and for tests that follow them."""

from collections.abc import Mapping

from relay.openapi.schemas import Json

_BATCH = {"id": "$response.body#/id"}
_FIRST_LOGIN = {"login": "$response.body#/logins/0/name"}
_FIRST_EVENT = {
    "source": "$response.body#/events/0/source",
    "webhook_id": "$response.body#/events/0/webhook_id",
}

LINKS: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    "receive_webhook": {
        "tell_webhook": {"source": "$request.path.source", "webhook_id": "$response.body#/webhook_id"},
    },
    "list_batches": {"tell_batch": {"id": "$response.body#/batches/0/id"}},
    "tell_batch": {
        "list_rejections": _BATCH,
        "download": _BATCH,
        "retry": _BATCH,
        "dismiss": _BATCH,
        "report": _BATCH,
    },
    "list_rejections": {
        "tell_webhook": {
            "source": "$response.body#/rejections/0/source",
            "webhook_id": "$response.body#/rejections/0/webhook_id",
        },
    },
    "list_unresolved": {
        operation: {
            "source": "$response.body#/unresolved/0/source",
            "webhook_id": "$response.body#/unresolved/0/webhook_id",
        }
        for operation in ("tell_webhook", "dismiss_webhook")
    },
    "tell_webhook": {"tell_batch": {"id": "$response.body#/events/0/batch_id"}},
    "search_customer": {"tell_webhook": _FIRST_EVENT},
    "list_accounts": {"list_batches": {"account": "$response.body#/accounts/0/name"}},
    "list_logins": {"flush": _FIRST_LOGIN, "pause": _FIRST_LOGIN, "resume": _FIRST_LOGIN},
    "pause": {"resume": {"login": "$response.body#/name"}},
}
"""By operation, then by the operation that its answer leads to: the parameters of the latter."""


def links(operation: str) -> Json:
    """Give the links of an operation's answer, to be put into it."""
    found = {
        name: {"operationId": name, "parameters": dict(parameters)}
        for name, parameters in LINKS.get(operation, {}).items()
    }
    return {"links": found} if found else {}
