"""The document and its page over HTTP: made once, served to everybody, kept by caches as long as it is the same."""

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import ETag, web

from relay.openapi.document import JSON_PATH, PAGE_PATH, document
from relay.openapi.page import page, policy

_KEPT = {
    "Cache-Control": "no-cache",  # that is: keep it, but ask each time whether it is still the same
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def routes() -> list[web.RouteDef]:
    """Say what is served where."""
    made = document()
    text = json.dumps(made, ensure_ascii=False, separators=(",", ":"))
    guarded = {"Content-Security-Policy": policy()}
    return [
        web.get(JSON_PATH, _serve(text, "application/json", {}), allow_head=False),
        web.get(PAGE_PATH, _serve(page(made), "text/html", guarded), allow_head=False),
    ]


def _serve(text: str, content_type: str, more: Mapping[str, str]) -> Callable[[web.Request], Awaitable[web.Response]]:
    body = text.encode("utf-8")
    tag = hashlib.sha256(body).hexdigest()[:32]

    async def serve(request: web.Request) -> web.Response:
        known = request.if_none_match or ()
        same = any(etag.value in (tag, "*") for etag in known)
        answer = (
            web.Response(status=304) if same else web.Response(body=body, content_type=content_type, charset="utf-8")
        )
        answer.headers.update({**_KEPT, **more})
        answer.etag = ETag(tag)
        return answer

    return serve
