"""What goes wrong on purpose: labelled, felt where and when the label says, and nowhere else."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nef.simulator import SimulatorParams, anomalies, campaign, radio, simulate
from nef.simulator.campaign import simulate_labelled
from schemas.tables import TABLES

SMALL = SimulatorParams(
    ues=8, concurrent=4, sessions=2, minutes=6, spread_hours=6,
    late_share=0.0, duplicate_share=0.0, fault_share=0.0,
)  # fmt: skip
REPORT_TABLES = ("ue_radio", "ue_neighbour", "ue_flow", "ue_motion", "network_event")


@pytest.fixture(scope="module")
def stage() -> Any:
    return campaign.world(SMALL)


@pytest.fixture(scope="module")
def usual() -> Any:
    return simulate(SMALL)


@pytest.fixture(scope="module")
def happened(stage: Any) -> Any:
    return campaign.play(stage)


def met(stage: Any, kind: str, session: int = 3) -> Any:
    """An anomaly in the middle of a session's life, where its UE then is."""
    first, last = int(stage.sessions.first[session]), int(stage.sessions.last[session])
    start = (first + last) // 2 - 30
    tick = start + 20
    return anomalies.Anomaly(
        kind=kind, wave=int(stage.sessions.wave[session]), first=start, end=start + 40,
        cell=int(stage.air.measured_dbm[tick, session].argmax()), session=session, strength=25.0,
        place_m=(stage.tracks.east_m[tick, session], stage.tracks.north_m[tick, session]),
        radius_m=200.0,
    )  # fmt: skip


def spoilt(stage: Any, one: Any) -> Any:
    return campaign.play(
        replace(
            stage,
            air=anomalies.spoil_air(stage.air, stage.tracks, stage.sessions.wave, [one]),
            background=anomalies.spoil_background(stage.background, [one]),
        )
    )


@pytest.mark.parametrize("kind", (*anomalies.PLACES, *anomalies.CELLS))
def test_nothing_is_otherwise_before_it_or_in_another_wave(
    stage: Any, happened: Any, kind: str
) -> None:
    one = met(stage, kind)
    then = spoilt(stage, one)
    elsewhere = stage.sessions.wave != one.wave
    for name in ("serving", "sinr_db", "rsrp_dbm", "prb_used"):
        was, now = getattr(happened, name), getattr(then, name)
        assert np.array_equal(was[: one.first], now[: one.first], equal_nan=True)
    assert np.array_equal(happened.serving[:, elsewhere], then.serving[:, elsewhere])
    during = slice(one.first + 1, one.end)
    assert not np.array_equal(happened.sinr_db[during], then.sinr_db[during], equal_nan=True)


def during(one: Any, trace: Any, name: str) -> Any:
    return np.nanmean(getattr(trace, name)[one.first : one.end, one.session])


def test_interference_costs_sinr_but_not_rsrp(stage: Any, happened: Any) -> None:
    one = met(stage, "interference")
    air = anomalies.spoil_air(stage.air, stage.tracks, stage.sessions.wave, [one])
    assert np.array_equal(air.measured_dbm, stage.air.measured_dbm)
    assert during(one, spoilt(stage, one), "sinr_db") < during(one, happened, "sinr_db") - 3.0


def test_in_a_blind_spot_every_cell_is_weak(stage: Any) -> None:
    one = met(stage, "blind_spot")
    air = anomalies.spoil_air(stage.air, stage.tracks, stage.sessions.wave, [one])
    tick = one.first + 20  # the UE is in the middle of it
    fall = stage.air.measured_dbm[tick, one.session] - air.measured_dbm[tick, one.session]
    heard = stage.air.measured_dbm[tick, one.session] > -131.0
    assert fall[heard] == pytest.approx(np.full(heard.sum(), 25.0))


def test_a_sleeping_cell_is_loud_and_serves_nobody(stage: Any, happened: Any) -> None:
    one = met(stage, "sleeping_cell")
    then = spoilt(stage, one)
    on_it = then.serving[one.first : one.end, one.session] == one.cell
    assert on_it.any()
    got = then.downlink_mbps[one.first : one.end, one.session][on_it]
    assert got.max() == 0.0
    assert happened.downlink_mbps[one.first : one.end, one.session].min() > 0.0
    report = then.prb_used[one.first + 1 : one.end, one.wave, one.cell]
    assert report.max() < happened.prb_used[one.first + 1 : one.end, one.wave, one.cell].mean()


def test_a_congested_cell_is_full(stage: Any, happened: Any) -> None:
    calm = np.flatnonzero(np.isnan(happened.capacity_mbps).all(axis=0))[0]
    one = met(stage, "congestion", int(calm))
    then = spoilt(stage, one)
    cell = slice(one.first, one.end), one.wave, one.cell
    assert then.prb_used[cell].min() > 0.9 and happened.prb_used[cell].mean() < 0.9
    assert (then.users[cell] > happened.users[cell] + 20.0).all()


def misreported(stage: Any, usual: Any, kind: str, session: int = 3) -> Any:
    one = replace(met(stage, kind, session), cell=-1, strength=-12.0)
    label = anomalies.labels([one], stage.topology, stage.names).row(0, named=True)
    return anomalies.misreport(usual, [one], stage.names), label


@given(st.sampled_from(anomalies.REPORTS), st.integers(0, 15))
@settings(max_examples=20, deadline=None)
def test_reports_outside_the_label_are_as_they_were(
    stage: Any, usual: Any, kind: str, session: int
) -> None:
    tables, label = misreported(stage, usual, kind, session)
    mine = (pl.col("session_id") == label["session_id"]) & pl.col("event_timestamp").is_between(
        label["start"], label["end"], "left"
    )
    for name in TABLES:
        if name not in REPORT_TABLES:
            assert tables[name].equals(usual[name])
            continue
        assert tables[name]["event_timestamp"].is_sorted()
        others = usual[name].filter(~mine)
        left = tables[name].join(others, on=others.columns, how="semi", nulls_equal=True)
        assert left.height == others.height
        if kind == "clock_skew":
            assert tables[name].height == usual[name].height


def test_a_stuck_sensor_says_the_same_all_the_time(stage: Any, usual: Any) -> None:
    tables, label = misreported(stage, usual, "sensor_fault")
    here = pl.col("event_timestamp").is_between(label["start"], label["end"], "left")
    stuck = tables["ue_radio"].filter(here, pl.col("ue_id") == label["ue_id"])
    was = usual["ue_radio"].filter(here, pl.col("ue_id") == label["ue_id"])
    assert stuck.height == 40
    assert stuck["rsrp_dbm"].n_unique() == 1 and was["rsrp_dbm"].n_unique() > 1
    assert tables["ue_flow"].equals(usual["ue_flow"])


def test_a_skewed_clock_moves_events_and_not_arrivals(stage: Any, usual: Any) -> None:
    tables, label = misreported(stage, usual, "clock_skew")
    key = ["session_id", "arrival_timestamp", "rsrp_dbm", "sinr_db"]
    both = usual["ue_radio"].join(tables["ue_radio"], on=key, suffix="_then", nulls_equal=True)
    moved = both.with_columns(by=pl.col("event_timestamp_then") - pl.col("event_timestamp"))
    assert moved.filter(pl.col("by") != pl.duration())["by"].to_list() == [
        timedelta(seconds=-12)
    ] * 40  # fmt: skip
    assert label["strength"] == -12.0


def test_late_reports_come_when_it_is_over(stage: Any, usual: Any) -> None:
    tables, label = misreported(stage, usual, "late_reports")
    late = tables["ue_flow"].filter(
        pl.col("session_id") == label["session_id"],
        pl.col("event_timestamp").is_between(label["start"], label["end"], "left"),
    )
    assert late.height == 40
    assert (late["arrival_timestamp"] > label["end"]).all()
    assert (late["arrival_timestamp"] < label["end"] + timedelta(seconds=1)).all()


def test_duplicated_reports_come_twice(stage: Any, usual: Any) -> None:
    tables, _ = misreported(stage, usual, "duplicated_reports")
    for name in REPORT_TABLES:
        keys = [c for c in usual[name].columns if c != "arrival_timestamp"]
        twice = tables[name].filter(tables[name].select(keys).is_duplicated())
        assert twice.height == 2 * (tables[name].height - usual[name].height)
    assert tables["ue_radio"].height == usual["ue_radio"].height + 40


def test_every_kind_is_labelled_as_often_as_asked_for_and_at_a_time_of_the_campaign() -> None:
    params = replace(SMALL, anomalies=2)
    tables, labels = simulate_labelled(params)
    assert dict(labels.schema) == anomalies.LABELS
    assert dict(labels["kind"].value_counts().iter_rows()) == dict.fromkeys(anomalies.KINDS, 2)
    assert labels["anomaly_id"].n_unique() == labels.height and labels["start"].is_sorted()
    assert (labels["end"] > labels["start"]).all()
    reports = pl.col("kind").is_in(anomalies.REPORTS)
    assert labels.select((pl.col("ue_id").is_not_null() == reports).all()).item()
    assert labels.select((pl.col("cell_id").is_null() == reports).all()).item()
    again = simulate_labelled(params)
    assert again[1].equals(labels) and all(again[0][name].equals(tables[name]) for name in TABLES)
    seen = tables["ue_motion"]
    for row in labels.filter(reports).iter_rows(named=True):
        assert seen.filter(
            pl.col("session_id") == row["session_id"],
            pl.col("event_timestamp").is_between(row["start"], row["end"]),
        ).height  # fmt: skip


def test_without_anomalies_there_are_no_labels_and_the_world_is_untouched(stage: Any) -> None:
    assert simulate_labelled(SMALL)[1].height == 0
    assert stage.air.interference_mw is None and stage.background.ability is None


def test_new_software_restarts_a_cell_and_then_it_is_faster() -> None:
    params = replace(SMALL, upgrade_after_h=2.03, upgrade_gain=1.5)
    stage, plain = campaign.world(params), campaign.world(SMALL)
    labels = anomalies.labels(stage.wrong, stage.topology, stage.names)
    first = datetime(2026, 3, 2, tzinfo=UTC) + timedelta(hours=2.03)
    assert labels["cell_id"].to_list() == list(stage.topology.cell_ids)
    assert labels["start"].to_list() == [
        first + timedelta(seconds=anomalies.NEXT_SITE_S * (cell // 3)) for cell in range(12)
    ]
    ability: Any = stage.background.ability
    assert (ability[:, 0] == 1.0).all()
    start = int(first.timestamp() * 1e6) - int(stage.names.wave_us[1])
    off = slice(start // 1_000_000, start // 1_000_000 + anomalies.RESTART_S)
    assert off.start > 0 and (ability[off, 1, :3] == 0.0).all()
    assert (ability[off.stop :, 1, :3] == 1.5).all() and (ability[:, 3] == 1.5).all()
    silent = stage.sessions.wave == 1
    assert (stage.air.measured_dbm[off][:, silent, :3] == -156.0).all()
    assert not np.isin(campaign.play(stage).serving[off][:, silent][5:], [0, 1, 2]).any()
    happened = [campaign.play(one) for one in (plain, stage)]
    before, after = (one.served_mbps[:, 3].sum() / one.prb_used[:, 3].sum() for one in happened)
    assert after > 1.3 * before


def test_interference_from_outside_adds_to_the_noise() -> None:
    received, who = np.array([[1e-10, 1e-11]]), np.array([0])
    load = np.zeros((1, 2))
    sinr, _ = radio.sinr_db(received, who, load, who, np.array([1e-10]))
    assert sinr[0] == pytest.approx(0.0)
