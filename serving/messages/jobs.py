"""Work that takes longer: what is asked, and how it stands."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class CollectRequest(BaseModel):
    """How long and how often to ask the NEF for the states of its UEs; ue_ids: those whose QoS
    requirements to ask for besides, every tenth time; default all."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
        json_schema_extra={"examples": [{"duration_s": 10, "interval_s": 1}]},
    )

    duration_s: float | None = Field(default=None, ge=1, le=3600)
    interval_s: float | None = Field(default=None, ge=1, le=60)
    ue_ids: list[str] = Field(default=[], max_length=1000)


class JobReply(BaseModel):
    """How a job stands. state: queued, running, succeeded, refused (its input was not good enough, or
    the model gains nothing: `result` holds the evidence), failed or cancelled; progress: 0 to 1."""

    id: str
    kind: str
    state: str
    created_at: datetime
    progress: float
    stage: str
    started_at: datetime | None
    finished_at: datetime | None
    result: dict[str, Any] | None
    error: str | None


class JobsReply(BaseModel):
    """The newest first."""

    jobs: list[JobReply]
