"""Laws of the admission: nothing lost, nothing in both, the last line wins, each refusal says why."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dataframely as dy
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.admit import Params, admit, split
from schemas.errors import QosError
from schemas.tables import PROVENANCE, TABLES, raw_dtypes

NOW = datetime(2024, 6, 1, tzinfo=UTC)
TIMES = (datetime(1999, 12, 31, tzinfo=UTC), NOW, *(NOW + timedelta(days=d) for d in (-2, -1, 1)))
Row = dict[str, object]


def _values(name: str, column: str, good: bool) -> st.SearchStrategy[object]:
    """Values of one column: mostly such as the contract allows, else all that may come."""
    if column == "event_timestamp":
        return st.sampled_from([NOW - timedelta(days=2), *(() if good else (*TIMES, None))])
    if column == "arrival_timestamp":
        return st.sampled_from([NOW - timedelta(days=1), *(() if good else (*TIMES, None))])
    kind = TABLES[name].columns()[column]
    if isinstance(kind, dy.Enum):
        return st.sampled_from(
            [*kind.categories[:2], *(() if good or not kind.nullable else (None,))]
        )
    if isinstance(kind, dy.Int64):
        allowed = list(kind.is_in or (0, 1))[:2]
        return st.sampled_from([*allowed, *(() if good else (-1, 3, 10**6, None))])
    if isinstance(kind, dy.Float64):
        low, high = kind.min, kind.max
        assert low is not None and high is not None
        odd = (low - 1e-9, high + 1e9, float("nan"), float("inf"), float("-inf"))
        return st.sampled_from([low, high, None, *(() if good else odd)])
    return st.sampled_from(["a", "b", *(() if good else ("", "x" * 129, None))])


@st.composite
def raw_rows(draw: st.DrawFn, name: str) -> pl.DataFrame:
    """Raw rows of one table, in any order, with equal keys and equal places among them."""
    rows: list[Row] = []
    for _ in range(draw(st.integers(0, 8))):
        good = draw(st.integers(0, 3)) > 0
        row: Row = {c: draw(_values(name, c, good)) for c in TABLES[name].column_names()}
        row["source_file"] = draw(st.sampled_from(["f", "g"]))
        row["source_line"] = draw(st.integers(2, 9))
        rule = draw(st.sampled_from([None] * 8 + ["ragged_line: 3 fields", "unparseable: cqi x"]))
        rows.append(row | {"refusal": rule, "source_text": None})
    return pl.DataFrame(rows, schema=raw_dtypes(name), strict=False)


@pytest.mark.parametrize("name", TABLES)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_each_row_is_admitted_or_quarantined_with_a_reason(name: str, data: st.DataObject) -> None:
    rows = data.draw(raw_rows(name))
    admitted, quarantine = split(name, rows, NOW)
    assert len(admitted) + len(quarantine) == len(rows)
    columns = [c for c in rows.columns if c not in ("refusal", "source_text")]
    assert admitted.columns == columns
    together = [*map(repr, admitted.rows()), *map(repr, quarantine.select(columns).rows())]
    assert sorted(together) == sorted(map(repr, rows.select(columns).rows()))
    TABLES[name].validate(admitted.select(TABLES[name].column_names()))
    assert (admitted["arrival_timestamp"] <= NOW).all()
    known = (f"{name}: ", *(f"{name}.{c}: " for c in (*TABLES[name].column_names(), "cqi")))
    rules = (f"{name}.arrival_before_event", f"{name}.rsrp_of_2g_or_3g")
    for reason in quarantine["reason"].to_list():
        assert reason is not None and (reason.startswith(known) or reason in rules), reason


def _judged_alone(name: str, row: pl.DataFrame) -> bool:
    return len(split(name, row, NOW)[0]) == 1


def _last_wins(name: str, rows: pl.DataFrame) -> list[str | None]:
    """By a plain loop over the good rows: null for a winner, else how it lost."""
    keys = TABLES[name].primary_key()
    values = [c for c in rows.columns if c not in PROVENANCE]
    winner: dict[tuple[object, ...], tuple[tuple[object, ...], Row]] = {}
    listed = rows.to_dicts()
    good = [n for n in range(len(rows)) if _judged_alone(name, rows[n])]
    for n in good:
        key = tuple(listed[n][k] for k in keys)
        place = (listed[n]["source_file"], listed[n]["source_line"], n)
        if key not in winner or place > winner[key][0]:
            winner[key] = (place, listed[n])
    verdicts: list[str | None] = ["broken"] * len(rows)
    for n in good:
        place, won = winner[tuple(listed[n][k] for k in keys)]
        same = all(listed[n][c] == won[c] for c in values)
        lost = "duplicate_identical" if same else "duplicate_superseded"
        verdicts[n] = None if place[2] == n else f"{name}: {lost}"
    return verdicts


@pytest.mark.parametrize("name", TABLES)
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_of_equal_keys_the_last_line_wins(name: str, data: st.DataObject) -> None:
    rows = data.draw(raw_rows(name))
    expected = _last_wins(name, rows)
    admitted, quarantine = split(name, rows, NOW)
    winners = [row for row, verdict in zip(rows.rows(), expected, strict=True) if verdict is None]
    columns = [rows.columns.index(c) for c in admitted.columns]
    assert admitted.rows() == [tuple(row[c] for c in columns) for row in winners]
    lost = sorted(verdict for verdict in expected if verdict and "duplicate" in verdict)
    assert sorted(r for r in quarantine["reason"].to_list() if "duplicate" in r) == lost


def _radio(**columns: list[object]) -> pl.DataFrame:
    """Good rows of ue_radio, a second apart, but for the given columns."""
    count = len(next(iter(columns.values())))
    base: dict[str, list[object]] = {
        "event_timestamp": [NOW - timedelta(seconds=60 - n) for n in range(count)],
        "ue_id": ["ue-1"] * count,
        "session_id": ["s"] * count,
        "source_file": ["f"] * count,
        "source_line": list(range(2, 2 + count)),
    }
    base |= {"arrival_timestamp": base["event_timestamp"]} | columns
    absent = {c: [None] * count for c in raw_dtypes("ue_radio") if c not in base}
    return pl.DataFrame(base | absent, schema_overrides=raw_dtypes("ue_radio")).select(
        list(raw_dtypes("ue_radio"))
    )


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        (
            {"rsrp_dbm": [-156.1]},
            "ue_radio.rsrp_dbm: below [-156, -31] dBm (3GPP TS 38.133, 10.1.6)",
        ),
        ({"cqi": [16.0]}, "ue_radio.cqi: above [0, 15] 1 (3GPP TS 38.214, 5.2.2.1)"),
        ({"sinr_db": [float("nan")]}, "ue_radio.sinr_db: is NaN"),
        ({"sinr_db": [float("inf")]}, "ue_radio.sinr_db: is infinite"),
        ({"ue_id": [None]}, "ue_radio.ue_id: is null"),
        ({"rat": ["UMTS"], "rsrp_dbm": [-90.0]}, "ue_radio.rsrp_of_2g_or_3g"),
        (
            {"arrival_timestamp": [NOW - timedelta(days=1)]},
            "ue_radio.arrival_before_event",
        ),
        (
            {"arrival_timestamp": [NOW + timedelta(days=1)]},
            "ue_radio.arrival_timestamp: after the collection",
        ),
        ({"event_timestamp": [TIMES[0]]}, "ue_radio.event_timestamp: before 2000-01-01"),
        ({"refusal": ["unparseable: cqi x:y"], "cqi": [16.0]}, "ue_radio.cqi: unparseable"),
        ({"refusal": ["ragged_line: 3 fields"]}, "ue_radio: ragged_line"),
        ({"rsrp_dbm": [0.0], "cqi": [16.0]}, "ue_radio.rsrp_dbm: above [-156, -31] dBm "),
    ],
)
def test_the_first_broken_rule_is_the_reason(columns: dict[str, list[object]], reason: str) -> None:
    admitted, quarantine = split("ue_radio", _radio(**columns), NOW)
    assert admitted.is_empty()
    assert quarantine["reason"].item().startswith(reason)


def test_inclusive_limits_are_admitted() -> None:
    admitted, _ = split("ue_radio", _radio(rsrp_dbm=[-156.0, -31.0], cqi=[0.0, 15.0]), NOW)
    assert len(admitted) == 2


def test_a_broken_row_never_displaces_a_good_one() -> None:
    time = [NOW - timedelta(days=1)] * 2
    rows = _radio(event_timestamp=time, arrival_timestamp=time, cqi=[5.0, 99.0])
    admitted, quarantine = split("ue_radio", rows, NOW)
    assert admitted["cqi"].to_list() == [5.0] and quarantine["cqi"].to_list() == [99.0]


def _raw(folder: Path, radio: pl.DataFrame) -> Path:
    folder.mkdir()
    for name in TABLES:
        rows = radio if name == "ue_radio" else pl.DataFrame(schema=raw_dtypes(name))
        rows.write_parquet(folder / f"{name}.parquet")
    account = {"source": "table", "lines_read": len(radio), "files": 1, "nulls": {}}
    (folder / "collect.json").write_text(json.dumps(account))
    return folder


def test_metrics_add_up(tmp_path: Path) -> None:
    rows = _radio(cqi=[5.0, 16.0, 7.0, 16.0], rsrp_dbm=[None, None, -200.0, None])
    admitted, quarantine, metrics = admit(_raw(tmp_path / "raw", rows), Params(0.25))
    assert (metrics["read"], metrics["admitted"], metrics["quarantined"]) == (4, 1, 3)
    assert metrics["acceptance"] == 0.25 and metrics["lines_read"] == 4
    assert metrics["by_table"]["ue_radio"] == {  # type: ignore[index]
        "read": 4, "admitted": 1, "quarantined": 3,
    }  # fmt: skip
    assert list(metrics["by_reason"].values()) == [2, 1]  # type: ignore[attr-defined]
    assert set(admitted.tables) == set(quarantine.tables) == set(TABLES)
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


def test_too_few_admitted_rows_name_the_worst_reasons_and_leave_nothing(tmp_path: Path) -> None:
    _raw(tmp_path / "raw", _radio(cqi=[5.0, 16.0, 7.0, 16.0], ue_id=["a", "a", None, "a"]))
    (tmp_path / "params.yaml").write_text("admit: {min_acceptance: 0.5}\n")
    outs = [("--out-admitted", "good"), ("--out-quarantine", "bad"), ("--out-metrics", "m.json")]
    flags = [word for out in outs for word in out]
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.admit", "--raw", "raw", *flags],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[0] == (
        "admit: only 1 of 4 rows (25.0%) keep their contracts, admit.min_acceptance is 50.0%; worst: "
        "ue_radio.cqi: above [0, 15] 1 (3GPP TS 38.214, 5.2.2.1): 2; ue_radio.ue_id: is null: 1"
    )
    assert {path.name for path in tmp_path.iterdir()} == {"raw", "params.yaml"}


@pytest.mark.parametrize("share", [-0.1, 1.1, 90.0])
def test_a_share_beyond_one_is_refused(tmp_path: Path, share: float) -> None:
    with pytest.raises(
        QosError, match=r"^params.yaml: admit.min_acceptance: .*must be in \[0, 1\]"
    ):
        admit(tmp_path, Params(share))


def test_a_missing_collection_is_refused(tmp_path: Path) -> None:
    with pytest.raises(QosError, match=r"collect\.json: not found; `dvc repro` makes it"):
        admit(tmp_path, Params())
