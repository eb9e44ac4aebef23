"""What holds of every declared feature of every windowed view, whatever the rows are."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from feature_repo import compute
from feature_repo.views import VIEWS, WINDOWED
from feature_repo.windows import View
from schemas.tables import FAILURE_KINDS, HANDOVER_KINDS, TABLES, dtypes
from tests import oracle

EVENT, ARRIVAL = "event_timestamp", "arrival_timestamp"
START = datetime(2024, 3, 1, tzinfo=UTC)
ROWS = 40
_TEXTS = {"ue_id": "abc", "cell_id": "xy"}

each_view = pytest.mark.parametrize("view", WINDOWED, ids=lambda view: view.name)
seeds = given(seed=st.integers(0, 10**6))
few = settings(max_examples=5, deadline=None)


def _is(*kinds: str) -> Callable[[oracle.Row], float | None]:
    return lambda row: 1.0 if row["kind"] in kinds else None


def _disturbed(row: oracle.Row) -> float | None:
    lost = [row[n] for n in ("downlink_lost_packets", "uplink_lost_packets", "packet_loss_ratio")]
    late = [row[n] for n in ("downlink_delay_ms", "uplink_delay_ms")]
    tests = [v > 0 for v in lost if v is not None] + [v > 100 for v in late if v is not None]
    return float(any(tests)) if tests else None


# What the views derive from a row and which rows they take, said once more in plain Python.
DERIVED: dict[str, Callable[[oracle.Row], float | None]] = {
    "handover": _is(*HANDOVER_KINDS),
    "link_failure": _is(*FAILURE_KINDS),
    "disturbed": _disturbed,
    "on_nr": lambda row: None if row["rat"] is None else float(row["rat"] == "NR"),
}
WHERE: dict[str, Callable[[oracle.Row], bool]] = {"ue_neighbour": lambda row: row["rank"] > 0}


@dataclass(frozen=True)
class Sample:
    """The rows of a view's table and those of its clock."""

    rows: pl.DataFrame
    clock: pl.DataFrame

    def computed(self, view: View) -> pl.DataFrame:
        return compute.features(self.rows, self.clock, view)


def sample(view: View, seed: int) -> Sample:
    """Random rows that the contracts admit: some late, some null, some at the ends of the range."""
    random = np.random.default_rng(seed)
    rows = table(view, view.table, random)
    if view.clock_table == view.table:
        return Sample(rows, rows)
    return Sample(rows, table(view, view.clock_table, random))


def table(view: View, name: str, random: np.random.Generator) -> pl.DataFrame:
    """Rows close together and rows as far apart as the view's longest window is long."""
    longest = max(window.length for window in view.windows)
    step = timedelta(milliseconds=250) if random.random() < 0.5 else longest / 12
    rows = [_row(name, random, step) for _ in range(random.integers(1, ROWS))]
    made = pl.DataFrame(rows, schema=dtypes(name))
    keys = {*view.keys, *TABLES[name].primary_key()} & set(made.columns)
    if view.name == "ue_cell_link":
        keys -= {"rank", "rat"}  # a cell stands once in one report
    return made.unique(sorted(keys), keep="first", maintain_order=True)


def _row(name: str, random: np.random.Generator, step: timedelta) -> dict[str, Any]:
    event = START + int(random.integers(0, 40)) * step
    late = int(random.choice([0, 0, 0, 1, 3, 20]))
    row = {EVENT: event, ARRIVAL: event + late * step}
    for column, contract in TABLES[name].columns().items():
        if column not in row:
            row[column] = _value(column, contract, random)
    return row


def _value(column: str, contract: Any, random: np.random.Generator) -> Any:
    if contract.nullable and random.random() < 0.25:
        return None
    if contract.dtype == pl.Float64:
        inner = float(random.uniform(contract.min, contract.max))
        small = contract.min + 1e-4 * (inner - contract.min)
        return [inner, small, float(contract.min), float(contract.max)][random.integers(4)]
    if contract.dtype == pl.Int64:
        options = [5, 9] if contract.is_in else [0, 1, 2]
        return int(random.choice(options))
    if isinstance(contract.dtype, pl.Enum):
        return str(random.choice(contract.dtype.categories.to_list()))
    return str(random.choice(list(_TEXTS.get(column, "s"))))


def _plain(view: View, rows: pl.DataFrame, *, quantities: bool) -> list[oracle.Row]:
    """Dicts with the derived columns beside the others; `quantities`: of the view's own table."""
    plain = rows.to_dicts()
    if not quantities:
        return plain
    kept = [row for row in plain if WHERE.get(view.name, lambda _: True)(row)]
    return [row | {name: DERIVED[name](row) for name in view.derived} for row in kept]


@each_view
@few
@seeds
def test_every_value_keeps_to_its_declared_range_or_is_null(view: View, seed: int) -> None:
    found = sample(view, seed).computed(view)
    for feature in view.features():
        values = found[feature.name].drop_nulls()
        assert not values.is_nan().any(), feature.name
        if feature.low is not None:
            assert (values >= feature.low).all(), (feature.name, values.min())
        if feature.high is not None:
            assert (values <= feature.high).all(), (feature.name, values.max())


@each_view
@few
@seeds
def test_every_value_is_what_two_loops_over_the_rows_say(view: View, seed: int) -> None:
    given_rows = sample(view, seed)
    names = [feature.name for feature in view.features()]
    windows = {n: (w.column, w.op, w.length) for n, w in zip(names, view.windows, strict=True)}
    slow = oracle.feature_rows(
        _plain(view, given_rows.rows, quantities=True),
        _plain(view, given_rows.clock, quantities=False),
        view.keys, windows, view.tick,
    )  # fmt: skip
    fast = given_rows.computed(view).sort(*view.keys, ARRIVAL).to_dicts()
    assert len(fast) == len(slow)
    for got, wanted in zip(fast, slow, strict=True):
        for name, value in wanted.items():
            close = pytest.approx(value, rel=1e-9, abs=1e-6) if isinstance(value, float) else value
            assert got[name] == close, name


@each_view
@few
@seeds
def test_rows_of_other_entities_change_nothing(view: View, seed: int) -> None:
    given_rows = sample(view, seed)
    together = given_rows.computed(view)
    for key in together.select(view.keys).unique().to_dicts():
        mine = pl.all_horizontal(pl.col(k) == v for k, v in key.items())
        alone = Sample(given_rows.rows.filter(mine), given_rows.clock.filter(mine)).computed(view)
        assert_frame_equal(alone, together.filter(mine), rel_tol=1e-9, abs_tol=1e-9)


@each_view
@few
@seeds
def test_rows_that_arrive_after_the_stamp_change_nothing(view: View, seed: int) -> None:
    given_rows = sample(view, seed)
    whole = given_rows.computed(view)
    for cut in whole[ARRIVAL].unique().to_list()[::4]:
        early = pl.col(ARRIVAL) <= cut
        part = Sample(given_rows.rows.filter(early), given_rows.clock.filter(early)).computed(view)
        known = part.filter(early)
        assert_frame_equal(known, whole.filter(early), rel_tol=1e-9, abs_tol=1e-9)


@each_view
@few
@seeds
def test_the_order_of_the_rows_is_irrelevant(view: View, seed: int) -> None:
    given_rows = sample(view, seed)
    shuffled = Sample(
        given_rows.rows.sample(fraction=1.0, shuffle=True, seed=seed),
        given_rows.clock.sample(fraction=1.0, shuffle=True, seed=seed + 1),
    )
    assert given_rows.computed(view).equals(shuffled.computed(view))


@each_view
@few
@seeds
def test_the_stamp_is_the_windows_end_and_the_arrival_the_latest_in_it(
    view: View, seed: int
) -> None:
    given_rows = sample(view, seed)
    clock = given_rows.clock.drop_nulls(list(view.keys))
    found = given_rows.computed(view)
    assert found.select(*view.keys, ARRIVAL).is_unique().all()
    for emission in found.select(*view.keys, EVENT, ARRIVAL).to_dicts():
        mine = clock.filter(pl.all_horizontal(pl.col(k) == emission[k] for k in view.keys))
        known = mine.filter(pl.col(ARRIVAL) <= emission[ARRIVAL])
        if view.tick is None:
            assert emission[EVENT] == known[EVENT].max()
            assert emission[ARRIVAL] == known[ARRIVAL].max()
        else:
            assert emission[EVENT] == emission[ARRIVAL]
            assert (emission[EVENT] - START) % view.tick == timedelta()
            assert emission[ARRIVAL] - known[ARRIVAL].max() < view.tick  # type: ignore[operator]


_SPELT = {
    "dBm": "dbm", "dB": "db", "Mbps": "mbps", "ms": "ms", "m/s": "mps", "s": "s", "deg": "deg",
}  # fmt: skip


@each_view
def test_every_name_says_entity_quantity_unit_operation_and_span(view: View) -> None:
    columns = TABLES[view.table].columns()
    for feature, window in zip(view.features(), view.windows, strict=True):
        pattern = rf"{view.entity}_(?P<quantity>[a-z0-9_]+)_{window.op}_[1-9]\d*[smhd]"
        match = re.fullmatch(pattern, feature.name)
        assert match is not None and match["quantity"] == window.column, feature.name
        unit = (
            view.derived[window.column].unit
            if window.column in view.derived
            else columns[window.column].metadata["unit"]  # type: ignore[index]
        )
        if unit != "1":
            assert window.column.endswith(f"_{_SPELT[unit]}"), (feature.name, unit)


def test_no_name_is_taken_twice_and_every_feature_says_what_it_is() -> None:
    features = [feature for view in VIEWS for feature in view.features()]
    names = [feature.name for feature in features]
    assert len(names) == len(set(names))
    for feature in features:
        assert feature.description and feature.unit and feature.source, feature.name
        if feature.low is not None and feature.high is not None:
            assert feature.low < feature.high or feature.low == feature.high == 1, feature.name
