"""What is measured on the way of a batch: how long each stage takes, and how long each event waited to be confirmed."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from relay.batches import BatchState, Manifest
from relay.log import logger
from relay.metrics import Metrics
from relay.store import Settled, Store

log = logger(__name__)

CONFIRMED = frozenset({BatchState.DELIVERED, BatchState.ACCEPTED})
"""States in which a batch's lines are confirmed, but for the refused; the second at a vendor that tells no more."""


@contextmanager
def staged(metrics: Metrics, stage: str, vendor: str) -> Iterator[None]:
    """Measure a stage within the block; one that fails is none."""
    began = perf_counter()
    yield
    metrics.stage_seconds.labels(stage, vendor).observe(perf_counter() - began)


def count_wait(metrics: Metrics, vendor: str, batch: Manifest) -> None:
    """Count how long a batch waited for the upload that now begins, unless it is the first."""
    if batch.waited_s is not None:
        metrics.stage_seconds.labels("waiting", vendor).observe(batch.waited_s)


def count_settled(
    metrics: Metrics, vendor: str, batch: Manifest, outcome: str, state: BatchState, settled: Settled
) -> None:
    """Count what an upload came to, and what was written because of it."""
    metrics.uploads.labels(vendor, outcome).inc()
    metrics.batches.labels(vendor, batch.operation, state).inc()
    metrics.rejections.labels(vendor, batch.operation).inc(settled.rejected)
    for operation, count in settled.again.items():
        metrics.events.labels(vendor, operation).inc(count)


async def count_confirmed(store: Store, metrics: Metrics, vendor: str, batch: Manifest) -> None:
    """Count how long each event of a batch that has just been settled waited for that."""
    confirmed = metrics.confirmed_seconds
    try:
        counts, total = await store.tell_confirmed(batch, confirmed.bounds)
    except Exception:  # what was delivered is delivered, whether it can be measured or not
        log.exception("not_measured", batch=batch.id)
    else:
        confirmed.add((vendor, batch.operation), counts, total)
