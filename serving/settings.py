"""What the decision service depends on; read from the environment once, and nowhere else."""

import difflib
import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    AnyHttpUrl,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from schemas.errors import QosError
from schemas.nef.wire import faults_of
from serving.rates import rates_of

Role = Literal["predict", "train", "data", "feedback", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
MIN_SECRET_BYTES = 32
PREFIXES = ("ML_", "RATELIMIT_", "ASYNC_MODEL_", "JWT_")
OF_OTHERS = frozenset(("ML_HANDOVER_ENABLED", "ML_SERVICE_URL", "ML_LOCAL"))


def _rate(text: str) -> str:
    """A rate as it was given; raises ValueError for what is none."""
    rates_of(text)
    return text


RateText = Annotated[str, AfterValidator(_rate)]


class ApiKey(BaseModel):
    """What a key may do, and its SHA-256 in hex; the key itself is written nowhere."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    roles: Annotated[tuple[Role, ...], Field(min_length=1)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class User(BaseModel):
    """Who may log in, and the scrypt hash of the password, as `python -m serving.keys` prints it."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    roles: Annotated[tuple[Role, ...], Field(min_length=1)]
    password: Annotated[str, Field(pattern=r"^scrypt:[0-9a-f]{32}:[0-9a-f]{128}$")]


def _field(variable: str, told: str, default: Any, **rules: Any) -> Any:
    return Field(default=default, validation_alias=variable, description=told, **rules)


class ServingSettings(BaseSettings):
    """Every setting of the service; each field's variable, meaning and default are in docs/settings.md."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", hide_input_in_errors=True, populate_by_name=True,
        env_ignore_empty=True,
    )  # fmt: skip

    # place
    profile: str = _field("ML_PROFILE", "profile of the feature store; `embedded` is the development"
                          " profile", "embedded", pattern=r"^[a-z][a-z0-9_-]{0,31}$")  # fmt: skip
    host: str = _field("ML_HOST", "address to listen on", "127.0.0.1", min_length=1)
    port: int = _field("ML_PORT", "port; 0: any free one", 5050, ge=0, le=65535)
    repo: Path | None = _field(
        "ML_REPO",
        "folder that the profile's relative places start from; unset: the repository",
        None,
    )
    data: Path = _field("ML_DATA", "folder of decisions, outcomes and jobs", Path("data/serving"))
    nef_url: AnyHttpUrl = _field(
        "NEF_API_URL", "the NEF to collect from", AnyHttpUrl("http://localhost:8080")
    )

    # model
    model: str = _field("ML_MODEL", "a bundle's folder, or `name@alias` or `name/version` in the"
                        " registry", "qos@champion", min_length=1)  # fmt: skip
    registry_uri: str | None = _field("ML_REGISTRY_URI", "MLflow's tracking and registry URI; unset:"
                                      " that of the pipeline", None)  # fmt: skip
    drift_every_s: float = _field(
        "ML_DRIFT_SECONDS", "between two looks at drift [s]; 0: never", 60.0, ge=0, le=86400
    )

    # decision
    confidence_floor: float = _field(
        "ML_CONFIDENCE_THRESHOLD", "least required confidence [0..1]", 0.5, ge=0, le=1
    )
    most_unknown: float = _field("ML_MOST_UNKNOWN", "share [0..1] of the model's gain that may rest on"
                                 " unknown or stale features; past it: fallback", 0.5, ge=0,
                                 le=1)  # fmt: skip
    interval_s: float = _field(
        "ML_HANDOVER_INTERVAL", "least between two handovers of a UE [s]", 2.0, ge=0, le=3600
    )
    handovers_a_minute: int = _field(
        "ML_HANDOVERS_A_MINUTE", "most of a UE in a minute", 3, ge=1, le=600
    )
    return_s: float = _field(
        "ML_RETURN_WINDOW", "within which going back needs more confidence [s]", 10.0, ge=0, le=3600
    )
    store_s: float = _field(
        "ML_STORE_SECONDS", "budget of a feature read [s]; past it: fallback", 0.03, gt=0, le=10
    )
    fresh_s: float = _field("ML_FRESHNESS_SECONDS", "age of the newest feature past which the service"
                            " is not ready [s]; 0: not looked at", 0.0, ge=0)  # fmt: skip

    # limits
    max_body_bytes: int = _field(
        "ML_MAX_BODY_BYTES", "longest request body [bytes]", 1 << 20, ge=1024, le=1 << 30
    )
    max_samples_bytes: int = _field(
        "ML_MAX_SAMPLES_BYTES",
        "longest body of training samples, feedback or rows to infer [bytes]",
        50 << 20, ge=1024, le=1 << 30,
    )  # fmt: skip
    body_s: float = _field("ML_BODY_SECONDS", "for a body to arrive [s]", 10.0, gt=0, le=600)
    answer_s: float = _field(
        "ML_ANSWER_SECONDS", "for an answer to begin [s]; past it: 503", 30.0, gt=0, le=3600
    )
    most_in_flight: int = _field(
        "ML_MAX_IN_FLIGHT", "requests under way at once; past it: 503", 256, ge=1, le=65536
    )
    most_pending: int = _field(
        "ML_MAX_PENDING", "asynchronous predictions that are kept", 1000, ge=1, le=1_000_000
    )
    shutdown_s: float = _field(
        "ML_SHUTDOWN_SECONDS", "for requests under way to end at shutdown [s]", 10.0, ge=0, le=600
    )

    # rates, per key and route group
    rates_on: bool = _field("RATELIMIT_ENABLED", "whether rates are limited", True)
    rate_login: RateText = _field("RATELIMIT_LOGIN", "logins of an address", "10/minute")
    rate_refresh: RateText = _field(
        "RATELIMIT_REFRESH", "refreshed tokens of an address", "30/hour"
    )
    rate_predict: RateText = _field(
        "RATELIMIT_PREDICT", "decisions, of the network's pace", "120000/minute"
    )
    rate_train: RateText = _field(
        "RATELIMIT_TRAIN", "training runs that are waited for", "10/minute"
    )
    rate_train_async: RateText = _field("RATELIMIT_TRAIN_ASYNC", "training jobs", "6/hour")
    rate_collect: RateText = _field("RATELIMIT_COLLECT", "collections from a NEF", "5/minute")
    rate_feedback: RateText = _field("RATELIMIT_FEEDBACK", "calls with outcomes", "6000/minute")
    rate_default: RateText = _field("RATELIMIT_DEFAULT", "all other calls", "600/minute")

    # training
    workers: int = _field("ASYNC_MODEL_WORKERS", "training processes at once", 1, ge=1, le=64)
    queue: int = _field("ASYNC_MODEL_QUEUE_SIZE", "jobs that may wait", 16, ge=0, le=100_000)
    training_s: float = _field(
        "MODEL_TRAINING_TIMEOUT", "that a training run may take [s]", 600.0, gt=0, le=86400
    )
    collect_s: float = _field(
        "COLLECTION_DURATION", "of a collection, unless asked [s]", 60.0, ge=1, le=3600
    )
    collect_every_s: float = _field(
        "COLLECTION_INTERVAL", "between two of its samples, unless asked [s]", 1.0, ge=1, le=60
    )

    # who may ask
    auth: Literal["on", "off", "automatic"] = _field("ML_AUTH", "whether keys or tokens are asked for;"
        " `off` only in the embedded profile on loopback; `automatic`: off exactly there, unless keys or"
        " users are set", "automatic")  # fmt: skip
    api_keys: dict[str, ApiKey] = _field("ML_API_KEYS", "JSON: name to {roles, sha256}; made by"
                                         " `python -m serving.keys key`", {}, repr=False)  # fmt: skip
    users: dict[str, User] = _field("ML_USERS", "JSON: name to {roles, password}; made by"
                                    " `python -m serving.keys user`", {}, repr=False)  # fmt: skip
    jwt_secret: SecretStr | None = _field(
        "JWT_SECRET_KEY", "signs tokens (HS256); at least 32 bytes; needed with users", None
    )
    token_s: int = _field("JWT_ACCESS_TOKEN_EXPIRES", "life of a token [s]", 1800, ge=1, le=86400)
    refresh_s: int = _field(
        "JWT_REFRESH_TOKEN_EXPIRES", "life of a refresh token [s]", 7 * 86400, ge=1, le=90 * 86400
    )
    metrics_token: SecretStr | None = _field(
        "METRICS_AUTH_TOKEN", "bearer token that /metrics asks for; unset: open to scrapers", None
    )

    # breakers
    store_failures: int = _field(
        "ML_BREAKER_STORE_FAILURES", "in a row that open the store's breaker", 5, ge=1, le=1000
    )
    store_open_s: float = _field(
        "ML_BREAKER_STORE_SECONDS", "that it stays open [s]", 0.5, gt=0, le=600
    )
    nef_failures: int = _field("ML_BREAKER_NEF_FAILURES", "as above, of the NEF", 5, ge=1, le=1000)
    nef_open_s: float = _field("ML_BREAKER_NEF_SECONDS", "as above [s]", 60.0, gt=0, le=3600)
    registry_failures: int = _field(
        "ML_BREAKER_REGISTRY_FAILURES", "as above, of the registry", 3, ge=1, le=1000
    )
    registry_open_s: float = _field(
        "ML_BREAKER_REGISTRY_SECONDS", "as above [s]", 30.0, gt=0, le=3600
    )

    # what it says
    log_level: Literal["debug", "info", "warning", "error"] = _field(
        "ML_LOG_LEVEL", "least level that is logged", "info"
    )
    access_log: bool = _field(
        "ML_ACCESS_LOG", "a line for every request; else for refused and slow ones", False
    )
    slow_s: float = _field(
        "ML_SLOW_SECONDS", "past which a request is slow [s]", 1.0, gt=0, le=3600
    )
    trace_endpoint: AnyHttpUrl | None = _field(
        "OTEL_EXPORTER_OTLP_ENDPOINT", "where OpenTelemetry traces go; unset: none are made", None
    )
    trace_share: float = _field(
        "ML_TRACE_SHARE", "of requests that are traced [0..1]", 0.01, ge=0, le=1
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.auth == "off" and not (self.profile == "embedded" and loopback(self.host)):
            raise ValueError("ML_AUTH: `off` only in the embedded profile on a loopback address")
        if self.secured and not self.api_keys and not self.users:
            raise ValueError(
                "ML_API_KEYS or ML_USERS must be set: keys are asked for unless the profile is embedded"
                " and the address is loopback"
            )
        secret = self.jwt_secret.get_secret_value().encode() if self.jwt_secret else b""
        if self.jwt_secret is not None and len(secret) < MIN_SECRET_BYTES:
            raise ValueError(f"JWT_SECRET_KEY: at least {MIN_SECRET_BYTES} bytes")
        if self.users and self.jwt_secret is None:
            raise ValueError("JWT_SECRET_KEY must be set where ML_USERS is")
        hashes = [one.sha256 for one in self.api_keys.values()]
        if len(set(hashes)) < len(hashes):
            raise ValueError("ML_API_KEYS: one key stands under two names")
        return self

    @property
    def secured(self) -> bool:
        """Whether keys or tokens are asked for."""
        if self.auth != "automatic":
            return self.auth == "on"
        given = bool(self.api_keys or self.users)
        return given or self.profile != "embedded" or not loopback(self.host)


def loopback(host: str) -> bool:
    """Whether only this machine reaches an address; a name other than localhost is none."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def variables() -> dict[str, str]:
    """Field by variable."""
    return {
        str(field.validation_alias): name for name, field in ServingSettings.model_fields.items()
    }


def unknown_variables(environment: Mapping[str, str] | None = None) -> list[str]:
    """A sentence for each variable that looks like one of ours and is none."""
    known = variables()
    told = []
    for name in sorted(os.environ if environment is None else environment):
        if name.startswith(PREFIXES) and name not in known and name not in OF_OTHERS:
            near = difflib.get_close_matches(name, known, 1)
            told.append(f"{name} is no setting" + (f"; did you mean {near[0]}?" if near else ""))
    return told


def read_settings(**changes: object) -> ServingSettings:
    """The environment's settings with some changed; `QosError` names each fault, never its value."""
    try:
        return ServingSettings(**changes)  # type: ignore[arg-type]
    except ValidationError as error:
        told = [p if place == "body" else f"{place}: {p}" for place, p in faults_of(error)]
    except SettingsError as error:
        told = [f"{_variable(str(error))}: no JSON"]
    raise QosError(f"settings of the decision service: {'; '.join(told)}")


def _variable(told: str) -> str:
    """The variable that an error speaks of; its text is not repeated, for it may hold the value."""
    fields = {name: variable for variable, name in variables().items()}
    return next((fields[name] for name in fields if f'"{name}"' in told), "a variable")
