"""relay's HTTP interface as a document: OpenAPI 3.1 at `/openapi.json`, and a page for people at `/docs`.

Both are made once, when the service starts, from the models that requests are read with and answers are written with,
from the table of endpoints, and from the refusals themselves. Nothing in them depends on the settings: who reads them
learns no source's or account's name, so that no token is needed.
"""

from relay.openapi.document import document
from relay.openapi.served import routes

__all__ = ["document", "routes"]
