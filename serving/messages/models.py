"""What is answered about the models and about the service's health."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel


class BreakerState(BaseModel):
    """state: closed, open (it is left alone) or half_open (one try is let through)."""

    name: str
    state: str


class FeatureShift(BaseModel):
    """A feature's part of the drift score."""

    feature: str
    score: float


class DriftReply(BaseModel):
    """score: population stability index of the served rows against those of training, 0 or more, above
    0.25 is commonly called a shift; rows: served ones; features: the parts of it, the most first."""

    score: float
    rows: int
    features: list[FeatureShift]


class OutcomesReply(BaseModel):
    """The latest predictions whose outcome was told. error_rate: share on the wrong side of 0.5; brier:
    mean squared error; expected: mean probability, met: share that was met; all 0..1, null: none was
    judged. last_told_at: of any outcome, null: never since the start."""

    judged: int
    error_rate: float | None
    brier: float | None
    expected: float | None
    met: float | None
    last_told_at: datetime | None


class ModelEntry(BaseModel):
    """A registered version. live: it answers now; digest: of its bundle."""

    name: str
    version: int
    aliases: list[str]
    digest: str
    registered_at: datetime
    live: bool


class LiveModel(BaseModel):
    """The model that answers now; service: whose features it takes."""

    name: str
    version: str
    digest: str
    service: str
    catalog_hash: str
    tasks: list[str]


class ModelsReply(BaseModel):
    """The live model and every registered version, the newest first."""

    live: LiveModel
    versions: list[ModelEntry]


class ModelReply(BaseModel):
    """One version. metrics: by task on unseen sessions, with 95 % intervals, null where undefined;
    parts: rows, positives and sessions by task and part; features: in the model's order; data_hash null:
    a bundle from a folder that does not say what it was trained on."""

    model: LiveModel
    entry: ModelEntry | None
    parameters: dict[str, Any]
    data_hash: str | None
    features: list[str]
    parts: dict[str, dict[str, Any]]
    metrics: dict[str, dict[str, Any]]


class Importance(BaseModel):
    """gain: share (0..1) of the classifier's gain; splits: how often it is asked."""

    feature: str
    gain: float
    splits: int


class ImportanceReply(BaseModel):
    """The features of the live model's classifier by what they contribute, the most first."""

    version: str
    task: str
    features: list[Importance]


class CheckReply(BaseModel):
    """state: ok, bad or unknown (could not be looked at; does not count)."""

    name: str
    state: str
    told: str


class ReadyReply(BaseModel):
    """ready: every check is ok or unknown."""

    ready: bool
    checks: list[CheckReply]


class HealthReply(BaseModel):
    """status: ok, or degraded where a check is bad or a breaker not closed; uptime_s: seconds since the
    start."""

    status: str
    version: str
    uptime_s: float
    checks: list[CheckReply]
    breakers: list[BreakerState]


class ModelHealthReply(BaseModel):
    """status: proven (every task's gain over persistence lies above zero), unproven, or unknown where
    there is no evidence; reasons: why not proven; registered_at, age_s: of the model, null: it comes
    from a folder; drift: null: too few rows were served; outcomes: null: nobody counts them."""

    status: str
    model: LiveModel
    reasons: list[str]
    metrics: dict[str, dict[str, Any]]
    registered_at: datetime | None
    age_s: float | None
    drift: DriftReply | None
    outcomes: OutcomesReply | None


class AliveReply(BaseModel):
    """The process answers."""

    status: str = "alive"
