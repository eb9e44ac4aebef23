"""What the decision service is asked: fields, units and ranges are those of the contracts.

Unknown fields are refused, as are NaN and infinities. A null or absent observation is unknown: it is
never taken for a value.
"""

from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from schemas import measurement as m
from schemas.five_qi import FIVE_QIS
from schemas.nef.camara import QosProfile
from schemas.service_class import ServiceClassName
from serving.messages.measured import measured

MOST_CANDIDATES = 64
MOST_OVERRIDES = 256
MOST_IN_BATCH = 500


def _no_number(given: Any) -> Any:
    """Raises ValueError for seconds since 1970, be it a number or a text."""
    if not isinstance(given, datetime) and not (isinstance(given, str) and "-" in given[1:]):
        raise ValueError("must be a time of RFC 3339 with its zone, as 2026-03-01T12:00:00Z")
    return given


Moment = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_no_number)]
CellId = Annotated[str, Field(min_length=1, max_length=128, description="the cell")]


def _known_five_qi(schema: dict[str, Any]) -> None:
    schema["enum"] = sorted(FIVE_QIS)


FiveQi = Annotated[
    int,
    Field(description="standardised 5G QoS identifier", ge=1, le=255),
    Field(json_schema_extra=_known_five_qi),
]


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


class Observed(_Message):
    """What the flow got over the last second in the serving cell."""

    downlink_mbps: float | None = measured(m.downlink_mbps)
    downlink_delay_ms: float | None = measured(m.downlink_delay_ms)
    jitter_ms: float | None = measured(m.jitter_ms)
    packet_loss_ratio: float | None = measured(m.packet_loss_ratio)


class Candidate(_Message):
    """A cell that could serve, as the UE hears it and as the network knows it."""

    cell_id: CellId
    rsrp_dbm: float | None = measured(m.rsrp_dbm)
    rsrq_db: float | None = measured(m.rsrq_db)
    sinr_db: float | None = measured(m.sinr_db)
    prb_used_ratio: float | None = measured(m.prb_used_ratio)
    active_ue_count: float | None = measured(m.active_ue_count)


class Thresholds(_Message):
    """What is asked, explicitly; what is null is not asked."""

    downlink_mbps: float | None = measured(m.requested_downlink_mbps)
    delay_ms: float | None = measured(m.requested_delay_ms)
    loss_ratio: float | None = measured(m.requested_loss_ratio)
    jitter_ms: float | None = measured(m.jitter_ms)

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if not any(value is not None for value in self.__dict__.values()):
            raise ValueError("no threshold is given; give one of " + ", ".join(self.__dict__))
        return self


EXAMPLE: dict[str, Any] = {
    "ue_id": "imsi-001010000000001",
    "service_class": "embb",
    "connected_to": "00101-000001001",
    "observed_qos": {"downlink_mbps": 42.5, "downlink_delay_ms": 18.0, "packet_loss_ratio": 0.0},
    "candidates": [
        {"cell_id": "00101-000001001", "rsrp_dbm": -97.5, "rsrq_db": -12.0, "sinr_db": 6.5},
        {"cell_id": "00101-000001002", "rsrp_dbm": -92.0, "rsrq_db": -10.5, "sinr_db": 9.0},
    ],
}


class PredictRequest(_Message):
    """A UE, the cells it could be served by, and what it asks for.

    Thresholds come from `thresholds`, else `qos_profile`, else `service_class`, else the class of the
    5QI, else the 5QI table; without any of them the 5QI is 9, the default bearer.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    ue_id: Annotated[
        str,
        Field(
            min_length=1, max_length=128,
            description="subscriber id (becomes its pseudonym on entry) or its pseudonym",
        ),
    ]  # fmt: skip
    event_timestamp: Annotated[
        Moment | None, Field(description="when the observations were true; kept in the log")
    ] = None
    five_qi: FiveQi | None = None
    service_class: ServiceClassName | None = None
    qos_profile: QosProfile | None = None
    thresholds: Thresholds | None = None
    priority: Annotated[
        int | None, Field(ge=1, le=10, description="10 is the most important; null: of the class")
    ] = None
    connected_to: CellId | None = None
    speed_mps: float | None = measured(m.speed_mps)
    observed_qos: Observed | None = None
    candidates: Annotated[
        list[Candidate] | None,
        Field(max_length=MOST_CANDIDATES, description="null: those that the store knows the UE hears"),
    ] = None  # fmt: skip
    features: Annotated[
        dict[str, float] | None,
        Field(
            max_length=MOST_OVERRIDES,
            description="model features by name that replace the store's, marked as overridden",
        ),
    ] = None
    explain: Annotated[bool, Field(description="add contributions and every feature's status")] = (
        False
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.five_qi is not None and self.five_qi not in FIVE_QIS:
            raise ValueError(f"five_qi: {self.five_qi} is not standardised; {sorted(FIVE_QIS)}")
        cells = [one.cell_id for one in self.candidates or ()]
        if len(set(cells)) < len(cells):
            twice = next(cell for cell in cells if cells.count(cell) > 1)
            raise ValueError(f"candidates: cell {twice!r} is named twice")
        return self


class BatchRequest(_Message):
    """Several requests answered with one read and one scoring."""

    requests: Annotated[list[PredictRequest], Field(min_length=1, max_length=MOST_IN_BATCH)]
