"""What the server depends on; read from the environment once, as NEF_SERVER_…."""

import os
import re
from typing import Annotated, Literal, Self

from pydantic import AnyHttpUrl, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from schemas.errors import QosError
from schemas.nef.wire import faults_of

Switch = Literal["on", "off", "automatic"]
CELLS_FOR_AUTOMATIC = 3
USERNAME = r"^[A-Za-z0-9_.@-]{1,64}$"
KEY = re.compile(r"[!-~]{1,256}")  # what an HTTP header carries as it is


class ServerSettings(BaseSettings):
    """Environment: NEF_SERVER_PASSWORD, NEF_SERVER_DATABASE_URL, …, and ML_HANDOVER_ENABLED.

    password: None is allowed in the development profile only, which then draws one and prints it once.
    speed: seconds of the simulation a second; 0: it stands still. network_handovers: event A3 moves
    UEs by itself; else only the handover endpoint does. callback_hosts: notifications go to these
    only; empty: to any. decision_key: of the decision service, sent to it alone, as X-API-Key; None: it
    asks for none. *_s: seconds of real time.
    """

    model_config = SettingsConfigDict(
        env_prefix="NEF_SERVER_", frozen=True, extra="ignore", hide_input_in_errors=True
    )

    profile: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    username: str = Field(default="admin", pattern=USERNAME)
    password: SecretStr | None = None
    database_url: SecretStr = SecretStr("sqlite:///.qos/nef.sqlite")
    token_s: int = Field(default=8 * 3600, ge=1)
    refresh_s: int = Field(default=7 * 86400, ge=1)
    seed: int = Field(default=1, ge=0, le=2**32)
    ues: int = Field(default=24, ge=0, le=2000)
    sites: int = Field(default=4, ge=1, le=64)
    speed: float = Field(default=1.0, ge=0, le=1000)
    network_handovers: bool = True
    max_body_bytes: int = Field(default=4 << 20, ge=1024)
    max_subscriptions: int = Field(default=5000, ge=1)
    callback_hosts: tuple[str, ...] = ()
    callback_timeout_s: float = Field(default=3.0, gt=0, le=30)
    callback_concurrency: int = Field(default=32, ge=1, le=256)
    callback_queue: int = Field(default=64, ge=1, le=10_000)
    decision_url: AnyHttpUrl | None = None
    decision_key: SecretStr | None = None
    decision_timeout_s: float = Field(default=1.0, gt=0, le=30)
    min_confidence: float = Field(default=0.5, ge=0, le=1)
    ml_handover: Annotated[Switch, Field(validation_alias="ML_HANDOVER_ENABLED")] = "automatic"

    @model_validator(mode="after")
    def _secrets_are_good(self) -> Self:
        if self.profile == "production" and self.password is None:
            raise ValueError("NEF_SERVER_PASSWORD must be set in the production profile")
        if self.password is not None and len(self.password.get_secret_value()) < 8:
            raise ValueError("NEF_SERVER_PASSWORD: at least 8 characters")
        if self.decision_key is not None and not KEY.fullmatch(
            self.decision_key.get_secret_value()
        ):
            raise ValueError("NEF_SERVER_DECISION_KEY: 1 to 256 visible ASCII characters")
        return self


_SWITCH = {
    "1": "on",
    "true": "on",
    "0": "off",
    "false": "off",
    "auto": "automatic",
    "": "automatic",
}


def read_settings(**changes: object) -> ServerSettings:
    """The environment's settings with some changed; `QosError` names each fault, never its value."""
    given = os.environ.get("ML_HANDOVER_ENABLED", "automatic").strip().lower()
    changes.setdefault("ML_HANDOVER_ENABLED", _SWITCH.get(given, given))
    try:
        return ServerSettings(**changes)  # type: ignore[arg-type]
    except ValidationError as error:
        told = [p if place == "body" else f"{place}: {p}" for place, p in faults_of(error)]
        raise QosError(f"NEF server settings: {'; '.join(told)}") from None
