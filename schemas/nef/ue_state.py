"""A UE's polled state in the emulators' dialects: its cell, the radio of the cells about it, and where
the NEF says it, when that was, what its last second gave it and its exact position."""

from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from schemas.nef.wire import Int, Reference, Wire


def _number(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("a truth value is no number")
    return value


def _blank(value: object) -> object:
    """Emulators spell 'no cell' as null, an empty text or text None."""
    return None if value in ("", "None", "null") else value


def _utc(value: datetime) -> datetime:
    return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC)


Time = Annotated[datetime, AfterValidator(_utc)]
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
    active_ue_count: Annotated[Level, Field(ge=0)] | None = None


class UeQos(Wire):
    """What a UE's flow got over its last second; None: not measured. Ranges are the tables' to check."""

    downlink_mbps: Level | None = None
    uplink_mbps: Level | None = None
    downlink_delay_ms: Level | None = None
    uplink_delay_ms: Level | None = None
    jitter_ms: Level | None = None
    packet_loss_ratio: Level | None = None


class UeState(Wire):
    """cell_id None: no coverage; cells: none where the emulator has no radio; event_timestamp: when
    the state was, None where the NEF does not say (a time without zone is UTC)."""

    other_names: ClassVar[dict[str, str]] = {
        "cell_id_hex": "cell_id",
        "connected_to": "cell_id",
        "gNBId": "gnb_id",
        "gnb_id_hex": "gnb_id",
        "enodeBId": "gnb_id",
        "latitude_deg": "latitude",
        "longitude_deg": "longitude",
    }

    cell_id: Cell = None
    gnb_id: Cell = None
    cells: tuple[CellRadio, ...] = ()
    event_timestamp: Time | None = None
    five_qi: Int | None = None
    latitude: Annotated[Level, Field(ge=-90, le=90)] | None = None
    longitude: Annotated[Level, Field(ge=-180, le=180)] | None = None
    speed_mps: Level | None = None
    qos: UeQos | None = None

    @model_validator(mode="before")
    @classmethod
    def _read_dialects(cls, content: Any) -> Any:
        """`cell_id` beside `cell_id_hex` is a database key; `rf_metrics` and `rsrps` map cells."""
        if not isinstance(content, dict):
            return content
        known = {"cell_id", "gnb_id", "cells", *cls.other_names, "rf_metrics", "rsrps"}
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


class KnownUe(Wire):
    """A UE of the inventory by all its names."""

    other_names: ClassVar[dict[str, str]] = {
        "ip_address_v4": "ipv4",
        "ip_address_v6": "ipv6",
        "mac_address": "mac",
        "external_identifier": "external_id",
    }

    supi: Reference
    ipv4: Cell = None
    ipv6: Cell = None
    mac: Cell = None
    external_id: Cell = None
    msisdn: Cell = None
    five_qi: Int | None = None

    def names(self) -> list[str]:
        """All but the supi."""
        known = (self.ipv4, self.ipv6, self.mac, self.external_id, self.msisdn)
        return [one for one in known if one is not None]
