"""What a feature server counts, for Prometheus. All labels are of small fixed sets."""

from collections.abc import Iterable, Sequence

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Histogram,
    generate_latest,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

PREFIX = "feature_server_"
STATUSES = ("INVALID", "PRESENT", "NULL_VALUE", "NOT_FOUND", "OUTSIDE_MAX_AGE")
CODES = (200, 400, 404, 405, 408, 413, 422, 500, 503, 504)
BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


class Metrics:
    """The counters of one application; health and metrics requests are not counted."""

    media_type = CONTENT_TYPE_LATEST

    def __init__(self, workers: int = 1) -> None:
        self.workers = workers
        self.registry = CollectorRegistry()
        requests = Counter(
            f"{PREFIX}requests", "requests by HTTP status", ["status"], registry=self.registry
        )
        values = Counter(
            f"{PREFIX}values", "values served by status", ["status"], registry=self.registry
        )
        self._requests = {code: requests.labels(str(code)) for code in CODES}
        self._values = [values.labels(status) for status in STATUSES]
        self._entities = Counter(f"{PREFIX}entities", "entity rows served", registry=self.registry)
        self._seconds = Histogram(
            f"{PREFIX}request_seconds",
            "from a request's head to its answer",
            buckets=BUCKETS,
            registry=self.registry,
        )
        self._refresh_failures = Counter(
            f"{PREFIX}refresh_failures",
            "failed looks at the registry",
            registry=self.registry,
        )

    def answered(self, status: int, seconds: float) -> None:
        """Counts one request."""
        self._requests[status if status in self._requests else 500].inc()
        self._seconds.observe(seconds)

    def served(self, rows: int, statuses: Sequence[int]) -> None:
        """Counts the rows and the values of one answer; statuses: a count a FieldStatus."""
        self._entities.inc(rows)
        for counter, count in zip(self._values, statuses, strict=True):
            if count:
                counter.inc(count)

    def refresh_failed(self) -> None:
        """Counts one look at the registry that failed."""
        self._refresh_failures.inc()

    def text(self) -> bytes:
        """The exposition, of all processes where there are several."""
        if self.workers == 1:
            return generate_latest(self.registry)
        registry = CollectorRegistry()
        registry.register(_OfAllProcesses())
        return generate_latest(registry)


class _OfAllProcesses(Collector):
    """Our metrics of all workers, from the folder that they share."""

    def collect(self) -> Iterable[Metric]:
        every = MultiProcessCollector(CollectorRegistry()).collect()  # type: ignore[no-untyped-call]
        return [metric for metric in every if metric.name.startswith(PREFIX)]
