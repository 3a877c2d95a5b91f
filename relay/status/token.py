"""The token over HTTP: who asks, and what the token may do."""

from aiohttp import web

from relay.status import answers
from relay.status.asked import Nothing
from relay.status.auth import Caller
from relay.status.context import Context
from relay.status.respond import json_of


async def tell_token(_context: Context, _request: web.Request, caller: Caller, _asked: Nothing) -> web.Response:
    """`GET /v1/token`: the name and the scopes of the token that this is asked with."""
    return json_of(answers.Token(name=caller.name, scopes=sorted(caller.scopes)))
