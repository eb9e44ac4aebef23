"""The gate of Great Expectations: good data pass, each planted fault is named."""

import json
import re
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from feature_repo.views import STORED
from pipelines import check as stage
from pipelines.check import Result, check, validate
from pipelines.features import read_view
from pipelines.suites import Params, dtype_suite, table_suites, view_suites
from schemas.errors import QosError
from schemas.tables import TABLES, dtypes
from tests.conftest import World

EVENT = "event_timestamp"
LOOSE = Params()


@pytest.fixture
def world(small_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A copy that a test may spoil."""
    shutil.copytree(small_world.folder, tmp_path / "world")
    monkeypatch.chdir(tmp_path)
    return World(tmp_path / "world")


def _spoil(path: Path, *changes: pl.Expr) -> None:
    files = [path] if path.is_file() else sorted(path.rglob("*.parquet"))
    rows = pl.read_parquet(files[0], hive_partitioning=False)
    rows.with_row_index("_n").with_columns(*changes).drop("_n").write_parquet(files[0])


def _first(column: str, value: pl.Expr) -> pl.Expr:
    return pl.when(pl.col("_n") == 0).then(value).otherwise(pl.col(column)).alias(column)


def _failures(tables: dict[str, pl.DataFrame], name: str, params: Params = LOOSE) -> str:
    suites = [suite for suite in table_suites(tables, params) if suite.name == name]
    return "\n".join(map(str, validate(suites)[1]))


@pytest.fixture(scope="module")
def checked(small_world: World) -> Result:
    return check(small_world.admitted, small_world.features, Params())


@pytest.fixture(scope="module")
def tables(small_world: World) -> dict[str, pl.DataFrame]:
    return {name: small_world.table(name) for name in TABLES}


def test_good_data_pass_and_leave_docs(checked: Result) -> None:
    docs, metrics = checked
    assert metrics["failed"] == 0
    assert metrics["expectations"] == sum(
        table["expectations"]
        for table in metrics["tables"].values()  # type: ignore[attr-defined]
    )
    index = docs.files["index.html"].decode()
    for name in ("ue_radio", "cell_load", "features_ue_flow", "features_qos_class"):
        assert f">{name}</a>" in index
        linked = re.search(rf'href="([^"]+)">{name}</a>', index)
        assert linked and linked[1] in docs.files


def test_docs_load_nothing_from_elsewhere(checked: Result) -> None:
    for name, content in checked.docs.files.items():
        if name.endswith(".html"):
            page = content.decode()
            assert not re.search(r"<(link|script|img)[^>]*(src|href)=\"https?://", page), name
            assert not re.search(r"url\(['\"]?https?://", page), name
            assert str(Path.home()) not in page


@pytest.mark.parametrize(
    ("table", "change", "named"),
    [
        (
            "ue_radio", _first("rsrp_dbm", pl.lit(-200.0)),
            r"ue_radio\.rsrp_dbm: column values to be between: observed 1 of \d+ values \[-200\.0\], "
            r"expected min_value -156, max_value -31",
        ),
        ("ue_radio", _first("ue_id", pl.lit(None)), r"ue_radio\.ue_id: column values to not be null"),
        (
            "ue_flow", _first("five_qi", pl.lit(200)),
            r"ue_flow\.five_qi: column values to be in set: observed 1 of \d+ values \[200\]",
        ),
        (
            "ue_radio", pl.lit(-80.0).alias("rsrp_dbm"),
            r"ue_radio\.rsrp_dbm: column stdev to be between: observed 0\.0",
        ),
        (
            "ue_radio", pl.col("rsrp_dbm").clip(-50, -40).alias("rsrp_dbm"),
            r"ue_radio\.rsrp_dbm: column median to be between: observed -50\.0, expected min_value "
            r"-125, max_value -55",
        ),
        (
            "ue_motion", (pl.col(EVENT) - timedelta(days=3)).alias(EVENT),
            r"ue_motion\.hours behind the newest row: column min to be between: observed 7\d\.",
        ),
        (
            "ue_motion", pl.lit("a stranger").alias("ue_id"),
            r"ue_motion\.ue_id known to ue_radio: column values to be in set",
        ),
        (
            "ue_radio", pl.lit("no such cell").alias("cell_id"),
            r"ue_radio\.cell_id known to cell_load: column values to be in set: observed (\d+) of \1 ",
        ),
        (
            "ue_radio", _first("rsrp_dbm", pl.lit(float("nan"))),
            r"ue_radio\.rsrp_dbm: column values to be between: observed 1 of \d+ values \[inf\]",
        ),
        (
            "ue_flow", _first("arrival_timestamp", pl.col(EVENT) - timedelta(microseconds=1)),
            r"ue_flow\.keeps arrival_before_event: column values to be in set: observed 1 of \d+ "
            r"values \[False\]",
        ),
        (
            "ue_radio", _first("rat", pl.lit("GSM", dtypes("ue_radio")["rat"])),
            r"ue_radio\.keeps rsrp_of_2g_or_3g: column values to be in set: observed 1 of \d+ ",
        ),
        (
            "cell_load",
            _first(EVENT, pl.datetime(1999, 12, 31, time_unit="us", time_zone="UTC")),
            r"cell_load\.event_timestamp: column values to be between: observed 1 of \d+ values "
            r"\[Timestamp\('1999-12-31 .*expected min_value 2000-01-01",
        ),
        (
            "ue_motion",
            pl.when(pl.col("_n") == 0).then(pl.col("speed_mps")).alias("speed_mps"),
            r"ue_motion\.speed_mps: column proportion of non null values to be between: observed "
            r"0\.00\d+, expected min_value 0\.005",
        ),
        (
            "cell_load", pl.col(EVENT).first().over("cell_id").alias(EVENT),
            r"cell_load\.event_timestamp, cell_id: compound columns to be unique",
        ),
    ],
)  # fmt: skip
def test_each_fault_in_a_table_is_named(
    tables: dict[str, pl.DataFrame], table: str, change: pl.Expr, named: str
) -> None:
    spoilt = tables[table].with_row_index("_n").with_columns(change).drop("_n")
    assert re.search(named, _failures(tables | {table: spoilt}, table))


def test_a_column_that_a_source_never_measures_is_no_fault(
    tables: dict[str, pl.DataFrame],
) -> None:
    silent = tables["ue_motion"].with_columns(pl.lit(None, pl.Float64).alias("speed_mps"))
    assert _failures(tables | {"ue_motion": silent}, "ue_motion") == ""


@pytest.mark.parametrize(
    ("table", "change", "observed", "declared"),
    [
        ("ue_radio", pl.col("rsrp_dbm").cast(pl.Float32), "Float32", "Float64"),
        (
            "network_event", pl.col("arrival_timestamp").dt.replace_time_zone(None),
            r"Datetime\(time_unit='us', time_zone=None\)",
            r"Datetime\(time_unit='us', time_zone='UTC'\)",
        ),
    ],
)  # fmt: skip
def test_another_dtype_is_named(
    world: World, table: str, change: pl.Expr, observed: str, declared: str
) -> None:
    _spoil(world.admitted / f"{table}.parquet", change)
    column = change.meta.output_name()
    with pytest.raises(
        QosError,
        match=rf"first: dtypes\.{table}\.{column}: column values to be in set: observed 1 of 1 values "
        rf"\[[\"']{observed}[\"']\], expected value_set \[[\"']{declared}[\"']\]; all: ",
    ):
        check(world.admitted, world.features, Params())


def test_an_absent_column_is_named(tables: dict[str, pl.DataFrame]) -> None:
    without = tables | {"ue_flow": tables["ue_flow"].drop("jitter_ms")}
    _, failures = validate([dtype_suite(without)])
    assert [(f.column, f.observed) for f in failures] == [
        ("ue_flow.jitter_ms", "1 of 1 values ['absent']")
    ]


def test_neither_radio_nor_flow_is_refused(world: World) -> None:
    for name in ("ue_radio", "ue_flow"):
        path = world.admitted / f"{name}.parquet"
        pl.read_parquet(path).clear().write_parquet(path)
    with pytest.raises(QosError, match=r"ue_radio and ue_flow have no row, one of them must$"):
        check(world.admitted, world.features, Params())


def test_equal_data_leave_equal_docs(tables: dict[str, pl.DataFrame]) -> None:
    once, again = (
        validate([s for s in table_suites(tables, LOOSE) if s.name == "cell_load"])[0].files
        for _ in range(2)
    )
    assert once.keys() == again.keys()
    assert [name for name in once if once[name] != again[name]] == []


def test_too_many_rows_are_named(tables: dict[str, pl.DataFrame]) -> None:
    assert re.search(
        r"cell_load\.rows: table row count to be between: observed \d+, expected .*max_value 20",
        _failures(tables, "cell_load", Params(max_rows=20)),
    )


def test_too_few_rows_are_named(tables: dict[str, pl.DataFrame]) -> None:
    few = tables | {"network_event": tables["network_event"].head(3)}
    assert re.search(
        r"network_event\.rows: table row count to be between: observed 3, expected min_value 4",
        _failures(few, "network_event", Params(min_rows=4)),
    )


def test_a_feature_out_of_its_range_is_named(small_world: World) -> None:
    views = {view.name: read_view(small_world.features, view) for view in STORED}
    views["ue_radio"] = (
        views["ue_radio"]
        .with_row_index("_n")
        .with_columns(_first("ue_rsrp_dbm_last_5s", pl.lit(3.0)))
    )
    suites = [suite for suite in view_suites(views) if suite.name == "features_ue_radio"]
    _, failures = validate(suites)
    assert [(f.column, f.table) for f in failures] == [("ue_rsrp_dbm_last_5s", "features_ue_radio")]
    assert "[3.0]" in failures[0].observed


def test_a_failure_is_one_error_and_leaves_the_docs(world: World) -> None:
    _spoil(world.admitted / "ue_radio.parquet", _first("cqi", pl.lit(16.0)))
    for name in ("cell_load", "qos_request"):  # a source need not have every table
        path = world.admitted / f"{name}.parquet"
        pl.read_parquet(path).clear().write_parquet(path)
    with pytest.raises(
        QosError, match=r"^1 of \d+ expectations are not met; first: ue_radio\.cqi: "
    ):
        check(world.admitted, world.features, Params())
    assert "1 not met" in (stage.FAILED_DOCS / "index.html").read_text(encoding="utf-8")


def test_the_command_ends_with_one_line_and_no_output(world: World, tmp_path: Path) -> None:
    _spoil(world.admitted / "ue_radio.parquet", _first("sinr_db", pl.lit(99.0)))
    (tmp_path / "params.yaml").write_text("check: {}\n", encoding="utf-8")
    done = subprocess.run(
        [
            sys.executable, "-m", "pipelines.check", "--admitted", world.admitted,
            "--features", world.features, "--out-docs", "docs", "--out-metrics", "m.json",
        ],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    first, *rest = done.stderr.strip().splitlines()
    assert "ue_radio.sinr_db" in first and "Traceback" not in done.stderr
    assert len(rest) == 1 and "dvc checkout" in rest[0]
    assert not (tmp_path / "docs").exists() and not (tmp_path / "m.json").exists()


def test_metrics_are_json(checked: Result) -> None:
    assert json.loads(json.dumps(checked.metrics, allow_nan=False))["empty"] == []
