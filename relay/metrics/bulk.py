"""A histogram that takes many observations at once, which `prometheus_client.Histogram` does not."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


@dataclass(frozen=True, slots=True)
class Tally:
    """How many observations fell into each bucket, the last of which has no upper bound, and what they sum to."""

    counts: tuple[int, ...]
    total: float = 0.0


class BulkHistogram(Collector):
    """A histogram whose observations come already counted by bucket. Count and sum are exact.

    It may be collected in a thread: a tally is replaced as a whole.
    """

    def __init__(
        self, name: str, told: str, labels: Sequence[str], *, bounds: Sequence[float], registry: CollectorRegistry
    ) -> None:
        """`bounds` are the buckets' upper bounds, growing; what equals one lies within."""
        self._name = name
        self._told = told
        self._labels = labels
        self.bounds = tuple(float(bound) for bound in bounds)
        self._none = Tally((0,) * (len(self.bounds) + 1))
        self._tallies: dict[tuple[str, ...], Tally] = {}
        registry.register(self)

    def at_zero(self, *values: str) -> None:
        """Make the series with these labels' values exist."""
        self._tallies.setdefault(values, self._none)

    def add(self, values: Sequence[str], counts: Sequence[int], total: float) -> None:
        """Add observations: `counts` by bucket, the last for what lies above all bounds; `total` is their sum."""
        tally = self._tallies.get(tuple(values), self._none)
        sums = tuple(have + more for have, more in zip(tally.counts, counts, strict=True))
        self._tallies[tuple(values)] = Tally(sums, tally.total + total)

    def describe(self) -> Iterable[HistogramMetricFamily]:
        """Name the metric without its samples, so that no other can have its name."""
        yield self._family()

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """Give the samples of all series."""
        family = self._family()
        bounds = [*map(floatToGoString, self.bounds), "+Inf"]
        for values, tally in list(self._tallies.items()):
            family.add_metric(values, list(zip(bounds, accumulate(tally.counts), strict=True)), tally.total)
        yield family

    def _family(self) -> HistogramMetricFamily:
        return HistogramMetricFamily(self._name, self._told, labels=self._labels)
