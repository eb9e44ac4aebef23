"""Whether a proposed cell is good enough, and steady enough, to hand a UE over to it; plain numbers.

What a service class or a UE has been through goes in, what it then has been through comes out: who
keeps it decides where. Times are seconds of any clock that does not run backwards.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

from schemas.errors import QosError

Reason = Literal[
    "accepted", "already_there", "no_confidence", "low_confidence", "too_soon", "returning",
    "too_many",
]  # fmt: skip
REASONS: tuple[Reason, ...] = get_args(Reason)
Observation = Literal["met", "missed", "unknown"]
MINUTE_S = 60.0


@dataclass(frozen=True)
class GateParams:
    """floor: least confidence ever asked for. A class's breach rate (moving mean, weight `smoothing`
    of the newest) of `raise_from` or more raises what is asked by `raise_slope` times the rate, by
    `most_raise` and to `ceiling` at most; of `relax_from` or less lowers it by `relax_slope` times
    what it lies below, by `most_relax` at most. A handover is refused less than min_interval_s
    after the last one, however sure; as the one after `per_minute` in a minute below
    rate_confidence; and back to a cell left no more than return_s ago below return_confidence.
    """

    floor: float = 0.5
    ceiling: float = 0.99
    smoothing: float = 0.2
    raise_from: float = 0.3
    raise_slope: float = 0.3
    most_raise: float = 0.2
    relax_from: float = 0.1
    relax_slope: float = 0.2
    most_relax: float = 0.1
    min_interval_s: float = 2.0
    per_minute: int = 3
    rate_confidence: float = 0.9
    return_s: float = 10.0
    return_confidence: float = 0.95

    def __post_init__(self) -> None:
        if not 0.0 <= self.floor <= self.ceiling <= 1.0:
            raise QosError(
                f"gate: floor {self.floor} and ceiling {self.ceiling}; "
                "allowed: 0 <= floor <= ceiling <= 1"
            )
        if not 0.0 < self.smoothing <= 1.0:
            raise QosError(f"gate.smoothing: {self.smoothing}, must be above 0 and at most 1")
        if self.relax_from >= self.raise_from:
            raise QosError(
                f"gate: relax_from {self.relax_from} must be below raise_from {self.raise_from}"
            )


DEFAULTS = GateParams()


@dataclass(frozen=True)
class ClassHistory:
    """How one service class has fared. breach_rate: moving mean of its missed requests, from 0 on."""

    breach_rate: float = 0.0
    observations: int = 0


@dataclass(frozen=True)
class UeHistory:
    """The handovers of one UE in the last minute: (time in s, cell that was left), oldest first."""

    handovers: tuple[tuple[float, str], ...] = ()


@dataclass(frozen=True)
class Passage:
    """Whether the handover is to be made, why (not), and the confidence that was asked for, 0..1."""

    accepted: bool
    reason: Reason
    required: float


def required_confidence(priority: int, floor: float = DEFAULTS.floor) -> float:
    """0.5 for priority 1 to 0.95 for priority 10, in equal steps, and never below `floor` (0..1).

    Raises QosError for a priority outside 1..10.
    """
    if not 1 <= priority <= 10:
        raise QosError(f"gate.priority: {priority}, must lie in 1..10 (10: the most important)")
    return max(floor, (50 + 5 * (priority - 1)) / 100)


def adapted_confidence(
    priority: int, history: ClassHistory, params: GateParams = DEFAULTS
) -> float:
    """The required confidence once the class's breaches are allowed for; floor..ceiling.

    Of a class without an observation it is that of its priority.
    """
    base, rate = required_confidence(priority, params.floor), history.breach_rate
    if history.observations and rate >= params.raise_from:
        base += min(params.most_raise, params.raise_slope * rate)
    elif history.observations and rate <= params.relax_from:
        base -= min(params.most_relax, params.relax_slope * (params.relax_from - rate))
    return min(max(base, params.floor), params.ceiling)


def observed(
    history: ClassHistory, observation: Observation, params: GateParams = DEFAULTS
) -> ClassHistory:
    """The class's history after one more request. "unknown" is neither a breach nor a success."""
    if observation == "unknown":
        return history
    breach = float(observation == "missed")
    rate = history.breach_rate + params.smoothing * (breach - history.breach_rate)
    return ClassHistory(min(max(rate, 0.0), 1.0), history.observations + 1)


def compliance(
    given: Mapping[str, float | None],
    at_least: Mapping[str, float],
    at_most: Mapping[str, float],
) -> dict[str, Observation]:
    """Of each quantity asked for: whether what was given meets it.

    A quantity that was not observed (absent, None or NaN) is "unknown", never "met".
    """
    found: dict[str, Observation] = {}
    for limits, sign in ((at_least, 1.0), (at_most, -1.0)):
        for name, limit in limits.items():
            value = given.get(name)
            if value is None or math.isnan(value) or math.isnan(limit):
                found[name] = "unknown"
            else:
                found[name] = "met" if sign * value >= sign * limit else "missed"
    return found


def all_met(parts: Iterable[Observation]) -> Observation:
    """ "missed" if any part is, else "unknown" if any part is or there is none, else "met"."""
    every = list(parts)
    if "missed" in every:
        return "missed"
    return "unknown" if not every or "unknown" in every else "met"


def passes(
    history: UeHistory,
    now_s: float,
    serving: str,
    target: str,
    confidence: float,
    required: float,
    params: GateParams = DEFAULTS,
) -> Passage:
    """Whether a UE may go from cell `serving` to `target` now; the first reason against it.

    confidence: 0..1 that the request is met in the target; NaN: not known, never enough. Raises
    QosError for a confidence outside 0..1 or a time before the UE's last handover.
    """
    if not (math.isnan(confidence) or 0.0 <= confidence <= 1.0):
        raise QosError(f"gate.confidence: {confidence}, must lie in 0..1, or be NaN: not known")
    since = _since(history, now_s)
    reason: Reason = "accepted"
    if target == serving:
        reason = "already_there"
    elif math.isnan(confidence):
        reason = "no_confidence"
    elif confidence < required:
        reason = "low_confidence"
    elif since < params.min_interval_s:
        reason = "too_soon"
    elif confidence < params.return_confidence and any(
        cell == target and now_s - time <= params.return_s for time, cell in history.handovers
    ):
        reason = "returning"
    elif confidence < params.rate_confidence and (
        sum(now_s - time < MINUTE_S for time, _ in history.handovers) >= params.per_minute
    ):
        reason = "too_many"
    return Passage(reason == "accepted", reason, required)


def handed_over(history: UeHistory, now_s: float, left: str) -> UeHistory:
    """The UE's history after it left a cell, by whoever's decision; raises QosError as `passes`."""
    _since(history, now_s)
    recent = tuple(one for one in history.handovers if now_s - one[0] < MINUTE_S)
    return replace(history, handovers=(*recent, (now_s, left)))


def _since(history: UeHistory, now_s: float) -> float:
    """Seconds since the last handover; infinite without one."""
    if not math.isfinite(now_s):
        raise QosError(f"gate.now_s: {now_s}, must be finite")
    if not history.handovers:
        return math.inf
    last = history.handovers[-1][0]
    if now_s < last:
        raise QosError(f"gate.now_s: {now_s} s lies before the last handover at {last} s")
    return now_s - last
