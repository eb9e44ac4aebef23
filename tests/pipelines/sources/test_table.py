"""A user's own CSV, Parquet or NDJSON through one mapping, and what is said of each mistake."""

import json
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.admit import split
from pipelines.collect import Params, collect
from pipelines.sources.collected import Collected
from pipelines.sources.table import table
from schemas.errors import QosError

DATA = Path(__file__).parent / "data"
START = datetime(2024, 3, 5, 12, tzinfo=UTC)
COLUMNS = ["time", "imsi", "cell", "net", "rsrp", "sinr", "speed", "dl", "note"]
WHOLE = [line.split(",") for line in (DATA / "drive.csv").read_text().splitlines()[1:4]]


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    """The mapping of a copy of the example that a test may spoil."""
    for name in ("drive.csv", "drive.yaml"):
        shutil.copy(DATA / name, tmp_path)
    return tmp_path / "drive.yaml"


def _change(mapping: Path, **changes: object) -> Path:
    content = yaml.safe_load(mapping.read_text()) | changes
    mapping.write_text(yaml.safe_dump(content), encoding="utf-8")
    return mapping


def _values(found: Collected, name: str, *columns: str) -> list[tuple[object, ...]]:
    rows = found.tables[name].filter(pl.col("refusal").is_null())
    return rows.select(pl.col(c).cast(pl.String) if c == "rat" else c for c in columns).rows()


def _assert_drive(found: Collected) -> None:
    """The example's three good rows."""
    assert _values(
        found, "ue_radio", "event_timestamp", "cell_id", "rat", "rsrp_dbm", "sinr_db"
    ) == [
        (START, "1E05", "LTE", -90.5, 12.5),
        (START + timedelta(seconds=1), "9E38", "NR", -91.0, None),
        (START + timedelta(seconds=2), "1E05", "LTE", None, 11.5),
    ]
    assert _values(found, "ue_motion", "speed_mps")[:3] == [(10.0,), (20.0,), (None,)]
    assert _values(found, "ue_flow", "downlink_mbps", "five_qi")[:3] == [(1.5, 9), (2.5, 9), (0, 9)]


def test_csv_with_everything_that_goes_wrong(drive: Path) -> None:
    found = table(drive)
    _assert_drive(found)
    assert (found.lines, found.files) == (7, 1)
    refused = found.tables["ue_radio"].filter(pl.col("refusal").is_not_null())
    assert refused.select("source_file", "source_line", "refusal").rows() == [
        ("drive.csv", 6, "unparseable: rat WLAN"),
        ("drive.csv", 7, "unparseable: event_timestamp"),
        ("drive.csv", 8, "unparseable: rsrp_dbm -9OO"),
        ("drive.csv", 5, "ragged_line: 3 fields, the header has 9"),
    ]
    assert refused["source_text"].to_list()[-1] == "2024-03-05 20:00:03,001010000000001,1E05"
    assert found.nulls == {
        "ue_radio.rsrp_dbm": {"missing '-'": 1},
        "ue_radio.sinr_db": {"missing '-'": 1},
        "ue_motion.speed_mps": {"sentinel -1": 1},
    }
    _, quarantine = split("ue_radio", found.tables["ue_radio"])
    assert quarantine["reason"].to_list() == [
        "ue_radio.rat: unparseable", "ue_radio.event_timestamp: unparseable",
        "ue_radio.rsrp_dbm: unparseable", "ue_radio: ragged_line",
    ]  # fmt: skip


@pytest.mark.parametrize("typed", [False, True])
def test_parquet_gives_the_same_rows(drive: Path, typed: bool) -> None:
    rows = pl.DataFrame(WHOLE, schema=COLUMNS, orient="row")
    if typed:
        time = pl.col("time").str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit="ns")
        numbers = [pl.col(c).cast(pl.Float64, strict=False) for c in ("rsrp", "sinr", "speed")]
        rows = rows.with_columns(
            time, *numbers, pl.col("dl").cast(pl.Int32), extra=pl.lit([1, 2]), bytes=pl.lit(b"\xff")
        )
    rows.rename({"rsrp": " rsrp "}).write_parquet(drive.parent / "drive.parquet")
    _assert_drive(table(_change(drive, files="drive.parquet", format="parquet")))


def test_ndjson_gives_the_same_rows_and_keeps_bad_lines_apart(drive: Path) -> None:
    good = [json.dumps(dict(zip(COLUMNS, row, strict=True))) for row in WHOLE]
    good[1] = good[1].replace('"start"', '"x\u2028y"').replace('"-910"', "-910")
    bad = ["{", "[1]", "[" * 100_000, "1" * 5000, '{"time": "\\ud800"}', "nonsense"]
    text = "\ufeff" + "\n".join([good[0], *bad, "", *good[1:], '{"source_line": "x"}'])
    (drive.parent / "d.ndjson").write_text(text, encoding="utf-8")
    found = table(_change(drive, files="d.ndjson", format="ndjson"))
    _assert_drive(found)
    assert found.lines == 10
    refused = found.tables["ue_radio"].filter(pl.col("refusal").str.starts_with("ragged_line"))
    assert refused["source_line"].to_list() == [2, 3, 4, 5, 6, 7]


def test_files_of_one_name_in_two_folders_are_two_sessions(drive: Path) -> None:
    for day in ("mon", "tue"):
        (drive.parent / day).mkdir()
        shutil.copy(DATA / "drive.csv", drive.parent / day)
    found = table(_change(drive, files="*/drive.csv"))
    assert found.files == 2 and found.lines == 14
    assert set(found.tables["ue_flow"]["session_id"].drop_nulls()) == {
        "mon/drive.csv", "tue/drive.csv",
    }  # fmt: skip


def test_columns_that_the_mapping_does_not_name_stay_outside(drive: Path) -> None:
    file = drive.parent / "drive.csv"
    file.write_text(file.read_text().replace("note", "rssi_dbm").replace("speed ", "request_id"))
    content = yaml.safe_load(drive.read_text())
    del content["tables"]["ue_motion"]
    found = table(_change(drive, tables=content["tables"] | {"qos_request": {}}))
    assert found.tables["ue_radio"]["rssi_dbm"].null_count() == 7
    assert found.tables["qos_request"]["request_id"].null_count() == 7


def test_a_file_may_use_the_names_of_the_contract(drive: Path) -> None:
    file = drive.parent / "drive.csv"
    file.write_text(file.read_text().replace("time ", "event_timestamp").replace("note", "ue_id"))
    content = yaml.safe_load(drive.read_text())
    content["tables"]["ue_radio"]["columns"]["cell_id"] = "ue_id"
    time = {"column": "event_timestamp", "zone": "Asia/Taipei"}
    found = table(_change(drive, event_time=time, arrival_time=time, tables=content["tables"]))
    rows = _values(found, "ue_radio", "event_timestamp", "arrival_timestamp", "ue_id", "cell_id")
    assert rows[0] == (START, START, "001010000000001", "start")


def test_one_time_in_the_future_delays_no_other_row(drive: Path) -> None:
    file = drive.parent / "drive.csv"
    file.write_text(file.read_text().replace("2024-03-05 20:00:00", "9024-03-05 20:00:00"))
    admitted, quarantine = split("ue_flow", table(drive).tables["ue_flow"], datetime.now(UTC))
    assert len(admitted) == 4
    assert "ue_flow.arrival_timestamp: after the collection" in quarantine["reason"].to_list()


def test_own_missing_markers_hold_for_text_too(drive: Path) -> None:
    file = drive.parent / "drive.csv"
    file.write_text(file.read_text().replace("9E38", "n/a").replace(",-,", ",n/a,"))
    found = table(_change(drive, missing=["n/a", ""]))
    assert found.tables["ue_radio"]["cell_id"].to_list()[1] is None
    assert found.nulls["ue_radio.cell_id"] == {"missing 'n/a'": 1}


FLOW = {"columns": {"downlink_mbps": {"column": "dl", "unit": "kbps"}}, "constants": {"five_qi": 9}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"files": "none*.csv"}, r"files: 'none\*\.csv' matches no file beside the mapping"),
        (
            {"files": "/etc/hosts"},
            r"files: '/etc/hosts', must be a path or glob beside the mapping",
        ),
        ({"zone": "UTC"}, r"1 faults; first: zone: Extra inputs are not permitted"),
        ({"separator": "::"}, r"1 faults; first: separator: "),
        ({"event_time": {"column": "time"}}, r"event_time: 5 of 6 times in 'time' bear no zone"),
        (
            {"event_time": {"column": "when", "zone": "UTC"}},
            r"event_time: the files have no column 'when'; they have 'time', 'imsi', 'cell', 'net'",
        ),
        ({"ue": "msisdn"}, r"ue: the files have no column 'msisdn'; they have 'time'"),
        ({"session": "source_file"}, r"session: the files have no column 'source_file'"),
        ({"tables": {"ue_flows": {}}}, r"tables: unknown table 'ue_flows'; known: \['ue_radio'"),
        (
            {"tables": {"ue_flow": {"columns": {"speed": "dl"}}}},
            r"tables\.ue_flow: unknown column 'speed'; ue_flow has \['event_timestamp'",
        ),
        (
            {"tables": {"ue_flow": {"columns": {"downlink_mbps": "dl"}}}},
            r"tables\.ue_flow\.downlink_mbps: needs a unit: \{column: dl, unit: Mbps\}",
        ),
        (
            {"tables": {"ue_flow": {"columns": {"downlink_mbps": {"column": "dl", "unit": "kb"}}}}},
            r"tables\.ue_flow\.downlink_mbps: unknown unit 'kb'; for \[Mbps\] there are \['B/s'",
        ),
        (
            {"tables": {"ue_flow": FLOW | {"constants": {"traffic": "voice"}}}},
            r"tables\.ue_flow\.constants\.traffic: 'voice'; allowed: \['full_buffer'",
        ),
        (
            {"tables": {"ue_flow": FLOW | {"constants": {"five_qi": 9.5}}}},
            r"tables\.ue_flow\.constants\.five_qi: 9\.5 \(float\); it takes int",
        ),
        (
            {"tables": {"ue_flow": {"columns": {"event_timestamp": "time"}}}},
            r"tables\.ue_flow\.event_timestamp: times are named at the top",
        ),
        ({"format": "parquet"}, r"drive\.csv: not Parquet: "),
    ],
)
def test_each_mistake_is_one_clear_line(drive: Path, changes: dict[str, object], said: str) -> None:
    with pytest.raises(QosError, match=said) as raised:
        table(_change(drive, **changes))
    assert str(raised.value).startswith(str(drive.parent)) and "\n" not in str(raised.value)


@pytest.mark.parametrize("format", ["csv", "parquet", "ndjson"])
def test_an_empty_source_is_refused(drive: Path, format: str) -> None:
    file = drive.parent / "none"
    if format == "parquet":
        pl.DataFrame(schema=dict.fromkeys(COLUMNS, pl.String)).write_parquet(file)
    else:
        file.write_text("\n")
    with pytest.raises(QosError, match=f"^{re.escape(str(file))}: empty: "):
        table(_change(drive, files="none", format=format))


def test_types_that_differ_between_files_are_refused(drive: Path) -> None:
    for name, time in (("a", "2024-03-05 20:00:00"), ("b", datetime(2024, 3, 5, 20))):
        row = dict(zip(COLUMNS, WHOLE[0], strict=True)) | {"time": time}
        pl.DataFrame([row]).write_parquet(drive.parent / f"{name}.parquet")
    with pytest.raises(QosError, match="files: a column has not one type in all files: "):
        table(_change(drive, files="*.parquet", format="parquet"))


def test_times_in_the_future_are_refused(drive: Path) -> None:
    file = drive.parent / "drive.csv"
    file.write_text(file.read_text().replace("2024-", "2424-"))
    said = r"event_time: 5 of 6 times lie in the future; first 2424-03-05.*\(drive\.csv, line 2\)"
    with pytest.raises(QosError, match=said):
        table(drive)


def test_a_missing_file_is_one_line_of_the_command(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    shutil.copy(DATA / "drive.yaml", tmp_path / "mine")
    (tmp_path / "params.yaml").write_text("collect: {source: table, table: mine}\n")
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.collect", "--out", "raw"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and "Traceback" not in done.stderr
    first, *rest = done.stderr.splitlines()
    assert first == (
        "collect: mine/drive.yaml: files: 'drive.csv' matches no file beside the mapping"
    )
    assert len(rest) == 1 and not (tmp_path / "raw").exists()


def test_a_folder_has_one_mapping(drive: Path) -> None:
    asked = Params(source="table", table=str(drive.parent))
    shutil.copy(drive, drive.with_name("second.yml"))
    with pytest.raises(QosError, match=r"2 mappings \['drive\.yaml', 'second\.yml'\]; one \.yaml"):
        collect(asked)
    with pytest.raises(QosError, match=r"collect\.table: .*none: no such folder"):
        collect(Params(source="table", table=str(drive.parent / "none")))
    with pytest.raises(QosError, match=r"^[^:]*drive\.yml: not YAML: "):
        drive.with_name("drive.yml").write_bytes(b"\xff")
        table(drive.with_name("drive.yml"))


@pytest.mark.parametrize("grid", [0.0, -1.0, 1.5, float("nan")])
def test_a_grid_beyond_its_limits_is_refused(grid: float) -> None:
    with pytest.raises(QosError, match=r"^params\.yaml: collect\.grid_deg: .* must be in \(0, 1\]"):
        collect(Params(grid_deg=grid))


value = st.sampled_from(
    [
        "-90",
        "-",
        "",
        "1E05",
        "9" * 15,
        "NaN",
        "inf",
        "-1e999",
        '"',
        "x",
        "2024-03-05 20:00:00",
        "LTE",
    ]
)
line = st.one_of(st.lists(value, max_size=11).map(",".join), st.text(max_size=20))
good = st.lists(value, min_size=8, max_size=8).map(lambda v: ",".join(["2024-03-05 20:00:00", *v]))


@settings(max_examples=60, deadline=None)
@given(lines=st.lists(st.one_of(line, good), max_size=8))
def test_rows_out_and_rows_refused_are_the_rows_in(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("garbage")
    shutil.copy(DATA / "drive.yaml", folder)
    text = "\n".join([",".join(COLUMNS), ",".join(WHOLE[0]), *lines])
    (folder / "drive.csv").write_bytes(text.encode("utf-8", "replace"))
    found = table(folder / "drive.yaml")
    filled = [part for part in re.split(r"\r\n|\n|\r", text)[1:] if part.strip()]
    assert found.lines == len(filled)
    for name in ("ue_radio", "ue_motion", "ue_flow"):
        admitted, quarantine = split(name, found.tables[name], datetime.now(UTC))
        assert len(admitted) + len(quarantine) == len(filled)
        assert quarantine["reason"].null_count() == 0
