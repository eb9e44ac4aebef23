"""What the consumer shows to Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0)
OUTCOMES = ("admitted", "refused", "late", "duplicate")


class Metrics:
    """The consumer's counters and gauges, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.rows = Counter(
            "qos_stream_rows", "rows read, by table and outcome (admitted, refused, late, duplicate)",
            ["table", "outcome"], registry=self.registry,
        )  # fmt: skip
        self.emissions = Counter(
            "qos_stream_feature_rows", "feature rows written", ["view"], registry=self.registry
        )
        self.lost = Gauge(
            "qos_stream_lost_entries", "entries that a producer sent and nobody gave us",
            registry=self.registry,
        )  # fmt: skip
        self.lag_entries = Gauge(
            "qos_stream_lag_entries", "entries of the stream that are not committed",
            registry=self.registry,
        )  # fmt: skip
        self.lag_seconds = Gauge(
            "qos_stream_lag_seconds", "age of the newest entry read, when its features were written",
            registry=self.registry,
        )  # fmt: skip
        self.watermark = Gauge(
            "qos_stream_watermark_seconds", "all rows that arrived by then are counted in (unix time)",
            registry=self.registry,
        )  # fmt: skip
        self.written = Histogram(
            "qos_stream_event_to_written_seconds", "from a row's event to its features being online",
            buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip
        self.batch = Histogram(
            "qos_stream_batch_seconds", "from entries being read to their features being online",
            buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip
        self.commit = Histogram(
            "qos_stream_commit_seconds", "length of a commit", buckets=_SECONDS,
            registry=self.registry,
        )  # fmt: skip
        self.held = Gauge(
            "qos_stream_held_rows",
            "rows that a view holds in memory",
            ["view"],
            registry=self.registry,
        )


def outcome(reason: str) -> str:
    """The outcome that a reason of the quarantine counts as."""
    if ": duplicate_" in reason:
        return "duplicate"
    if reason.endswith(("behind the watermark", "after the event")):
        return "late"
    return "refused"
