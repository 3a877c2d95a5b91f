"""What aiohttp has parsed: whether it is to be answered as it is, and what it costs to keep. Pure."""

from aiohttp import HttpVersion10, HttpVersion11, web
from aiohttp.http import RawRequestMessage

VERSIONS = (HttpVersion10, HttpVersion11)
"""aiohttp would answer 0.9, which proxies do not know, and 2.0, which it does not speak, as well."""

HEADER_BYTES = 100
"""Each header that is parsed takes at least this much memory beyond its text."""


def understood(request: web.BaseRequest) -> bool:
    """Say whether a request that aiohttp can parse is one that means the same to every proxy before us."""
    coding = request.headers.get("Transfer-Encoding")
    return request.version in VERSIONS and (coding is None or coding.lower() == "chunked")


def expects_what_is_met(request: web.BaseRequest) -> bool:
    """Say whether a request's `Expect` can be met, if it has one. HTTP/1.0 knows none."""
    given = request.headers.getall("Expect", ())
    return (
        not given
        or request.version < HttpVersion11
        or all(expectation.lower() == "100-continue" for expectation in given)
    )


def memory_bytes(message: object) -> int:
    """Estimate what a parsed head takes."""
    if not isinstance(message, RawRequestMessage):
        return 0
    return len(message.path) + sum(len(name) + len(value) + HEADER_BYTES for name, value in message.raw_headers)
