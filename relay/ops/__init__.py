"""The ops page: static files, served to everybody; all that it shows comes from the status API, with a token.

The page is HTML, one style, one icon and JavaScript modules, as they lie in this package: nothing is built, and nothing
is loaded from anywhere else. Its addresses are relative, so that it also works behind a proxy that puts a path before.
"""

import hashlib
from collections.abc import Awaitable, Callable
from importlib.resources import files

from aiohttp import ETag, web

PAGE_PATH = "/"
FILES_PATH = "/ops/"

_ALLOWED = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "connect-src 'self'",
    "img-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",  # and nothing makes any, so that no text ever becomes markup
    "trusted-types 'none'",
)

POLICY = "; ".join(_ALLOWED)
"""What the page may do: its own files and the status API beside it. No inline style or script, and no form that a
browser would send by itself: a token that was typed in never enters a URL, even where a script fails."""

KINDS = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}

_HEADERS = {
    "Cache-Control": "no-cache",  # that is: keep it, but ask each time whether it is still the same
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def routes() -> list[web.RouteDef]:
    """Say what is served where: the page at `/`, what belongs to it under `/ops/`."""
    found = []
    for file in sorted(files("relay.ops").iterdir(), key=lambda file: file.name):
        kind = KINDS.get(file.name[file.name.rfind(".") :])
        if kind is not None:
            path = PAGE_PATH if file.name == "page.html" else FILES_PATH + file.name
            found.append(web.get(path, _serve(file.read_bytes(), kind), allow_head=False))
    return found


def _serve(body: bytes, kind: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    tag = hashlib.sha256(body).hexdigest()[:32]

    async def serve(request: web.Request) -> web.Response:
        same = any(etag.value in (tag, "*") for etag in request.if_none_match or ())
        answer = web.Response(status=304) if same else web.Response(body=body, content_type=kind, charset="utf-8")
        answer.headers.update(_HEADERS)
        answer.etag = ETag(tag)
        return answer

    return serve
