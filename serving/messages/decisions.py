"""What is answered to a request for a decision; the requests are in `serving.requests`."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Probability = Annotated[float, Field(ge=0, le=1)]


class _Reply(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Band(_Reply):
    """A forecast: 8 of 10 values should lie between p10 and p90."""

    p10: float
    p50: float
    p90: float


class Detail(_Reply):
    """One threshold. required and observed in its unit; probability: that it is kept in the chosen
    cell, null: no model tells; ok: what was observed keeps it, null: not observed, which is not met."""

    metric: Literal["downlink_mbps", "delay_ms", "loss_ratio", "jitter_ms"]
    required: float
    observed: float | None
    probability: Probability | None
    method: Literal["band", "classifier_lower_bound", "none"]
    ok: bool | None


class Compliance(_Reply):
    """Whether the request is met as surely as its priority needs; null confidence: not scored."""

    service_priority_ok: bool
    required_confidence: Probability
    observed_confidence: Probability | None
    details: list[Detail]


class Scored(_Reply):
    """A candidate. probability: calibrated, that the whole request is met; confidence: that probability
    times what is left of 1 less the shares; shares: of the classifier's gain, resting on unknown, on
    substituted (which count by half) and on out-of-domain features; thresholds: per threshold asked,
    the probability that it is kept; null: not scored."""

    cell_id: str
    serving: bool
    probability: Probability | None
    confidence: Probability | None
    unknown_share: Probability | None
    substituted_share: Probability | None
    out_of_domain_share: Probability | None
    out_of_domain: list[str]
    thresholds: dict[str, Probability]
    throughput_mbps: Band | None
    delay_ms: Band | None


class AskedFor(_Reply):
    """What the request was understood to ask; null: not asked."""

    service: str
    priority: int
    five_qi: int
    source: str
    downlink_mbps: float | None
    delay_ms: float | None
    loss_ratio: float | None
    jitter_ms: float | None


class ViewRead(_Reply):
    """A feature view as the store had it; age_s: from its event to the store's clock."""

    status: str
    age_s: float | None


class ModelUsed(_Reply):
    """The model that answered."""

    version: str
    digest: str
    service: str
    catalog_hash: str


class Contribution(_Reply):
    """A feature's part of the log-odds of being met, before calibration; value null: unknown."""

    feature: str
    value: float | None
    status: str
    contribution: float


class Explanation(_Reply):
    """Of the chosen cell: the largest contributions, the part of no feature, every feature's status."""

    base: float
    contributions: list[Contribution]
    statuses: dict[str, str]


class DecisionReply(_Reply):
    """A decision. predicted_antenna: the cell where the UE should be, null: no cell is known;
    confidence: that the request is met there, 0 where nothing could be scored (a fallback)."""

    decision_id: str
    decided_at: str
    ue_id: str
    decision: Literal["apply", "stay", "fallback_a3"]
    reason: str
    predicted_antenna: str | None
    connected_to: str | None
    confidence: Probability
    required_confidence: Probability
    qos_compliance: Compliance
    asked: AskedFor
    candidates: list[Scored]
    features: dict[str, ViewRead]
    unknown_features: list[str]
    substituted_features: list[str]
    overridden_features: list[str]
    model: ModelUsed
    explanation: Explanation | None


class BatchReply(_Reply):
    """One decision a request, in their order."""

    decisions: list[DecisionReply]


class PlainReply(_Reply):
    """The short answer of /api/predict."""

    decision_id: str
    ue_id: str
    predicted_antenna: str | None
    confidence: Probability
    decision: Literal["apply", "stay", "fallback_a3"]
    reason: str


class PendingReply(_Reply):
    """An asynchronous request; result is null until it is done."""

    job_id: str
    status: Literal["pending", "done", "failed"]
    result: DecisionReply | None
