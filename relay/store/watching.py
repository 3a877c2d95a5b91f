"""Watching a pool: what it has open, how long it keeps callers waiting, and how often Postgres was not there."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import asyncpg

from relay.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Watch:
    """What a pool tells of itself: for how long a connection was waited for, in seconds, and each `Unavailable`."""

    waited: Callable[[float], None]
    missed: Callable[[], None]

    @classmethod
    def of(cls, pool: asyncpg.Pool, metrics: Metrics | None, name: str) -> Self:
        """Tell it to the metrics under the pool's name; to nobody without any."""
        if metrics is None:
            return cls(lambda _: None, lambda: None)
        metrics.database_connections_max.labels(name).set(pool.get_max_size())
        metrics.database_connections.labels(name, "idle").set_function(pool.get_idle_size)
        used = metrics.database_connections.labels(name, "used")
        used.set_function(lambda: pool.get_size() - pool.get_idle_size())
        return cls(metrics.database_wait.labels(name).observe, metrics.database_errors.labels(name).inc)
