"""Numbers in messages."""

from typing import Any

from pydantic import Field

from schemas.measurement import Quantity


def measured(quantity: Quantity, absent: str = "unknown") -> Any:
    """An optional number with the range, unit and meaning of its contract column; absent: what null is."""
    told = f"{quantity.description} [{quantity.unit}]; null: {absent}"
    return Field(default=None, ge=quantity.low, le=quantity.high, description=told)
