"""A UE's polled state in the emulators' dialects: its cell, and the radio of the cells about it.

Positions are read by nobody here: they are left to sources that coarsen them.
"""

from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, model_validator

from schemas.nef.wire import Reference, Wire


def _number(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("a truth value is no number")
    return value


def _blank(value: object) -> object:
    """Emulators spell 'no cell' as null, an empty text or text None."""
    return None if value in ("", "None", "null") else value


Level = Annotated[float, BeforeValidator(_number)]
Cell = Annotated[Reference | None, BeforeValidator(_blank)]


class CellRadio(Wire):
    """One cell as the UE hears it, in the reportable ranges of TS 38.133; load 0..1."""

    other_names: ClassVar[dict[str, str]] = {
        "rsrp": "rsrp_dbm",
        "rsrq": "rsrq_db",
        "sinr": "sinr_db",
        "cell_load": "prb_used_ratio",
    }

    cell_id: Reference
    rsrp_dbm: Annotated[Level, Field(ge=-156, le=-31)] | None = None
    rsrq_db: Annotated[Level, Field(ge=-43, le=20)] | None = None
    sinr_db: Annotated[Level, Field(ge=-30, le=40)] | None = None
    prb_used_ratio: Annotated[Level, Field(ge=0, le=1)] | None = None


class UeState(Wire):
    """cell_id None: no coverage; cells: none where the emulator has no radio."""

    other_names: ClassVar[dict[str, str]] = {
        "cell_id_hex": "cell_id",
        "connected_to": "cell_id",
        "gNBId": "gnb_id",
        "gnb_id_hex": "gnb_id",
        "enodeBId": "gnb_id",
    }

    cell_id: Cell = None
    gnb_id: Cell = None
    cells: tuple[CellRadio, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _read_dialects(cls, content: Any) -> Any:
        """`cell_id` beside `cell_id_hex` is a database key; `rf_metrics` and `rsrps` map cells."""
        if not isinstance(content, dict):
            return content
        known = {*cls.model_fields, *cls.other_names, "rf_metrics", "rsrps"}
        if known.isdisjoint(content):
            raise ValueError("no field of a UE's state")
        found = dict(content)
        if "cell_id_hex" in found:
            found.pop("cell_id", None)
        if isinstance(metrics := found.pop("rf_metrics", None), dict):
            found["cells"] = [
                {"cell_id": cell} | values if isinstance(values, dict) else values
                for cell, values in metrics.items()
            ]
        elif isinstance(levels := found.pop("rsrps", None), dict):
            found["cells"] = [{"cell_id": c, "rsrp_dbm": level} for c, level in levels.items()]
        return found
