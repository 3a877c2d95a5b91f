"""The door to Postgres: everything that relay keeps, behind methods; each query is a file in `sql/queries`."""

from relay.metrics import ActName
from relay.store.acts import Act, Operator, Through, ToldAct
from relay.store.append import Append, Appended
from relay.store.checks import CheckPause, Checks, CheckTarget, ToldCheck
from relay.store.cuts import Cut
from relay.store.deployment import Deployment, LayoutColumns
from relay.store.following import Following
from relay.store.history import Counting, ToldBin, ToldHistory
from relay.store.lanes import Lease, Target
from relay.store.measuring import Measuring, Postponed, ToldLog
from relay.store.operating import Operating
from relay.store.previewing import Previewing, Snapshot, ToldFile, ToldPlace
from relay.store.pruning import Pruned, PrunedBatches, Pruning
from relay.store.records import Records, TakenRecord, Unanswered, Untaken
from relay.store.recounting import Astray, Recounted, RecountedBatch, Recounting
from relay.store.settling import Settled, Settling, UploadRecord
from relay.store.telling import Telling
from relay.store.told import (
    DeadLetters,
    FoundEvent,
    ToldBatch,
    ToldCarrier,
    ToldCursor,
    ToldEvent,
    ToldLane,
    ToldProof,
    ToldRejection,
    ToldUnresolved,
    ToldUpload,
    ToldWord,
    Unsettled,
)
from relay.store.unresolved import Waiting

__all__ = [
    "Act",
    "ActName",
    "Appended",
    "Astray",
    "CheckPause",
    "CheckTarget",
    "Cut",
    "DeadLetters",
    "FoundEvent",
    "LayoutColumns",
    "Lease",
    "Operator",
    "Postponed",
    "Pruned",
    "PrunedBatches",
    "Recounted",
    "RecountedBatch",
    "Settled",
    "Snapshot",
    "Store",
    "TakenRecord",
    "Target",
    "Through",
    "ToldAct",
    "ToldBatch",
    "ToldBin",
    "ToldCarrier",
    "ToldCheck",
    "ToldCursor",
    "ToldEvent",
    "ToldFile",
    "ToldHistory",
    "ToldLane",
    "ToldLog",
    "ToldPlace",
    "ToldProof",
    "ToldRejection",
    "ToldUnresolved",
    "ToldUpload",
    "ToldWord",
    "Unanswered",
    "Unsettled",
    "Untaken",
    "UploadRecord",
]


class Store(
    Deployment,
    Append,
    Following,
    Settling,
    Checks,
    Records,
    Operating,
    Telling,
    Previewing,
    Waiting,
    Counting,
    Measuring,
    Recounting,
    Pruning,
):
    """All of relay's reads and writes. Every method raises `relay.errors.Unavailable` when Postgres is gone."""
