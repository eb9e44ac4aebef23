"""From a trace to the canonical tables of `schemas.tables`, each row with its two times."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from nef.simulator import handover, radio, services
from nef.simulator.mobility import Tracks
from nef.simulator.services import PROFILES, Requests
from nef.simulator.topology import PLMN, Topology, geographic
from nef.simulator.trace import Sessions, Trace
from schemas.five_qi import FIVE_QIS
from schemas.tables import dtypes

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SECOND_US = 1_000_000
NEIGHBOURS = 3
CELL_REPORT_S = 10
POSITION_ERROR_M = 3.0
UE_POWER_DBM = 23.0


@dataclass(frozen=True)
class Names:
    """Clock and names: wave_us, phase_us: when a wave starts and a session's rows fall (us)."""

    wave_us: Ints
    phase_us: Ints
    ue_id: npt.NDArray[np.str_]
    session_id: npt.NDArray[np.str_]


def supi(number: int) -> str:
    """SUPI of a subscriber of the test network (3GPP TS 23.003, 2.2A): number 1 is the first."""
    return f"imsi-{PLMN}{number:010d}"


def tables(
    topology: Topology,
    tracks: Tracks,
    air: radio.Air,
    sessions: Sessions,
    trace: Trace,
    asked: Requests,
    names: Names,
    random: np.random.Generator,
) -> dict[str, pl.DataFrame]:
    """All canonical tables, rows in order of event time, without late, double or faulty ones."""
    tick, session = np.nonzero(_active(sessions, trace))
    when = names.wave_us[sessions.wave[session]] + tick * SECOND_US + names.phase_us[session]
    serving = trace.serving[tick, session]
    keys = {
        "ue_id": names.ue_id[session],
        "session_id": names.session_id[session],
        "cell_id": _cell_names(topology, serving),
        "event_timestamp": when,
    }
    made = {
        "ue_radio": keys | _radio(trace, tick, session, serving),
        "ue_neighbour": _neighbours(topology, air, keys, tick, session, serving),
        "ue_flow": keys | _flow(air, sessions, trace, tick, session, random),
        "ue_motion": keys | _motion(tracks, tick, session, random),
        "cell_load": _cell_load(topology, sessions, trace, names),
        "qos_request": _requests(topology, sessions, trace, asked, names),
        "network_event": _events(topology, sessions, trace, names, random),
    }
    return {name: _frame(name, columns, random) for name, columns in made.items()}


def _active(sessions: Sessions, trace: Trace) -> npt.NDArray[np.bool_]:
    ticks = np.arange(trace.serving.shape[0])[:, None]
    return np.asarray((sessions.first <= ticks) & (ticks < sessions.last))


def _cell_names(topology: Topology, cells: Ints) -> npt.NDArray[np.object_]:
    names = np.array([*topology.cell_ids, None], dtype=object)  # -1, nobody, is the last: null
    return names[cells]


def _radio(trace: Trace, tick: Ints, session: Ints, serving: Ints) -> dict[str, object]:
    columns = {
        name: np.where(serving == handover.NOBODY, np.nan, getattr(trace, name)[tick, session])
        for name in ("rsrp_dbm", "rsrq_db", "sinr_db", "cqi", "rssi_dbm")
    }
    limits = {"rsrq_db": (-43.0, 20.0), "sinr_db": (-30.0, 40.0), "rssi_dbm": (-120.0, -10.0)}
    for name, (low, high) in limits.items():
        columns[name] = np.clip(columns[name], low, high)
    for name in ("rsrp_dbm", "rsrq_db", "sinr_db", "rssi_dbm"):
        columns[name] = (
            np.round(columns[name] * 2.0) / 2.0
        )  # half a dB, as RSRQ and SINR are reported: TS 38.133, 10.1.11
    return {"rat": np.full(tick.size, "NR"), **columns}


def _neighbours(
    topology: Topology,
    air: radio.Air,
    keys: Mapping[str, npt.NDArray[np.generic]],
    tick: Ints,
    session: Ints,
    serving: Ints,
) -> dict[str, object]:
    measured = air.measured_dbm[tick, session]
    every = np.arange(tick.size)
    served = serving != handover.NOBODY
    own = np.where(served, measured[every, serving], np.nan)
    ranked = measured.copy()
    ranked[every[served], serving[served]] = np.inf  # the serving cell comes first
    order = np.argsort(-ranked, axis=1, kind="stable")[:, : NEIGHBOURS + 1]
    level = np.take_along_axis(measured, order, axis=1)
    total = (air.received_mw[tick, session] * 0.5).sum(axis=1) + air.noise_mw
    rank = np.where(served, 0, 1)[:, None] + np.arange(order.shape[1])
    kept = (rank <= NEIGHBOURS) & ((rank == 0) | (level >= handover.DETECTABLE_DBM))
    row, place = np.nonzero(kept)
    level = level[row, place]
    quality = 10.0 * np.log10(10.0 ** (level / 10.0) / (12.0 * total[row]))
    return {
        **{name: keys[name][row] for name in ("ue_id", "session_id", "event_timestamp")},
        "rank": rank[row, place],
        "cell_id": _cell_names(topology, order[row, place]),
        "rat": np.full(row.size, "NR"),
        "rsrp_dbm": np.round(level, 1),
        "rsrq_db": np.round(np.clip(quality, -43.0, 20.0), 1),
        "rsrp_offset_db": np.round(level - own[row], 1),
    }


def _flow(
    air: radio.Air,
    sessions: Sessions,
    trace: Trace,
    tick: Ints,
    session: Ints,
    random: np.random.Generator,
) -> dict[str, object]:
    profile = sessions.profile[session]
    loss = trace.loss[tick, session]
    down = trace.downlink_mbps[tick, session]
    serving = trace.serving[tick, session]
    served = serving != handover.NOBODY
    # The uplink is limited by the UE's power: path gain seen on the serving cell's RSRP.
    element = radio.CELL_POWER_DBM - 10.0 * np.log10(12.0 * air.prbs)
    gain_db = trace.rsrp_dbm[tick, session] - element
    per_element = UE_POWER_DBM - 10.0 * np.log10(12.0 * air.prbs / 4.0)
    uplink_sinr = np.minimum(per_element + gain_db - 10.0 * np.log10(air.noise_mw) - 6.0, 25.0)
    efficiency = radio.EFFICIENCY[radio.cqi_of(uplink_sinr)]
    most = efficiency * air.prbs / 4.0 * radio.PRB_HZ / 1e6 * 0.25 * radio.USER_SHARE
    up = np.minimum(services.column("uplink_ratio")[profile] * down, most)
    blocks = 0.08 + 0.6 / (1.0 + np.exp((uplink_sinr + 2.0) / 1.5))
    up_delay = services.column("core_ms")[profile] + 5.0 + 4.0 * blocks / (1.0 - blocks)
    up_delay = up_delay * np.exp(random.normal(0.0, 0.15, tick.size))
    down_delay = trace.downlink_delay_ms[tick, session]
    bits = 8.0 * services.column("packet_bytes")[profile]
    received = down * 1e6 / bits
    lost = np.where(loss < 1.0, received * loss / np.maximum(1.0 - loss, 1e-9), np.nan)
    up_lost = random.binomial(
        np.rint(up * 1e6 / bits).astype(np.int64), 1e-5 + 0.02 * np.maximum(blocks - 0.15, 0.0) ** 2
    )
    full_buffer = services.column("full_buffer")[profile] > 0
    return {
        "five_qi": np.array([p.five_qi for p in PROFILES])[profile],
        "traffic": np.where(full_buffer, "full_buffer", "interactive"),
        "downlink_mbps": down,
        "uplink_mbps": np.where(served, up, 0.0),
        "downlink_capacity_mbps": trace.capacity_mbps[tick, session],
        "downlink_delay_ms": down_delay,
        "uplink_delay_ms": np.where(served, up_delay, np.nan),
        "round_trip_ms": np.where(served, down_delay + up_delay + 1.0, np.nan),
        "jitter_ms": trace.jitter_ms[tick, session],
        "downlink_lost_packets": np.rint(lost),
        "uplink_lost_packets": np.where(served, up_lost, np.nan),
        "packet_loss_ratio": loss,
    }


def _motion(
    tracks: Tracks, tick: Ints, session: Ints, random: np.random.Generator
) -> dict[str, object]:
    east = tracks.east_m[tick, session] + random.normal(0.0, POSITION_ERROR_M, tick.size)
    north = tracks.north_m[tick, session] + random.normal(0.0, POSITION_ERROR_M, tick.size)
    latitude, longitude = geographic(east, north)
    error = random.normal(0.0, 0.2, tick.size)
    return {
        "latitude_deg": latitude,
        "longitude_deg": longitude,
        "speed_mps": np.abs(tracks.speed_mps[tick, session] + error),
    }


def _cell_load(
    topology: Topology, sessions: Sessions, trace: Trace, names: Names
) -> dict[str, object]:
    """Reports of every cell from the wave's start until its last UE has gone."""
    ticks, waves, cells = trace.prb_used.shape
    reports = ticks // CELL_REPORT_S

    def mean(values: Array) -> Array:
        whole = values[: reports * CELL_REPORT_S]
        by_report = whole.reshape(reports, CELL_REPORT_S, waves, cells)
        return np.asarray(by_report.mean(axis=1)).ravel()

    on = (trace.serving >= 0).any(axis=0)
    gone = ticks - np.argmax(trace.serving[::-1] >= 0, axis=0)  # first tick after the session
    until = np.array([gone[(sessions.wave == w) & on].max(initial=0) for w in range(waves)])
    report, wave, cell = (index.ravel() for index in np.indices((reports, waves, cells)))
    kept = (report + 1) * CELL_REPORT_S <= until[wave]
    return {
        "cell_id": _cell_names(topology, cell[kept]),
        "event_timestamp": names.wave_us[wave[kept]]
        + (report[kept] + 1) * CELL_REPORT_S * SECOND_US,
        "prb_used_ratio": mean(trace.prb_used)[kept],
        "active_ue_count": mean(trace.users)[kept],
        "downlink_mbps": mean(trace.served_mbps)[kept],
    }


def _requests(
    topology: Topology, sessions: Sessions, trace: Trace, asked: Requests, names: Names
) -> dict[str, object]:
    profile = sessions.profile[asked.session]
    qis = [FIVE_QIS[p.five_qi] for p in PROFILES]
    budget = np.array([qi.packet_delay_budget_ms for qi in qis])
    loss = np.array([max(qi.packet_error_rate, services.MEASURABLE_LOSS) for qi in qis])
    start = names.wave_us[sessions.wave[asked.session]] + names.phase_us[asked.session]
    after = np.rint(asked.after_s * 1000.0).astype(np.int64) * 1000
    return {
        "request_id": np.array([f"request-{n:07d}" for n in range(1, asked.session.size + 1)]),
        "ue_id": names.ue_id[asked.session],
        "session_id": names.session_id[asked.session],
        "five_qi": np.array([p.five_qi for p in PROFILES])[profile],
        "cell_id": _cell_names(topology, trace.serving[asked.tick, asked.session]),
        "event_timestamp": start + asked.tick * SECOND_US + after,
        "requested_downlink_mbps": np.round(asked.mbps, 3),
        "requested_delay_ms": budget[profile],
        "requested_loss_ratio": loss[profile],
    }


def _events(
    topology: Topology,
    sessions: Sessions,
    trace: Trace,
    names: Names,
    random: np.random.Generator,
) -> dict[str, object]:
    sizes = [event[2].size for event in trace.events]
    tick = np.repeat(np.array([event[0] for event in trace.events], dtype=np.int64), sizes)
    kind = np.repeat(np.array([event[1] for event in trace.events], dtype=object), sizes)
    ue, source, target = (
        np.concatenate([event[part] for event in trace.events] or [np.zeros(0, dtype=np.int64)])
        for part in (2, 3, 4)
    )
    after = random.integers(100, 900, tick.size) * 1000
    start = names.wave_us[sessions.wave[ue]] + names.phase_us[ue]
    return {
        "ue_id": names.ue_id[ue],
        "session_id": names.session_id[ue],
        "event_timestamp": start + tick * SECOND_US + after,
        "kind": kind,
        "ordinal": np.zeros(tick.size, dtype=np.int64),
        "from_cell_id": _cell_names(topology, source),
        "to_cell_id": _cell_names(topology, target),
    }


def _frame(table: str, columns: Mapping[str, object], random: np.random.Generator) -> pl.DataFrame:
    """Exactly the contract's columns and dtypes; what is NaN or missing is null; usual arrival."""
    wanted = dtypes(table)
    frame = pl.DataFrame(
        {name: _series(values) for name, values in columns.items() if name in wanted}
    )
    transit_us = random.integers(20, 300, frame.height) * 1000
    frame = frame.with_columns(
        (pl.col("event_timestamp") + pl.Series(transit_us)).alias("arrival_timestamp")
    )
    return frame.select(
        pl.col(name).cast(dtype) if name in frame.columns else pl.lit(None, dtype).alias(name)
        for name, dtype in wanted.items()
    ).sort("event_timestamp", maintain_order=True)


def _series(values: object) -> pl.Series:
    array = np.asarray(values)
    if array.dtype.kind == "f":
        return pl.Series(array).fill_nan(None)
    if array.dtype.kind in "OU":
        return pl.Series(array.tolist(), dtype=pl.String)
    return pl.Series(array)
