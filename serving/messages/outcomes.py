"""What became of decisions, as it is told, and what is answered to that."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from schemas import measurement as m
from serving.messages.measured import measured

State = Literal["accepted", "late", "duplicate", "unknown", "refused", "lost"]


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


DecisionId = Annotated[
    str,
    Field(min_length=1, max_length=64, description="of the decision, as it was answered",
          examples=["0198c0de-0000-7000-8000-000000000001"]),
]  # fmt: skip


Observed = Annotated[
    AwareDatetime | None, Field(strict=False, description="when it was true; null: now")
]


class HandoverOutcome(_Message):
    """Whether what was decided succeeded."""

    decision_id: DecisionId
    success: Annotated[bool, Field(description="the UE is served where the decision put it")]
    cell_id: Annotated[
        str | None, Field(max_length=128, description="where it is served; null: not known")
    ] = None
    observed_at: Observed = None


class QosOutcome(_Message):
    """What the flow got after the decision; what is null was not observed, which is not met."""

    decision_id: DecisionId
    observed_at: Observed = None
    downlink_mbps: float | None = measured(m.downlink_mbps, "not observed")
    downlink_delay_ms: float | None = measured(m.downlink_delay_ms, "not observed")
    jitter_ms: float | None = measured(m.jitter_ms, "not observed")
    packet_loss_ratio: float | None = measured(m.packet_loss_ratio, "not observed")


class OutcomeState(BaseModel):
    """What became of an outcome. late: kept, though told over an hour after the decision; lost: the log
    was full, tell it again; met: whether the request was met, null: too little was observed."""

    decision_id: str
    status: State
    met: bool | None = None
    not_kept: list[str] = []
    not_observed: list[str] = []
    reason: str | None = None


class FeedbackReply(BaseModel):
    """One state an outcome, in their order; accepted: how many were kept, late ones among them."""

    accepted: int
    results: list[OutcomeState]
