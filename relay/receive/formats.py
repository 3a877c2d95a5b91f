"""From a request's headers and body to webhooks, in whatever form their source sends them. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from relay.receive.auth import ID_HEADER
from relay.receive.limits import Limits
from relay.receive.parse import Refused, Webhook, parse, parse_array, parse_lines
from relay.receive.reading import JSON_LINES
from relay.settings import Source


@dataclass(frozen=True, slots=True)
class Format:
    """How a source writes its webhooks."""

    source: Source
    limits: Limits

    def one(self, headers: Mapping[str, str], kind: str, body: bytes) -> Webhook:  # noqa: ARG002 - other forms have it
        """Read one webhook; `kind` is the media type. Raises Malformed or Invalid."""
        return parse(body, headers.get(ID_HEADER))

    def many(
        self,
        headers: Mapping[str, str],  # noqa: ARG002 - other forms stand there
        kind: str,
        body: bytes,
    ) -> Iterator[Webhook | Refused]:
        """Read many webhooks. Raises Malformed, TooMany or Invalid for the whole body, before anything is yielded."""
        return parse_lines(body) if kind in JSON_LINES else parse_array(body)
