"""Where the NEF is and how long it is waited for; read from the environment once, as NEF_…."""

from typing import Self

from pydantic import AnyHttpUrl, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from schemas.errors import QosError
from schemas.nef.wire import faults_of


class NefSettings(BaseSettings):
    """Environment: NEF_API_URL, NEF_USERNAME, NEF_PASSWORD, …; without a username no login is made.

    requirement_path: where a UE's QoS requirement is asked for; {ue_id} is put in. timeout_s: to
    connect and between two bytes; deadline_s: for a whole answer.
    """

    model_config = SettingsConfigDict(
        env_prefix="NEF_", frozen=True, extra="ignore", hide_input_in_errors=True
    )

    api_url: AnyHttpUrl = AnyHttpUrl("http://localhost:8080")
    username: str | None = None
    password: SecretStr | None = None
    scs_as_id: str = Field(default="qos-platform", pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    token_path: str = "/api/v1/login/access-token"
    qos_path: str = "/nef/api/v1/3gpp-as-session-with-qos/v1"
    monitoring_path: str = "/nef/api/v1/3gpp-monitoring-event/v1"
    requirement_path: str = Field(
        default="/api/v1/qos/{ue_id}/requirements", pattern=r"^/[^{}]*\{ue_id\}[^{}]*$"
    )
    ues_path: str = "/api/v1/UEs"
    states_path: str = "/api/v1/ue_movement/state-ues"
    timeout_s: float = Field(default=5.0, gt=0, le=600)
    deadline_s: float = Field(default=15.0, gt=0, le=3600)
    max_bytes: int = Field(default=8 << 20, ge=1024)
    concurrency: int = Field(default=16, ge=1, le=1024)

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise ValueError("NEF_USERNAME and NEF_PASSWORD: one is set and the other is not")
        return self


def read_settings() -> NefSettings:
    """The environment's settings; `QosError` names each faulty variable, never its value."""
    try:
        return NefSettings()
    except ValidationError as error:
        told = [
            reason if place == "body" else f"NEF_{place.upper()}: {reason}"
            for place, reason in faults_of(error)
        ]
        raise QosError("; ".join(told)) from None
