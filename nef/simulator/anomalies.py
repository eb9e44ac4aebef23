"""What goes wrong on purpose, and its labels: in the air, in cells, in reports; and upgrades."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl

from nef.simulator.load import Background
from nef.simulator.mobility import Tracks
from nef.simulator.params import SimulatorParams
from nef.simulator.radio import Air
from nef.simulator.tables import SECOND_US, Names
from nef.simulator.topology import SECTORS, Topology, geographic
from nef.simulator.trace import Sessions

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

PLACES = ("interference", "blind_spot")
CELLS = ("sleeping_cell", "congestion")
REPORTS = ("sensor_fault", "clock_skew", "late_reports", "duplicated_reports")
KINDS = PLACES + CELLS + REPORTS
UPGRADE = "software_upgrade"

LASTS_S = (60, 240)
REACH_M = (80.0, 200.0)
NOISE_RISE_DB = (15.0, 30.0)
BLIND_DB = (30.0, 45.0)
CONGESTED_USERS = 30.0
SKEW_S = (2.0, 30.0)
RESTART_S = 180  # a site that takes new software is silent
NEXT_SITE_S = 600
SILENT = 1e-12  # of its power, from a cell that is switched off

_TIME = pl.Datetime("us", "UTC")
LABELS: dict[str, pl.DataType] = {
    "anomaly_id": pl.String(), "kind": pl.String(), "cell_id": pl.String(), "ue_id": pl.String(),
    "session_id": pl.String(), "start": _TIME, "end": _TIME, "latitude_deg": pl.Float64(),
    "longitude_deg": pl.Float64(), "radius_m": pl.Float64(), "strength": pl.Float64(),
}  # fmt: skip


@dataclass(frozen=True)
class Anomaly:
    """From tick `first` of a wave until before tick `end`; cell, session: index, or -1 for none.

    strength: rise of the noise or fall of the signal in dB, skew in s, else 0; an upgrade's is the
    gain in rate. place_m, radius_m: where it is felt, of the kinds of PLACES.
    """

    kind: str
    wave: int
    first: int
    end: int
    cell: int = -1
    session: int = -1
    strength: float = 0.0
    place_m: tuple[float, float] = (np.nan, np.nan)
    radius_m: float = np.nan


def planned(
    params: SimulatorParams, sessions: Sessions, tracks: Tracks, air: Air, names: Names,
    random: np.random.Generator,
) -> tuple[Anomaly, ...]:  # fmt: skip
    """params.anomalies of each kind, each where and when some UE meets it, and the upgrades."""
    made = []
    for kind in KINDS:
        for session in random.integers(0, sessions.wave.size, params.anomalies):
            first, last = int(sessions.first[session]), int(sessions.last[session])
            lasts = min(int(random.integers(*LASTS_S)), last - first)
            start = first + int(random.integers(0, last - first - lasts + 1))
            middle = start + lasts // 2
            place = _place(kind, tracks, middle, int(session))
            made.append(
                Anomaly(
                    kind=kind,
                    wave=int(sessions.wave[session]),
                    first=start,
                    end=start + lasts,
                    cell=-1 if kind in REPORTS else int(air.measured_dbm[middle, session].argmax()),
                    session=int(session) if kind in REPORTS else -1,
                    strength=_strength(kind, random),
                    place_m=place,
                    radius_m=float(random.uniform(*REACH_M)) if kind in PLACES else np.nan,
                )
            )
    return (*made, *_upgrades(params, names, air.received_mw.shape))


def _strength(kind: str, random: np.random.Generator) -> float:
    if kind == "clock_skew":
        return float(random.uniform(*SKEW_S) * random.choice([-1.0, 1.0]))
    ranges = {"interference": NOISE_RISE_DB, "blind_spot": BLIND_DB}
    return float(random.uniform(*ranges[kind])) if kind in ranges else 0.0


def _place(kind: str, tracks: Tracks, tick: int, session: int) -> tuple[float, float]:
    if kind not in PLACES:
        return np.nan, np.nan
    return float(tracks.east_m[tick, session]), float(tracks.north_m[tick, session])


def _upgrades(params: SimulatorParams, names: Names, shape: tuple[int, ...]) -> tuple[Anomaly, ...]:
    """For each cell and wave: the seconds of its restart and all that come after it."""
    if not params.upgrade_after_h:
        return ()
    ticks, _, cells = shape
    start_us = (
        int(params.start.timestamp() * 1e6) + round(params.upgrade_after_h * 3600) * SECOND_US
    )
    made = []
    for cell in range(cells):
        off_s = start_us // SECOND_US + NEXT_SITE_S * (cell // SECTORS)
        for wave, wave_us in enumerate(names.wave_us):
            since = int(off_s - wave_us // SECOND_US)
            if since < ticks:
                made.append(
                    Anomaly(UPGRADE, wave, since, ticks, cell, strength=params.upgrade_gain)
                )
    return tuple(made)


def spoil_air(air: Air, tracks: Tracks, wave: Ints, wrong: Sequence[Anomaly]) -> Air:
    """The air with what disturbs it; wave: (sessions,)."""
    if not any(one.kind in (*PLACES, UPGRADE) for one in wrong):
        return air
    received, measured = air.received_mw.copy(), air.measured_dbm.copy()
    extra = np.zeros(received.shape[:2])
    for one in wrong:
        who = np.flatnonzero(wave == one.wave)
        if one.kind in PLACES:
            time = slice(max(one.first, 0), one.end)
            east = tracks.east_m[time][:, who] - one.place_m[0]
            north = tracks.north_m[time][:, who] - one.place_m[1]
            near = np.exp(-((np.hypot(east, north) / one.radius_m) ** 4))
            if one.kind == "interference":
                extra[time, who] += near * air.noise_mw * 10.0 ** (one.strength / 10.0)
            else:
                received[time, who] *= 10.0 ** (-near * one.strength / 10.0)[..., None]
                measured[time, who] -= (near * one.strength)[..., None]
        elif one.kind == UPGRADE:
            time = slice(max(one.first, 0), max(one.first + RESTART_S, 0))
            received[time, who, one.cell] *= SILENT
            measured[time, who, one.cell] = -156.0
    return replace(
        air,
        received_mw=received,
        measured_dbm=np.clip(measured, -156.0, -31.0),
        interference_mw=extra,
    )


def spoil_background(background: Background, wrong: Sequence[Anomaly]) -> Background:
    """The cells' load and ability with what is wrong with cells."""
    if not any(one.kind in (*CELLS, UPGRADE) for one in wrong):
        return background
    demand, users = background.demand.copy(), background.users.copy()
    ability = np.ones_like(demand)
    for one in wrong:
        at = (slice(max(one.first, 0), one.end), one.wave, one.cell)
        if one.kind == "congestion":
            demand[at] = np.maximum(demand[at], 0.97)
            users[at] += CONGESTED_USERS
        elif one.kind == "sleeping_cell":
            demand[at], users[at], ability[at] = 0.0, 0.0, 0.0
        elif one.kind == UPGRADE:
            ability[at] *= one.strength
            off = (slice(max(one.first, 0), max(one.first + RESTART_S, 0)), one.wave, one.cell)
            demand[off], users[off], ability[off] = 0.0, 0.0, 0.0
    return Background(demand, users, ability)


def misreport(
    tables: dict[str, pl.DataFrame], wrong: Sequence[Anomaly], names: Names
) -> dict[str, pl.DataFrame]:
    """The tables after what is wrong with reports; rows stay in order of event time."""
    for one in wrong:
        if one.kind in REPORTS:
            session = names.session_id[one.session]
            start, end = (pl.lit(t).cast(pl.Datetime("us", "UTC")) for t in _span_us(one, names))
            mine = (pl.col("session_id") == session) & pl.col("event_timestamp").is_between(
                start, end, "left"
            )
            tables = {
                name: table
                if "session_id" not in table.columns or name == "qos_request"
                else _misreport(name, table, one, mine, end)
                for name, table in tables.items()
            }
    return tables


def _misreport(
    name: str, table: pl.DataFrame, one: Anomaly, mine: pl.Expr, end: pl.Expr
) -> pl.DataFrame:
    event, arrival = pl.col("event_timestamp"), pl.col("arrival_timestamp")
    if one.kind == "sensor_fault":
        if name != "ue_radio":
            return table
        stuck = ("rsrp_dbm", "rsrq_db", "sinr_db", "cqi", "rssi_dbm")
        return table.with_columns(
            pl.when(mine).then(pl.col(column).filter(mine).first()).otherwise(column).alias(column)
            for column in stuck
        )
    if one.kind == "clock_skew":
        skew = pl.duration(microseconds=int(one.strength * 1e6))
        return table.with_columns(
            pl.when(mine).then(event + skew).otherwise(event).alias("event_timestamp")
        ).sort("event_timestamp", maintain_order=True)
    if one.kind == "late_reports":
        after = end + pl.duration(milliseconds=pl.int_range(pl.len()) % 500 + 20)
        return table.with_columns(
            pl.when(mine).then(pl.max_horizontal(arrival, after)).otherwise(arrival)
            .alias("arrival_timestamp")
        )  # fmt: skip
    again = table.filter(mine).with_columns(arrival + pl.duration(milliseconds=900))
    return pl.concat([table, again]).sort("event_timestamp", maintain_order=True)


def labels(wrong: Sequence[Anomaly], topology: Topology, names: Names) -> pl.DataFrame:
    """A row of LABELS for each, in order of start; an upgrade's is its cell's restart, once.

    cell_id of what is bound to a place is the cell that was strongest there. Null: does not apply.
    """
    rows, upgraded = [], set()
    for one in wrong:
        start, end = _span_us(one, names)
        if one.kind == UPGRADE:
            if one.cell in upgraded:
                continue
            upgraded.add(one.cell)
            end = start + RESTART_S * SECOND_US
        latitude, longitude = geographic(*(np.array([part]) for part in one.place_m))
        rows.append(
            {
                "kind": one.kind,
                "cell_id": topology.cell_ids[one.cell] if one.cell >= 0 else None,
                "ue_id": str(names.ue_id[one.session]) if one.session >= 0 else None,
                "session_id": str(names.session_id[one.session]) if one.session >= 0 else None,
                "start": start,
                "end": end,
                "latitude_deg": float(latitude[0]),
                "longitude_deg": float(longitude[0]),
                "radius_m": one.radius_m,
                "strength": one.strength,
            }
        )
    raw = {n: pl.Int64() if n in ("start", "end") else t for n, t in LABELS.items()}
    del raw["anomaly_id"]
    frame = pl.DataFrame(rows, schema=raw).sort("start", "kind", "cell_id")
    number = pl.int_range(1, pl.len() + 1).cast(pl.String).str.zfill(4)
    return frame.with_columns(
        pl.format("anomaly-{}", number).alias("anomaly_id"),
        pl.col("latitude_deg", "longitude_deg", "radius_m").fill_nan(None),
    ).select(pl.col(name).cast(dtype) for name, dtype in LABELS.items())


def _span_us(one: Anomaly, names: Names) -> tuple[int, int]:
    phase = int(names.phase_us[one.session]) if one.session >= 0 else 0
    start = int(names.wave_us[one.wave]) + phase
    return start + one.first * SECOND_US, start + one.end * SECOND_US
