"""The door to Postgres: everything that relay keeps, behind methods; each query is a file in `sql/queries`."""

from relay.store.append import Append, Appended
from relay.store.cuts import Cut
from relay.store.deployment import Deployment, LayoutColumns
from relay.store.following import Following
from relay.store.lanes import Lease, Target
from relay.store.operating import Operating
from relay.store.settling import Settled, Settling, UploadRecord
from relay.store.telling import Telling
from relay.store.told import (
    FoundEvent,
    ToldBatch,
    ToldCursor,
    ToldEvent,
    ToldLane,
    ToldRejection,
    ToldUnresolved,
    ToldUpload,
    Unsettled,
)
from relay.store.unresolved import Waiting

__all__ = [
    "Appended",
    "Cut",
    "FoundEvent",
    "LayoutColumns",
    "Lease",
    "Settled",
    "Store",
    "Target",
    "ToldBatch",
    "ToldCursor",
    "ToldEvent",
    "ToldLane",
    "ToldRejection",
    "ToldUnresolved",
    "ToldUpload",
    "Unsettled",
    "UploadRecord",
]


class Store(Deployment, Append, Following, Settling, Operating, Telling, Waiting):
    """All of relay's reads and writes. Every method raises `relay.errors.Unavailable` when Postgres is gone."""
