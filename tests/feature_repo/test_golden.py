"""One example worked out by hand for each operation, and the few lines beside the operations."""

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from feature_repo import compute
from feature_repo.kernels import kernel
from feature_repo.views import WINDOWED
from feature_repo.windows import Derived, View, of

START = datetime(2024, 3, 1, tzinfo=UTC)
ANY = Derived(pl.col("x"), "anything", "dB", -1000.0, 1000.0, "-")


def computed(values: dict[float, float | None], window: str, **changes: Any) -> list[float | None]:
    """The feature at each row; values: by the second of the row's event, which is its arrival."""
    times = [START + timedelta(seconds=second) for second in values]
    rows = pl.DataFrame(
        {"ue_id": "a", "event_timestamp": times, "x": list(values.values())},
        schema_overrides={"event_timestamp": pl.Datetime("us", "UTC"), "x": pl.Float64},
    ).with_columns(arrival_timestamp=pl.col("event_timestamp"))
    plain: dict[str, Any] = {
        "name": "v", "entity": "ue", "keys": ("ue_id",), "table": "t", "description": "",
        "ttl": timedelta(seconds=10), "windows": of("x", window), "derived": {"x": ANY},
    }  # fmt: skip
    found = compute.features(rows, rows, View(**(plain | changes)))
    return found[f"ue_x_{window}"].to_list()


FOUR = {1.0: 2.0, 2.0: None, 3.0: 4.0, 4.0: 9.0}  # seconds and values; all in the last 10 s

# operation: at the last of FOUR over 10 s, worked out by hand
GOLDEN = {
    "last": 9.0,
    "mean": 5.0,  # (2 + 4 + 9) / 3
    "min": 2.0,
    "max": 9.0,
    "std": (26 / 3) ** 0.5,  # deviations -3, -1, 4; 9 + 1 + 16 = 26 over 3 values
    # Times 1, 3, 4: deviations -5/3, 1/3, 4/3. Products 15/3 - 1/3 + 16/3 = 10, squares 42/9.
    "slope": 15 / 7,
    "count": 3.0,
    "since_s": 0.0,
    "p0": 2.0,
    "p10": 2.4,  # place 0.1 * 2 = 0.2 between 2 and 4
    "p50": 4.0,
    "p75": 6.5,  # place 1.5 between 4 and 9
    "p95": 8.5,  # place 1.9 between 4 and 9
    "share_below_4": 1 / 3,  # 4 is not below 4
    "share_below_0": 0.0,
    "share_below_minus_3": 0.0,
}


@pytest.mark.parametrize("op", GOLDEN)
def test_each_operation_gives_what_a_hand_gives(op: str) -> None:
    assert computed(FOUR, f"{op}_10s")[-1] == pytest.approx(GOLDEN[op], abs=1e-12)


def test_every_operation_that_a_view_uses_has_an_example() -> None:
    assert {window.op for view in WINDOWED for window in view.windows} <= set(GOLDEN)


@pytest.mark.parametrize("op", sorted({*GOLDEN} - {"count"}))
def test_a_window_without_a_value_is_null(op: str) -> None:
    assert computed({0.0: None, 1.0: None}, f"{op}_10s") == [None, None]


def test_a_window_without_a_value_counts_none() -> None:
    assert computed({0.0: None, 1.0: 5.0, 2.0: None}, "count_10s") == [0.0, 1.0, 1.0]


@pytest.mark.parametrize("op", ["std", "slope"])
def test_a_single_value_has_neither_spread_nor_slope(op: str) -> None:
    assert computed({0.0: 5.0, 1.0: None}, f"{op}_10s") == [None, None]


def test_the_start_of_a_window_is_out_and_its_end_is_in() -> None:
    rows = {0.0: 1.0, 3.0: 2.0, 5.0: 4.0, 5.000001: 8.0}
    assert computed(rows, "count_5s") == [1.0, 2.0, 2.0, 3.0]
    assert computed(rows, "max_5s")[2] == 4.0


def test_last_skips_the_unknown_and_since_says_how_old_it_is() -> None:
    rows = {0.0: 7.0, 1.5: None, 4.0: None, 5.0: None}
    assert computed(rows, "last_5s") == [7.0, 7.0, 7.0, None]
    assert computed(rows, "since_s_5s") == [0.0, 1.5, 4.0, None]


def test_a_share_counts_values_and_not_rows_without_one() -> None:
    rows = {0.0: -5.0, 1.0: -3.0, 2.0: None, 3.0: 1.0}
    assert computed(rows, "share_below_minus_3_10s") == [1.0, 0.5, 0.5, pytest.approx(1 / 3)]


def test_a_tick_closes_at_its_next_multiple_and_holds_what_arrived_until_then() -> None:
    rows = {0.0: 1.0, 59.0: 2.0, 60.0: 3.0, 61.0: 10.0}  # ticks at 0, 60 and 120 s
    found = computed(rows, "max_1m", tick=timedelta(minutes=1))
    assert found == [1.0, 3.0, 10.0]


@pytest.mark.parametrize(
    ("low", "high", "values"),
    [
        # A sum that runs along leaves -1.9e-17 of the 0.1 behind when only zeros remain.
        (0.0, 10_000.0, [0.0, 0.1, 0.3, 0.1, 0.1, 0.0, 0.0, 0.0]),
        (-156.0, -31.0, [-77.7, -77.7, -77.7, -155.3, -77.7, -156.0, -156.0, -156.0]),
    ],
)
def test_rounding_takes_no_mean_past_the_bound_of_its_values(
    low: float, high: float, values: list[float]
) -> None:
    bounded = {"x": Derived(pl.col("x"), "bounded", "dB", low, high, "-")}
    rows: dict[float, float | None] = dict(zip(map(float, range(8)), values, strict=True))
    assert computed(rows, "mean_3s", derived=bounded)[-1] == low


def test_a_value_really_out_of_range_is_not_hidden() -> None:
    bounded = {"x": Derived(pl.col("x"), "bounded", "dB", 0.0, 1.0, "-")}
    assert computed({0.0: -0.5, 1.0: 3.0}, "last_1s", derived=bounded) == [-0.5, 3.0]


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("mean", ValueError, "is not <op>_<number><s|m|h|d>"),
        ("mean_0s", ValueError, "is not <op>_<number><s|m|h|d>"),
        ("mean_5w", ValueError, "is not <op>_<number><s|m|h|d>"),
        ("median_5s", KeyError, "no operation 'median'"),
    ],
)
def test_a_window_that_means_nothing_is_refused_at_its_declaration(
    text: str, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said.replace("|", r"\|")):
        of("x", text)


def test_a_column_that_the_table_lacks_or_that_is_no_quantity_is_refused() -> None:
    def view(column: str) -> View:
        return View(
            "v", "ue", ("ue_id",), "ue_radio", "", timedelta(seconds=1), of(column, "last_5s")
        )

    with pytest.raises(ValueError, match="ue_radio has no column 'rsrp'; it has"):
        view("rsrp").features()
    with pytest.raises(ValueError, match=r"ue_radio\.cell_id is no measured quantity"):
        view("cell_id").features()


@pytest.mark.parametrize(
    ("op", "unit", "bounds"),
    [
        ("mean", "dB", (-20.0, 40.0)),
        ("p95", "dB", (-20.0, 40.0)),
        ("std", "dB", (0.0, 30.0)),  # at most half the range: half the values at each end
        ("slope", "dB/s", (None, None)),
        ("count", "1", (0.0, None)),
        ("since_s", "s", (0.0, None)),
        ("share_below_0", "1", (0.0, 1.0)),
    ],
)
def test_unit_and_range_follow_from_the_columns(
    op: str, unit: str, bounds: tuple[float | None, float | None]
) -> None:
    found = kernel(op)
    assert (found.unit("dB"), found.range(-20.0, 40.0)) == (unit, bounds)
