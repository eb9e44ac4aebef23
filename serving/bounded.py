"""Metrics whose label values are bounded, and those that cost the request path next to nothing."""

import math
import threading
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Generic, Protocol, Self, TypeVar

import numpy as np
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

OTHER = "other"
MOST_LEARNT = 200
_TOGETHER = 1024


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


class _Waits(Collector):
    """A metric whose numbers wait in a list and are taken in many at a time: at scrapes, and whenever
    enough of them wait. From any thread; no number that comes meanwhile is lost."""

    def __init__(self, name: str, told: str, labels: Sequence[str] = ()) -> None:
        """Nothing counted yet."""
        self._name, self._told, self._labels = name, told, tuple(labels)
        self._children: dict[tuple[str, ...], Self] = {}
        self._waiting, self._lock = list[float](), threading.Lock()

    def labels(self, *values: str) -> Self:
        """The child of these values."""
        with self._lock:
            if values not in self._children:
                self._children[values] = self._child()
            return self._children[values]

    def clear(self) -> None:
        """Drops every child."""
        with self._lock:
            self._children.clear()

    def _child(self) -> Self:
        return type(self)(self._name, self._told)

    def _all(self) -> list[tuple[tuple[str, ...], Self]]:
        """What is shown: itself, or its children by label values."""
        with self._lock:
            return [*self._children.items()] if self._labels else [((), self)]

    def _take(self) -> None:
        with self._lock:
            self._take_in()

    def _taken(self) -> list[float]:
        taken = self._waiting[:]
        del self._waiting[: len(taken)]  # what comes meanwhile stays
        return taken

    @abstractmethod
    def _take_in(self) -> None:
        """Counts what waits."""


class Tally(_Waits):
    """A counter."""

    _total = 0.0

    def inc(self, by: float = 1.0) -> None:
        """So many more."""
        waiting = self._waiting
        waiting.append(by)
        if len(waiting) >= _TOGETHER:
            self._take()

    def collect(self) -> Iterator[Metric]:
        """The family, as Prometheus reads it."""
        family = CounterMetricFamily(self._name, self._told, labels=self._labels)
        for values, child in self._all():
            with child._lock:
                child._take_in()
                family.add_metric(values, child._total)
        yield family

    def describe(self) -> Iterable[Metric]:
        """The family, without values."""
        return (CounterMetricFamily(self._name, self._told, labels=self._labels),)

    def _take_in(self) -> None:
        self._total += math.fsum(self._taken())


class Spread(_Waits):
    """A histogram."""

    def __init__(
        self, name: str, told: str, buckets: Sequence[float], labels: Sequence[str] = ()
    ) -> None:
        """buckets: upper bounds, ascending, without infinity."""
        super().__init__(name, told, labels)
        self._bounds = np.asarray(buckets, dtype=np.float64)
        self._ends = [*map(floatToGoString, buckets), "+Inf"]
        self._counts = np.zeros(len(self._ends), dtype=np.int64)
        self._sum = 0.0

    def observe(self, amount: float) -> None:
        """One more value; NaN is none."""
        waiting = self._waiting
        waiting.append(amount)
        if len(waiting) >= _TOGETHER:
            self._take()

    def collect(self) -> Iterator[Metric]:
        """The family, as Prometheus reads it."""
        family = HistogramMetricFamily(self._name, self._told, labels=self._labels)
        for values, child in self._all():
            with child._lock:
                child._take_in()
                counts, total = np.cumsum(child._counts).tolist(), child._sum
            family.add_metric(values, list(zip(self._ends, counts, strict=True)), total)
        yield family

    def describe(self) -> Iterable[Metric]:
        """The family, without values."""
        return (HistogramMetricFamily(self._name, self._told, labels=self._labels),)

    def _child(self) -> Self:
        return type(self)(self._name, self._told, self._bounds.tolist())

    def _take_in(self) -> None:
        values = np.array(self._taken(), dtype=np.float64)
        values = values[~np.isnan(values)]
        places = np.searchsorted(self._bounds, values, side="left")
        self._counts += np.bincount(places, minlength=len(self._ends))
        self._sum += float(values.sum())
