"""Keeps what `models.gate` needs to know: how each class has fared, and where each UE has been."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from models.gate import (
    DEFAULTS,
    ClassHistory,
    GateParams,
    Observation,
    UeHistory,
    adapted_confidence,
    handed_over,
    observed,
    passes,
)


@dataclass
class AdaptiveGate:
    """One event loop uses it; times are seconds of a clock that does not run backwards. The UEs that
    were not moved for longest are forgotten past `most_ues`. moved_again: told the seconds between two
    handovers of a UE."""

    params: GateParams = DEFAULTS
    most_ues: int = 100_000
    moved_again: Callable[[float], None] = lambda seconds: None
    classes: dict[str, ClassHistory] = field(default_factory=dict)
    _ues: "OrderedDict[str, UeHistory]" = field(default_factory=OrderedDict)

    def required(self, service: str, priority: int) -> float:
        """The confidence that a request of this class and priority (1..10) needs."""
        return adapted_confidence(priority, self.classes.get(service, ClassHistory()), self.params)

    def outcome(self, service: str, observation: Observation) -> None:
        """What came of a decision; what is not known changes nothing."""
        before = self.classes.get(service, ClassHistory())
        self.classes[service] = observed(before, observation, self.params)

    def suppressed(self, ue: str, left: str, to: str, confidence: float, now: float) -> str | None:
        """Why a UE is not moved from `left` to `to` now (too_soon, returning, too_many); else None."""
        known = self._ues.get(ue)
        if known is None:
            return None
        passage = passes(known, now, left, to, confidence, 0.0, self.params)
        return None if passage.accepted else passage.reason

    def moved(self, ue: str, left: str, now: float) -> None:
        """Remembers a handover."""
        before = self._ues.pop(ue, UeHistory())
        self._ues[ue] = handed_over(before, now, left)
        if before.handovers:
            self.moved_again(now - before.handovers[-1][0])
        if len(self._ues) > self.most_ues:
            self._ues.popitem(last=False)
