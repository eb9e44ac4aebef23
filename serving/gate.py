"""When a score is sure enough to act on, and how often a UE may be moved.

Required confidence rises with the request's priority, and by class with how often decisions did not
hold; a UE is not moved twice within a moment, nor too often, nor straight back.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass, field


@dataclass(frozen=True)
class GateSettings:
    """floor: least required confidence; smoothing: weight of the newest outcome; raise_from, relax_to:
    breach rates (0..1) at which the threshold moves; interval_s: between two handovers of a UE;
    most_a_minute: handovers of a UE; return_s: within which going back needs `return_confidence`."""

    floor: float = 0.5
    ceiling: float = 0.99
    smoothing: float = 0.2
    raise_from: float = 0.3
    relax_to: float = 0.1
    interval_s: float = 2.0
    most_a_minute: int = 3
    return_s: float = 10.0
    return_confidence: float = 0.95
    rate_confidence: float = 0.9
    most_ues: int = 100_000


@dataclass
class _Moves:
    """times: of the last handovers, seconds; left: the cell before the last one."""

    times: deque[float]
    left: str


def base_confidence(priority: int) -> float:
    """What priority 1..10 requires: 0.50 to 0.95."""
    return 0.5 + 0.05 * (priority - 1)


def shifted(required: float, rate: float | None, settings: GateSettings) -> float:
    """The requirement after a class's breach rate (0..1, None: no outcome known yet), bounded."""
    if rate is not None and rate >= settings.raise_from:
        required += min(0.2, 0.3 * rate)
    elif rate is not None and rate <= settings.relax_to:
        required -= min(0.1, 0.2 * (settings.relax_to - rate))
    return min(settings.ceiling, max(settings.floor, required))


@dataclass
class AdaptiveGate:
    """The gate with what it remembers. One event loop uses it; times are of its clock, in seconds."""

    settings: GateSettings = field(default_factory=GateSettings)
    breaches: dict[str, float] = field(default_factory=dict)
    _moves: "OrderedDict[str, _Moves]" = field(default_factory=OrderedDict)

    def required(self, service: str, priority: int) -> float:
        """The confidence that a request of this class and priority needs."""
        return shifted(base_confidence(priority), self.breaches.get(service), self.settings)

    def outcome(self, service: str, met: bool) -> None:
        """What came of a decision: moves the class's breach rate (EWMA)."""
        seen = 0.0 if met else 1.0
        before = self.breaches.get(service)
        share = self.settings.smoothing
        self.breaches[service] = seen if before is None else before + share * (seen - before)

    def suppressed(self, ue: str, to: str, confidence: float, now: float) -> str | None:
        """Why a UE is not moved to this cell now: min_interval, ping_pong, rate_limit; else None."""
        known = self._moves.get(ue)
        if known is None:
            return None
        limits, last = self.settings, known.times[-1]
        if now - last < limits.interval_s:
            return "min_interval"
        back = to == known.left and now - last < limits.return_s
        if back and confidence < limits.return_confidence:
            return "ping_pong"
        recent = sum(now - time < 60 for time in known.times)
        if recent >= limits.most_a_minute and confidence < limits.rate_confidence:
            return "rate_limit"
        return None

    def moved(self, ue: str, left: str | None, now: float) -> None:
        """Remembers a handover; the longest unmoved UEs are forgotten past `most_ues`."""
        known = self._moves.pop(ue, None)
        times = known.times if known else deque(maxlen=self.settings.most_a_minute)
        times.append(now)
        self._moves[ue] = _Moves(times, left or "")
        if len(self._moves) > self.settings.most_ues:
            self._moves.popitem(last=False)
