"""What was asked in the demo, what was answered, and all of it counted."""

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from serving.messages.decisions import DecisionReply

OUTCOME_S = 3.0  # after a decision, at which the network is asked what came of it
_SHOWN = 60


@dataclass(frozen=True)
class Passed:
    """A question's answer; reply: None where the service gave none, then fault says why; ms: it took."""

    reply: DecisionReply | None
    fault: str | None
    ms: float


@dataclass(frozen=True)
class Asked:
    """One question of the network. at: its time; told: its own account of what it then did; passed:
    None where it did not ask the service."""

    at: datetime
    told: Mapping[str, Any]
    passed: Passed | None


@dataclass
class Course:
    """How it goes. reasons: of fallbacks, as the service says; by_a3: of fallbacks, as the network
    counts them; present: feature views that were there of the `views` that were read; lag_s and
    event_to_feature_s (mean): of the stream, None: not heard of yet."""

    latest: deque[Asked] = field(default_factory=lambda: deque(maxlen=_SHOWN))
    decisions: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    by_a3: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    handovers: int = 0
    present: int = 0
    views: int = 0
    ms: list[float] = field(default_factory=list)
    rows: int = 0
    refused_rows: int = 0
    feature_rows: int = 0
    lag_s: float | None = None
    event_to_feature_s: float | None = None

    @property
    def asked(self) -> int:
        """Questions."""
        return sum(self.decisions.values())

    def count(self, one: Asked) -> None:
        """Takes a question with its answer."""
        self.latest.appendleft(one)
        self.handovers += bool(one.told["applied"])
        if one.told["reason"] is not None:
            self.by_a3[one.told["reason"]] += 1
        answer = None if one.passed is None else one.passed.reply
        if answer is None or one.passed is None:
            self.decisions["no answer"] += 1
            return
        self.ms.append(one.passed.ms)
        self.decisions[answer.decision] += 1
        if answer.decision == "fallback_a3":
            self.reasons[answer.reason] += 1
        self.views += len(answer.features)
        self.present += sum(view.status == "present" for view in answer.features.values())
