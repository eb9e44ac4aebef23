"""What the consumer shows to Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from schemas.tables import TABLES

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0)
ENTRIES = "entry"  # stands for the table of what is no row of a known one
_OUTCOMES = ("admitted", "refused", "late", "duplicate")
_ENTRY_OUTCOMES = ("new", "sent_twice", "read_again", "refused")


class Metrics:
    """The consumer's counters and gauges, in a registry of their own, with those of its process.

    Labels are of closed sets: tables, views and outcomes; nothing that a producer writes becomes one.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.entries = Counter(
            "qos_stream_entries",
            "entries read: new, sent twice by a producer, read again after a failure, or no entry",
            ["outcome"], registry=self.registry,
        )  # fmt: skip
        self.rows = Counter(
            "qos_stream_rows", "rows read, by table and outcome (admitted, refused, late, duplicate)",
            ["table", "outcome"], registry=self.registry,
        )  # fmt: skip
        self.emissions = Counter(
            "qos_stream_feature_rows", "feature rows written", ["view"], registry=self.registry
        )
        self.failures = Counter(
            "qos_stream_server_failures", "tries at which Redis did not answer",
            registry=self.registry,
        )  # fmt: skip
        self.lost = self._gauge(
            "lost_entries", "entries that a producer sent and nobody gave us, since the first run"
        )
        self.lag_entries = self._gauge(
            "lag_entries", "entries of the stream that are not committed, at the last commit"
        )
        self.lag_seconds = self._gauge(
            "lag_seconds", "age of the newest entry read, when its features were written"
        )
        self.fill = self._gauge(
            "fill_ratio", "lag_entries over the number at which producers wait: 1 is back-pressure"
        )
        self.watermark = self._gauge(
            "watermark_seconds", "all rows that arrived by then are counted in (unix time)"
        )
        self.written = self._seconds(
            "event_to_written", "from a row's event to its features online"
        )
        self.batch = self._seconds(
            "batch", "from entries being read to their features being online"
        )
        self.commit = self._seconds("commit", "length of a commit")
        self.held = Gauge(
            "qos_stream_held_rows", "rows, or folded intervals, that a view holds in memory",
            ["view"], registry=self.registry,
        )  # fmt: skip
        for outcome in _ENTRY_OUTCOMES:
            self.entries.labels(outcome)
        for table in TABLES:
            for outcome in _OUTCOMES:
                self.rows.labels(table, outcome)

    def _gauge(self, name: str, says: str) -> Gauge:
        return Gauge(f"qos_stream_{name}", says, registry=self.registry)

    def _seconds(self, name: str, says: str) -> Histogram:
        name = f"qos_stream_{name}_seconds"
        return Histogram(name, says, buckets=_SECONDS, registry=self.registry)


def outcome_of(reason: str) -> str:
    """The outcome that a reason of the quarantine counts as."""
    if ": duplicate_" in reason:
        return "duplicate"
    if reason.endswith(("behind the watermark", "after the event")):
        return "late"
    return "refused"
