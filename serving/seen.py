"""What the running service has seen of its model and of what it depends on, as its health is told."""

from datetime import UTC, datetime
from typing import Protocol

from serving.breakers import Breakers
from serving.drift import Shift
from serving.judged import Judgement
from serving.live import Live
from serving.messages.models import BreakerState, DriftReply, FeatureShift, OutcomesReply
from serving.state import Service

_MOST_SHIFTED = 10


class Seen(Protocol):
    """What the running service has seen of its model, as `serving.watch` keeps it."""

    @property
    def last_outcome_us(self) -> int:
        """When an outcome was told last, microseconds since 1970; 0: never."""
        ...

    def drift(self, live: Live) -> Shift | None:
        """Of the served rows against those of training; None: too few rows."""
        ...

    def judgement(self, live: Live) -> Judgement:
        """How the latest predictions turned out."""
        ...


def drift_of(shift: Shift | None) -> DriftReply | None:
    """With the features that shifted most."""
    if shift is None:
        return None
    most = sorted(shift.parts.items(), key=lambda part: (-part[1], part[0]))[:_MOST_SHIFTED]
    return DriftReply(
        score=shift.score,
        rows=shift.rows,
        features=[FeatureShift(feature=name, score=score) for name, score in most],
    )


def outcomes_of(seen: Seen, live: Live) -> OutcomesReply:
    """Of the live model."""
    judged, told = seen.judgement(live), seen.last_outcome_us
    return OutcomesReply(
        judged=judged.count,
        error_rate=judged.error_rate,
        brier=judged.brier,
        expected=judged.expected,
        met=judged.met,
        last_told_at=datetime.fromtimestamp(told / 1e6, UTC) if told else None,
    )


def breakers_of(service: Service) -> list[BreakerState]:
    """Of every breaker; none where the service has none."""
    known = service.breakers
    if not isinstance(known, Breakers):
        return []
    return [BreakerState(name=name, state=known.status(name).state) for name in known.names]
