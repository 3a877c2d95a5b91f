"""Who may come in: a source's proof, its networks, what it may ask for, and how often.

Theory of operation. Proof and network are judged together and told apart by nobody outside: an unknown source, a wrong
proof and a wrong network get one and the same answer, after the same work. The rate comes afterwards, so that only who
has the source's proof can use it up. What may be asked for is judged last, since it stands in the body.

A sender's IP address is personal data where it is a person's. So it is logged in one case only: who has the source's
proof but sends from elsewhere is a system that has moved or somebody with a stolen secret, and both have to be found.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from aiohttp import web
from prometheus_client import Counter

from relay.errors import FieldError
from relay.events import TYPES, Keys, Operation
from relay.log import logger
from relay.metrics import WEBHOOK_RESULTS, Metrics
from relay.receive.auth import Door, carries_proof, proof_headers
from relay.receive.follower import Follower
from relay.receive.formats import Format
from relay.receive.limits import Limits
from relay.receive.mapping import Mapper
from relay.receive.networks import Address, Networks, sender
from relay.receive.parse import Webhook
from relay.receive.rate import Bucket
from relay.receive.reading import Body
from relay.receive.refusals import TooOften, Unauthorized, note_limit
from relay.settings import Network, Settings, Source

log = logger(__name__)


@dataclass(frozen=True, slots=True)
class Entrance:
    """A source as requests meet it."""

    name: str
    door: Door
    format: Format
    mapper: Mapper
    follower: Follower | None
    results: Mapping[str, Counter]
    networks: Networks
    operations: frozenset[Operation]
    bucket: Bucket | None

    def near(self, address: Address | None) -> bool:
        """Say whether the source may send from an address; from one that is not known only where any will do."""
        return not self.networks or (address is not None and address in self.networks)

    def forbids(self, webhook: Webhook) -> FieldError | None:
        """Say what is wrong with a webhook of a type that the source may not send; None if it may."""
        if TYPES[webhook.type] in self.operations:
            return None
        allowed = [kind for kind, operation in TYPES.items() if operation in self.operations]
        return FieldError("type", f"this source may only send {', '.join(allowed)}")

    def charge(self, webhooks: int) -> None:
        """Count the webhooks of one request against the rate; the first has been when it was let in.

        To be called before anything else can happen, or requests side by side would each find the same token.
        """
        if self.bucket is not None:
            self.bucket.charge(webhooks - 1)


class Admitted(NamedTuple):
    """A request that was let in: where, and those of its headers that its proof says something about."""

    entrance: Entrance
    headers: Mapping[str, str]


class Admission:
    """Knows all sources, and lets in who may. `clock` is monotonic, in seconds."""

    def __init__(
        self,
        settings: Settings,
        keys: Keys,
        layouts: Mapping[tuple[str, Operation], int],
        metrics: Metrics,
        limits: Limits,
        trusted_proxies: Sequence[Network] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        mappers = {name: Mapper.of(settings, name, layouts, keys) for name in settings.sources}
        self._entrances = {
            name: Entrance(
                name,
                Door.of(source).padded(settings),
                Format(source, limits),
                mappers[name],
                Follower.of(settings, name, layouts, keys, mappers[name]),
                {label: metrics.webhooks.labels(name, label) for label in WEBHOOK_RESULTS},
                Networks(source.networks),
                source.operations,
                _bucket(source),
            )
            for name, source in settings.sources.items()
        }
        self._nowhere = Door.of_nowhere(settings)
        self._proofs = proof_headers(settings)
        self._metrics = metrics
        self._proxies = Networks(trusted_proxies)
        self._asks_where_from = any(source.networks for source in settings.sources.values())
        self._clock = clock

    def named(self, source: str) -> Entrance | None:
        """Find a source's entrance; None for one that does not exist, which nobody may learn."""
        return self._entrances.get(source)

    def knock(self, request: web.Request) -> None:
        """Refuse who brings no proof at all: then the body need not even be read. Raises Unauthorized."""
        if not carries_proof(request.headers, self._proofs):
            raise Unauthorized

    def admit(self, entrance: Entrance | None, request: web.Request, body: Body, now: datetime) -> "Admitted":
        """Let in who has proof, comes from where the source sends from, and does not come too often.

        A source that does not exist is refused after the same work. Raises Unauthorized or TooOften.
        """
        door = self._nowhere if entrance is None else entrance.door
        covered = entrance is None or entrance.format.signatures_cover(request.headers, request.content_type)
        proof = door.proof(request.headers, body.sent, now, inflated=body.text, signatures_cover=covered)
        address = self._sender(request)
        if entrance is None or proof is None:
            raise Unauthorized
        if not entrance.near(address):
            sent_from = None if address is None else str(address)
            log.warning("sent_from_elsewhere", source=entrance.name, reason="network", sent_from=sent_from)
            raise Unauthorized
        wait_s = None if entrance.bucket is None else entrance.bucket.take(self._clock())
        if wait_s is not None:
            note_limit(self._metrics, "rate")
            raise TooOften(wait_s)
        return Admitted(entrance, entrance.format.trusted(request.headers, proof))

    def _sender(self, request: web.Request) -> Address | None:
        """Find who sent a request, where any source asks for it."""
        if not self._asks_where_from:
            return None
        return sender(request.remote, request.headers.getall("X-Forwarded-For", ()), self._proxies)


def _bucket(source: Source) -> Bucket | None:
    if source.webhooks_per_s is None:
        return None
    return Bucket(source.webhooks_per_s, source.webhooks_burst)
