"""The server's Prometheus metrics; each server has a registry of its own."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Metrics:
    """Counters, gauges and histograms by the names that dashboards use."""

    def __init__(self) -> None:
        """All at 0."""
        self.registry = CollectorRegistry()
        r = self.registry
        self.decisions = Counter(
            "nef_handover_decisions", "Handover decisions", ["outcome"], registry=r
        )
        self.fallbacks = Counter(
            "nef_handover_fallback", "Decisions by event A3 instead", ["reason"], registry=r
        )
        self.compliance = Counter(
            "nef_handover_compliance", "Verdicts of the decision service on QoS", ["outcome"],
            registry=r,
        )  # fmt: skip
        self.requests = Histogram(
            "nef_request_duration_seconds", "Requests", ["method", "endpoint", "status"], registry=r
        )
        self.notifications = Counter(
            "nef_notifications", "Notifications by what became of them", ["outcome"], registry=r
        )
        self.subscriptions = Gauge("nef_subscriptions", "Subscriptions", ["api"], registry=r)
        self.ues = Gauge("nef_ues", "UEs", ["state"], registry=r)
        self.cells = Gauge("nef_cells", "Cells", registry=r)
        self.seconds = Counter("nef_simulated_seconds", "Seconds of the simulation", registry=r)
        self.behind = Gauge(
            "nef_clock_behind_seconds", "By which the simulation is late, real time", registry=r
        )
        self.database_failures = Counter(
            "nef_database_failures", "Writes that the database did not take", registry=r
        )
        self.moves = Counter("nef_network_handovers", "Handovers in the network", registry=r)
