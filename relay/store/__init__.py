"""The door to Postgres: everything that relay keeps, behind methods; each query is a file in `sql/queries`."""

from relay.store.append import Append, Appended
from relay.store.cuts import Cut
from relay.store.deployment import Deployment, LayoutColumns
from relay.store.lanes import Lease, Target
from relay.store.settling import Settled, Settling, UploadRecord

__all__ = ["Appended", "Cut", "LayoutColumns", "Lease", "Settled", "Store", "Target", "UploadRecord"]


class Store(Deployment, Append, Settling):
    """All of relay's reads and writes. Every method raises `relay.errors.Unavailable` when Postgres is gone."""
