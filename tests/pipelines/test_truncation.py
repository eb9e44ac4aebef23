"""The replay finds nothing where nothing leaks, and names what leaks where something does."""

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from feature_repo import compute
from feature_repo.services import SERVICES, Service
from feature_repo.views import QOS_MARGIN, UE_MOTION, WINDOWED
from feature_repo.windows import View
from pipelines.truncation import Truncation, replay
from schemas.tables import dtypes
from tests.conftest import World

START = datetime(2024, 3, 1, tzinfo=UTC)
EVENT, ARRIVAL = "event_timestamp", "arrival_timestamp"
MOTION = Service("motion", "one view", ("ue_motion",))
LAST_60S = "ue_speed_mps_mean_60s"


def at(second: float) -> datetime:
    return START + timedelta(seconds=second)


def speeds(rows: list[tuple[float, float, float]], ue: str = "a") -> pl.DataFrame:
    """Motion rows of (event, arrival, speed)."""
    return pl.DataFrame(
        [
            {"ue_id": ue, "session_id": "s", EVENT: at(e), ARRIVAL: at(a), "speed_mps": v}
            for e, a, v in rows
        ],
        schema=dtypes("ue_motion"),
    )


def frame_of(features: pl.DataFrame, view: View, decisions: pl.DataFrame) -> pl.DataFrame:
    """What an as-of join that keeps to arrival gives, written with the plainest means."""
    found = []
    for ask in decisions.to_dicts():
        known = features.filter(
            *(pl.col(key) == ask[key] for key in view.keys),
            pl.col(ARRIVAL) <= ask[EVENT],
            pl.col(EVENT) <= ask[EVENT],
            pl.col(EVENT) >= ask[EVENT] - view.ttl,
        ).sort(EVENT, ARRIVAL)
        names = [feature.name for feature in view.features()]
        last = known.select(names).tail(1).to_dicts()
        found.append(last[0] if last else dict.fromkeys(names))
    return pl.DataFrame(found, schema={f.name: pl.Float64 for f in view.features()})


def asks(*seconds: float, ue: str = "a") -> pl.DataFrame:
    times = pl.Series(EVENT, [at(s) for s in seconds], pl.Datetime("us", "UTC"))
    return pl.DataFrame({"ue_id": [ue] * len(seconds)}).with_columns(times)


def replayed(frame: pl.DataFrame, table: pl.DataFrame, /, **changes: Any) -> Truncation:
    given: dict[str, Any] = {"service": MOTION, "rows": 100, "seed": 1} | changes
    return replay(frame, {"ue_motion": table}, **given)


EACH_SECOND = speeds([(s, s, float(s)) for s in range(30)])


def test_the_features_as_computed_do_not_differ() -> None:
    decisions = asks(*(0.5 + s for s in range(45)))
    features = compute.features(EACH_SECOND, EACH_SECOND, UE_MOTION)
    frame = pl.concat([decisions, frame_of(features, UE_MOTION, decisions)], how="horizontal")
    found = replayed(frame, EACH_SECOND)
    assert found.differences == []
    assert found.metrics() == {"rows": 45, "columns": 2, "values": 90, "differences": 0}
    assert frame[LAST_60S].null_count() == 6  # from 29 s + ttl on: unknown in both


def test_a_feature_that_looks_one_second_ahead_is_found_and_named() -> None:
    decisions = asks(*(0.5 + s for s in range(20)))
    ahead = compute.features(EACH_SECOND, EACH_SECOND, UE_MOTION).with_columns(
        pl.col(EVENT, ARRIVAL) - timedelta(seconds=1)
    )
    honest = compute.features(EACH_SECOND, EACH_SECOND, UE_MOTION)
    frame = pl.concat([decisions, frame_of(honest, UE_MOTION, decisions)], how="horizontal")
    frame = frame.with_columns(frame_of(ahead, UE_MOTION, decisions)[LAST_60S])
    found = replayed(frame, EACH_SECOND)
    assert len(found.differences) == 20
    assert {difference.feature for difference in found.differences} == {LAST_60S}
    first = next(d for d in found.differences if d.decision == at(3.5))
    assert (first.keys, first.frame, first.replayed) == ({"ue_id": "a"}, 2.0, 1.5)
    assert str(first) == (
        f"{LAST_60S} at 2024-03-01T00:00:03.500000+00:00 for {{'ue_id': 'a'}}: "
        "2.0 in the frame, 1.5 replayed"
    )


def test_a_row_used_before_it_arrived_is_found() -> None:
    rows = speeds([(0, 0, 10.0), (1, 8, 40.0), (2, 2, 10.0)])
    as_if_known = rows.with_columns(pl.col(EVENT).alias(ARRIVAL))
    decisions = asks(0.5, 3, 9)
    leaky = compute.features(as_if_known, as_if_known, UE_MOTION)
    frame = pl.concat([decisions, frame_of(leaky, UE_MOTION, decisions)], how="horizontal")
    found = replayed(frame, rows)
    assert {(d.feature, d.decision, d.frame, d.replayed) for d in found.differences} == {
        (name, at(3), 20.0, 10.0) for name in ("ue_speed_mps_mean_5s", LAST_60S)
    }


def test_a_computation_that_heeds_no_arrival_is_found_though_the_replay_uses_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    honest = compute.features

    def leaky(rows: pl.DataFrame, clock: pl.DataFrame, view: View) -> pl.DataFrame:
        return honest(rows.with_columns(pl.col(EVENT).alias(ARRIVAL)), clock, view)

    monkeypatch.setattr(compute, "features", leaky)
    rows = speeds([(0, 0, 10.0), (1, 8, 40.0), (2, 2, 10.0)])
    decisions = asks(0.5, 3, 9)
    seen = frame_of(leaky(rows, rows, UE_MOTION), UE_MOTION, decisions)
    frame = pl.concat([decisions, seen], how="horizontal")
    found = {(d.feature, d.decision) for d in replayed(frame, rows).differences}
    assert found == {(name, at(3)) for name in ("ue_speed_mps_mean_5s", LAST_60S)}


def test_a_value_that_is_known_in_one_and_not_in_the_other_differs() -> None:
    decisions = asks(0.5)
    null = {"ue_speed_mps_mean_5s": None, LAST_60S: 0.0}
    kinds = {"ue_speed_mps_mean_5s": pl.Float64, LAST_60S: pl.Float64}
    frame = pl.concat([decisions, pl.DataFrame([null], schema=kinds)], how="horizontal")
    assert [(d.feature, d.frame, d.replayed) for d in replayed(frame, EACH_SECOND).differences] == [
        ("ue_speed_mps_mean_5s", None, 0.0)
    ]


def test_the_sample_is_as_large_as_asked_and_the_same_for_a_seed() -> None:
    decisions = asks(*(0.5 + s for s in range(20)))
    zero = pl.DataFrame({"ue_speed_mps_mean_5s": [-1.0] * 20, LAST_60S: [-1.0] * 20})
    frame = pl.concat([decisions, zero], how="horizontal")
    one, same, other = (
        {d.decision for d in replayed(frame, EACH_SECOND, rows=5, seed=seed).differences}
        for seed in (1, 1, 2)
    )
    assert len(one) == 5 and one == same and one != other


def _decisions(world: World, count: int) -> pl.DataFrame:
    """Decisions at the arrival of flow rows, late ones among them."""
    flow = world.table("ue_flow").sample(count, seed=4)
    times = flow.select("ue_id", "cell_id", "five_qi", pl.col(ARRIVAL).alias(EVENT))
    return times.drop_nulls()


@pytest.mark.parametrize("name", [view.name for view in WINDOWED])
def test_each_view_of_a_simulated_network_stands_the_replay_and_a_leak_is_named(
    small_world: World, name: str
) -> None:
    view = next(view for view in WINDOWED if view.name == name)
    tables = {n: small_world.table(n) for n in {view.table, view.clock_table}}
    decisions = _decisions(small_world, 60)
    service = Service(name, "one view", (name,))
    honest = compute.features(tables[view.table], tables[view.clock_table], view)
    frame = pl.concat([decisions, frame_of(honest, view, decisions)], how="horizontal")
    assert replay(frame, tables, service, 60, 1).differences == []

    as_if_known = {
        n: rows.with_columns(pl.col(EVENT, ARRIVAL) - _look_ahead(view))
        for n, rows in tables.items()
    }
    leaky = compute.features(as_if_known[view.table], as_if_known[view.clock_table], view)
    leaked = pl.concat([decisions, frame_of(leaky, view, decisions)], how="horizontal")
    found = {
        difference.feature for difference in replay(leaked, tables, service, 60, 1).differences
    }
    assert found and found <= {feature.name for feature in view.features()}


def _look_ahead(view: View) -> timedelta:
    return view.tick or timedelta(minutes=1)


def test_every_stored_feature_of_the_service_is_replayed(small_world: World) -> None:
    service = SERVICES[0]
    decisions = _decisions(small_world, 5)
    names = [f.name for v in service.members() for f in v.features()]
    wrong = decisions.with_columns(pl.lit(-777.0).alias(name) for name in names)
    tables = {name: small_world.table(name) for name in ("ue_radio", "ue_neighbour", "ue_flow",
              "ue_motion", "cell_load", "network_event")}  # fmt: skip
    found = {difference.feature for difference in replay(wrong, tables, service, 5, 1).differences}
    on_request = {f.name for f in QOS_MARGIN.features()}
    assert found == set(names) - on_request
