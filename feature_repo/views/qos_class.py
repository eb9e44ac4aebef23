"""The standardised 5QI table as features (3GPP TS 23.501, table 5.7.4-1)."""

from datetime import UTC, datetime

import polars as pl

from feature_repo.windows import Feature, StaticView
from schemas.five_qi import FIVE_QIS

_SOURCE = "3GPP TS 23.501, table 5.7.4-1"
_VALID_SINCE = datetime(2000, 1, 1, tzinfo=UTC)  # before any measurement that a contract admits


def _feature(name: str, description: str, unit: str, low: float, high: float) -> Feature:
    return Feature(
        name,
        "qos_class",
        description,
        unit,
        low,
        high,
        _SOURCE,
        f"5QI table.{name}",
        "table",
        None,
    )


def _rows() -> pl.DataFrame:
    """One row a 5QI: five_qi (Int64), event_timestamp, arrival_timestamp, the features (Float64)."""
    table = FIVE_QIS.values()
    return pl.DataFrame(
        {
            "five_qi": [row.value for row in table],
            "event_timestamp": _VALID_SINCE,
            "arrival_timestamp": _VALID_SINCE,
            "qos_packet_delay_budget_ms": [row.packet_delay_budget_ms for row in table],
            "qos_packet_error_rate": [row.packet_error_rate for row in table],
            "qos_priority_level": [float(row.priority_level) for row in table],
            "qos_guaranteed_rate": [float(row.resource_type != "Non-GBR") for row in table],
        },
        schema_overrides={
            "five_qi": pl.Int64,
            "event_timestamp": pl.Datetime("us", "UTC"),
            "arrival_timestamp": pl.Datetime("us", "UTC"),
        },
    ).sort("five_qi")


QOS_CLASS = StaticView(
    name="qos_class",
    entity="qos",
    keys=("five_qi",),
    description="characteristics of the standardised 5QI values",
    declared=(
        _feature(
            "qos_packet_delay_budget_ms",
            "packet delay budget, one way",
            "ms",
            0,
            60_000,
        ),
        _feature("qos_packet_error_rate", "packet error rate, 0 to 1", "1", 0, 1),
        _feature("qos_priority_level", "priority level, 1 is the most important", "1", 1, 127),
        _feature("qos_guaranteed_rate", "1: guaranteed bit rate (GBR), 0: not", "1", 0, 1),
    ),
    rows=_rows,
)
