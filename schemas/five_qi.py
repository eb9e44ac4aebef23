"""The standardised 5QI values with their characteristics (3GPP TS 23.501, table 5.7.4-1)."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ResourceType = Literal["GBR", "Non-GBR", "Delay-critical GBR"]


@dataclass(frozen=True)
class FiveQi:
    """One row of the table.

    priority_level: 1 is the most important; packet_delay_budget_ms: UE to UPF, one way;
    packet_error_rate: share of packets, 0..1; maximum_burst_bytes and averaging_window_ms: None
    where the table states none.
    """

    value: int
    resource_type: ResourceType
    priority_level: int
    packet_delay_budget_ms: float
    packet_error_rate: float
    maximum_burst_bytes: int | None
    averaging_window_ms: int | None
    example_services: str


def _read(path: Path) -> dict[int, FiveQi]:
    with path.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    return {
        int(row["five_qi"]): FiveQi(
            value=int(row["five_qi"]),
            resource_type=row["resource_type"],  # type: ignore[arg-type]
            priority_level=int(row["default_priority_level"]),
            packet_delay_budget_ms=float(row["packet_delay_budget_ms"]),
            packet_error_rate=float(row["packet_error_rate"]),
            maximum_burst_bytes=int(row["default_max_data_burst_volume_bytes"] or 0) or None,
            averaging_window_ms=int(row["default_averaging_window_ms"] or 0) or None,
            example_services=row["example_services"],
        )
        for row in rows
    }


FIVE_QIS: dict[int, FiveQi] = _read(Path(__file__).with_name("five_qi.csv"))
DEFAULT_FIVE_QI = 9  # the default bearer: TCP-based best effort
