"""Who may come in: a source's proof, its networks, what it may ask for, and how often."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from aiohttp import web
from prometheus_client import Counter

from relay.events import Keys, Operation
from relay.metrics import WEBHOOK_RESULTS, Metrics
from relay.receive.auth import Door, carries_proof
from relay.receive.formats import Format
from relay.receive.limits import Limits
from relay.receive.mapping import Mapper
from relay.receive.reading import Body
from relay.receive.refusals import Unauthorized
from relay.settings import Settings


@dataclass(frozen=True, slots=True)
class Entrance:
    """A source as requests meet it."""

    name: str
    door: Door
    format: Format
    mapper: Mapper
    results: Mapping[str, Counter]


class Admission:
    """Knows all sources, and lets in who may."""

    def __init__(
        self,
        settings: Settings,
        keys: Keys,
        layouts: Mapping[tuple[str, Operation], int],
        metrics: Metrics,
        limits: Limits,
    ) -> None:
        self._entrances = {
            name: Entrance(
                name,
                Door.of(source),
                Format(source, limits),
                Mapper.of(settings, name, layouts, keys),
                {label: metrics.webhooks.labels(name, label) for label in WEBHOOK_RESULTS},
            )
            for name, source in settings.sources.items()
        }
        self._nowhere = Door((secrets.token_bytes(),), (secrets.token_bytes(),))

    def named(self, source: str) -> Entrance | None:
        """Find a source's entrance; None for one that does not exist, which nobody may learn."""
        return self._entrances.get(source)

    def knock(self, request: web.Request) -> None:
        """Refuse who brings no proof at all: then the body need not even be read. Raises Unauthorized."""
        if not carries_proof(request.headers):
            raise Unauthorized

    def admit(self, entrance: Entrance | None, request: web.Request, body: Body, now: datetime) -> Entrance:
        """Let in who has proof. A source that does not exist is refused after the same work. Raises Unauthorized."""
        door = self._nowhere if entrance is None else entrance.door
        if not door.opens(request.headers, body.sent, now) or entrance is None:
            raise Unauthorized
        return entrance
