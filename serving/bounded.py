"""Metrics whose label values are bounded, and histograms that cost the request path next to nothing."""

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Generic, Protocol, Self, TypeVar

import numpy as np
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

OTHER = "other"
MOST_LEARNT = 200
_TOGETHER = 1024  # values that wait for their buckets, so that one call sorts them all


class Labelled(Protocol):
    """A metric that has children by label values."""

    def labels(self, *values: str) -> Self:
        """The child of these values."""
        ...

    def clear(self) -> None:
        """Drops every child."""
        ...


T = TypeVar("T", bound=Labelled)


class Bounded(Generic[T]):
    """A labelled metric whose labels take known values only; any other value is counted as "other".

    name: of the metric; known: by label its values; None: the first MOST_LEARNT that come are known.
    """

    def __init__(self, name: str, metric: T, known: Mapping[str, Iterable[str] | None]) -> None:
        """Nothing counted yet."""
        self.name, self.label_names, self._metric = name, tuple(known), metric
        self._learns = tuple(values is None for values in known.values())
        self._known: tuple[set[str], ...] = tuple(set(values or ()) for values in known.values())
        self._children: dict[tuple[object, ...], T] = {}

    def labels(self, *values: object) -> T:
        """The metric of these values. Raises ValueError for another number of them than labels."""
        child = self._children.get(values)
        return self._found(values) if child is None else child

    def _found(self, values: tuple[object, ...]) -> T:
        if len(values) != len(self._known):
            raise ValueError(f"{len(values)} label values, {len(self._known)} are needed")
        kept = tuple(map(self._bounded, range(len(values)), map(str, values)))
        child = self._children.get(kept)
        if child is None:
            child = self._children[kept] = self._metric.labels(*kept)
        return child

    def _bounded(self, place: int, value: str) -> str:
        known = self._known[place]
        if value in known:
            return value
        if self._learns[place] and len(known) < MOST_LEARNT and value:
            known.add(value)
            return value
        return OTHER

    def forget(self) -> None:
        """Drops every series, and what was learnt."""
        self._metric.clear()
        self._children.clear()
        for learns, known in zip(self._learns, self._known, strict=True):
            if learns:
                known.clear()


class Spread(Collector):
    """A histogram. Values wait, and are sorted into their buckets many at a time: at scrapes, and
    whenever enough of them wait."""

    def __init__(
        self, name: str, told: str, buckets: Sequence[float], labels: Sequence[str] = ()
    ) -> None:
        """buckets: upper bounds, ascending, without infinity."""
        self._name, self._told, self._labels = name, told, tuple(labels)
        self._bounds = np.asarray(buckets, dtype=np.float64)
        self._ends = [*map(floatToGoString, buckets), "+Inf"]
        self._children: dict[tuple[str, ...], Self] = {}
        self._counts = np.zeros(len(self._ends), dtype=np.int64)
        self._sum, self._waiting, self._lock = 0.0, list[float](), threading.Lock()

    def labels(self, *values: str) -> Self:
        """The child of these values."""
        with self._lock:
            if values not in self._children:
                bounds = self._bounds.tolist()
                self._children[values] = type(self)(self._name, self._told, bounds)
            return self._children[values]

    def observe(self, amount: float) -> None:
        """One more value; NaN is none. From any thread."""
        waiting = self._waiting
        waiting.append(amount)
        if len(waiting) >= _TOGETHER:
            self._sort()

    def clear(self) -> None:
        """Drops every child."""
        with self._lock:
            self._children.clear()

    def collect(self) -> Iterator[Metric]:
        """The family, as Prometheus reads it."""
        family = HistogramMetricFamily(self._name, self._told, labels=self._labels)
        with self._lock:
            children = [*self._children.items()] if self._labels else [((), self)]
        for values, child in children:
            counts, total = child._sort()
            ends = zip(self._ends, np.cumsum(counts).tolist(), strict=True)
            family.add_metric(values, [(end, count) for end, count in ends], total)
        yield family

    def describe(self) -> Iterable[Metric]:
        """The family, without values."""
        return (HistogramMetricFamily(self._name, self._told, labels=self._labels),)

    def _sort(self) -> tuple["np.ndarray[tuple[int], np.dtype[np.int64]]", float]:
        """Counts by bucket and the sum, of all that came."""
        with self._lock:
            taken = self._waiting[:]
            del self._waiting[: len(taken)]  # what comes meanwhile stays
            values = np.array(taken, dtype=np.float64)
            values = values[~np.isnan(values)]
            places = np.searchsorted(self._bounds, values, side="left")
            self._counts += np.bincount(places, minlength=len(self._ends))
            self._sum += float(values.sum())
            return self._counts.copy(), self._sum
