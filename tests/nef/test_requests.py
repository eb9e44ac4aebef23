"""The request generator: envelopes, mixes, seeds, files, and that the platform takes what it writes."""

import json
import math
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest, triang
from typer.testing import CliRunner

from nef.client.payload import read_requirement
from nef.requests import MIXES, Plan, app, requests
from pipelines.admit import split
from pipelines.sources.table import table
from schemas.errors import QosError
from schemas.service_class import SERVICE_CLASSES

NAMES = list(SERVICE_CLASSES)
FORMATS = ["csv", "json", "ndjson", "parquet"]


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 1
    return result.output


@given(
    weights=st.fixed_dictionaries({name: st.floats(0, 10) for name in NAMES}),
    seed=st.integers(0, 2**62),
    records=st.integers(1, 300),
)
@settings(max_examples=50, deadline=None)
def test_every_request_lies_in_its_classs_envelope(
    weights: dict[str, float], seed: int, records: int
) -> None:
    if sum(weights.values()) == 0:
        return
    rows = requests(Plan(weights, records, seed))  # type: ignore[arg-type]
    assert len(rows) == records
    assert rows["request_id"].n_unique() == records
    for row in rows.iter_rows(named=True):
        own = SERVICE_CLASSES[row["service_type"]]
        assert weights[own.name] > 0
        assert row["five_qi"] == own.five_qi
        assert own.delay_range_ms.low <= row["latency_ms"] <= own.delay_range_ms.high
        span = own.reliability_range_percent
        assert span.low <= row["reliability_pct"] <= span.high
        assert own.downlink_range_mbps.low <= row["throughput_mbps"] <= own.downlink_range_mbps.high
        assert own.priority_range[0] <= row["priority"] <= own.priority_range[1]
        assert math.isclose(row["loss_ratio"], 1 - row["reliability_pct"] / 100, abs_tol=1e-9)


@pytest.mark.parametrize("mix", list(MIXES))
def test_a_mix_has_its_shares(mix: str) -> None:
    assert sum(MIXES[mix].values()) == pytest.approx(1)
    rows = requests(Plan(MIXES[mix], 20_000, 1))
    for name, share in MIXES[mix].items():
        spread = 4.5 * math.sqrt(share * (1 - share) / 20_000)
        assert (rows["service_type"] == name).mean() == pytest.approx(share, abs=spread)


def test_a_classs_values_are_triangular_about_their_mode() -> None:
    rows = requests(Plan({"embb": 1.0}, 5_000, 3))
    for column, span in (
        ("latency_ms", SERVICE_CLASSES["embb"].delay_range_ms),
        ("throughput_mbps", SERVICE_CLASSES["embb"].downlink_range_mbps),
    ):
        width = span.high - span.low
        law = triang((span.mode - span.low) / width, loc=span.low, scale=width)
        assert kstest(rows[column].to_numpy(), law.cdf).pvalue > 1e-4


def test_equal_seeds_give_equal_rows_and_others_do_not() -> None:
    first, again, other = (requests(Plan(MIXES["uniform"], 50, seed)) for seed in (7, 7, 8))
    assert first.equals(again)
    assert not first.equals(other)


def test_times_run_from_the_start_at_the_rate() -> None:
    start = datetime(2025, 3, 1, 12, tzinfo=UTC)
    rows = requests(Plan(MIXES["uniform"], 10_000, 1, start=start, rate=50.0))
    times = rows["event_timestamp"]
    assert times.is_sorted() and times[0] > start
    assert (times[-1] - start).total_seconds() == pytest.approx(200, rel=0.05)


@pytest.mark.parametrize("kind", FORMATS)
def test_the_table_source_and_admission_take_every_row(tmp_path: Path, kind: str) -> None:
    run("--output", tmp_path / f"asked.{kind}", "--records", 500, "--seed", 5)
    found = table(tmp_path / "asked.yaml")
    rows = found.tables["qos_request"]
    admitted, bad = split("qos_request", rows, datetime.now(UTC))
    assert len(rows) == len(admitted) == found.lines == 500 and bad.is_empty()
    made = requests(Plan(MIXES["balanced"], 500, 5)).sort("request_id")
    read = admitted.sort("request_id")
    for ours, theirs in (
        ("request_id", "request_id"), ("event_timestamp", "event_timestamp"), ("ue_id", "ue_id"),
        ("session_id", "session_id"), ("five_qi", "five_qi"), ("latency_ms", "requested_delay_ms"),
        ("throughput_mbps", "requested_downlink_mbps"), ("loss_ratio", "requested_loss_ratio"),
    ):  # fmt: skip
        assert made[ours].to_list() == read[theirs].to_list()


def test_all_formats_hold_the_same_rows(tmp_path: Path) -> None:
    for kind in FORMATS:
        run("--output", tmp_path / f"asked.{kind}", "--records", 200, "--seed", 2)
    csv = pl.read_csv(tmp_path / "asked.csv")
    assert len(csv) == 200
    assert csv.equals(pl.read_ndjson(tmp_path / "asked.ndjson"))
    assert csv.rows(named=True) == json.loads((tmp_path / "asked.json").read_text())
    parquet = pl.read_parquet(tmp_path / "asked.parquet")
    assert parquet.drop("event_timestamp").equals(csv.drop("event_timestamp"))
    assert (
        parquet["event_timestamp"].to_list()
        == csv["event_timestamp"].str.to_datetime(time_zone="UTC").to_list()
    )


def test_a_file_is_the_same_bytes_for_the_same_seed(tmp_path: Path) -> None:
    for kind in FORMATS:
        for name in ("a", "b"):
            run("--output", tmp_path / f"{name}.{kind}", "--seed", 9)
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()


def test_each_row_is_a_requirement_that_the_collector_takes() -> None:
    for row in requests(Plan(MIXES["uniform"], 200, 4)).iter_rows(named=True):
        found = read_requirement(row | {"service_priority": row["priority"]})
        assert found.five_qi == row["five_qi"] and found.priority == row["priority"]
        assert found.loss_ratio == pytest.approx(row["loss_ratio"], abs=1e-12)


def test_own_weights_replace_the_mix(tmp_path: Path) -> None:
    run("--output", tmp_path / "a.csv", "--urllc-weight", 3, "--mmtc-weight", 1)
    assert set(pl.read_csv(tmp_path / "a.csv")["service_type"]) == {"urllc", "mmtc"}


def test_the_format_may_be_named_and_the_mapping_left_out(tmp_path: Path) -> None:
    run(
        "--output", tmp_path / "a.txt", "--format", "ndjson", "--no-mapping", "--profile", "uniform"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert len(pl.read_ndjson(tmp_path / "a.txt")) == 1000


def test_a_name_with_signs_of_yaml_and_glob_is_mapped(tmp_path: Path) -> None:
    run("--output", tmp_path / "a: [b]*#.csv", "--records", 5)
    assert len(table(tmp_path / "a: [b]*#.yaml").tables["qos_request"]) == 5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--records", 0], "records: 0, must be above 0"),
        (["--records", 5_000_001], "records: 5000001"),
        (["--mix", "gaming"], "unknown 'gaming'; known: ['balanced'"),
        (["--mix", "uniform", "--embb-weight", 1], "give one of them"),
        (["--embb-weight", 0], "one of them above 0"),
        (["--embb-weight", -1, "--urllc-weight", 2], "must be 0 or more"),
        (["--embb-weight", "nan"], "must be 0 or more"),
        (["--seed", -1], "seed"),
        (["--ues", 0], "ues: 0"),
        (["--rate", "inf"], "rate: inf"),
        (["--start", "yesterday"], "no ISO 8601 time"),
        (["--start", "2025-01-01T00:00:00"], "bears no zone"),
        (["--output", "asked.xlsx"], "no known suffix; add --format csv|json|ndjson|parquet"),
    ],
)
def test_a_wrong_option_is_refused_in_one_line_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[object], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    told = refused(*arguments)
    assert words in told and told.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_plan_is_checked_where_it_is_used_too() -> None:
    with pytest.raises(QosError, match="weights"):
        requests(Plan({}))


def test_the_command_shows_its_help() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "nef.requests", "--help"], capture_output=True, text=True, check=True
    )
    for option in ("--records", "--mix", "--seed", "--output", "--format", "--urllc-weight"):
        assert option in shown.stdout


@pytest.mark.parametrize(
    ("text", "words"),
    [("{}", "dict, not an array"), ("[1", "not JSON"), ("[]", "empty"), ("[" * 10**5, "not JSON")],
)
def test_a_json_file_that_is_no_array_is_refused(tmp_path: Path, text: str, words: str) -> None:
    run("--output", tmp_path / "asked.json", "--records", 5)
    (tmp_path / "asked.json").write_text(text)
    with pytest.raises(QosError, match=words):
        table(tmp_path / "asked.yaml")


def test_a_json_element_that_is_no_object_is_refused_at_its_place(tmp_path: Path) -> None:
    run("--output", tmp_path / "asked.json", "--records", 2)
    good = json.loads((tmp_path / "asked.json").read_text())
    (tmp_path / "asked.json").write_text(json.dumps([good[0], "a\nb", None, good[1]]))
    rows = table(tmp_path / "asked.yaml").tables["qos_request"]
    admitted, bad = split("qos_request", rows)
    assert len(admitted) == 2 and sorted(bad["source_line"]) == [2, 3]
