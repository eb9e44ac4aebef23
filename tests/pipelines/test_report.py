"""The page says what the stages left, also when that is bad news, and loads nothing from elsewhere."""

import copy
import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from feature_repo.views import UE_FLOW, UE_RADIO
from feature_repo.windows import spelled
from lifecycle.bundles import load, write
from models.bundle import Bundle
from models.forecaster import Settings
from pipelines import report_charts as charts
from pipelines import stage
from pipelines.evaluate import Params as EvaluateParams
from pipelines.evaluate import judge_bundle
from pipelines.report import report
from pipelines.report_facts import cautions, examples, headline
from pipelines.train import Params as TrainParams
from pipelines.train import train
from schemas.errors import QosError
from tests.models.frames import CATALOG_HASH, plausible_frame, write_services

TASKS = ("throughput", "qos_met")
EVIL = "ue_flow.<script>alert('x')</script>: above [0, 1]"
END = datetime(2026, 1, 20, 12, tzinfo=UTC)
VOID = {"meta", "br", "img", "rect", "circle", "line", "polyline"}
NAMES = ("metrics", "features", "plots", "frame", "bundle")


@pytest.fixture(scope="module")
def run_of_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs of a run with two tasks; read only."""
    return _run(tmp_path_factory.mktemp("two"), TASKS)


@pytest.fixture
def folder(run_of_two: Path, tmp_path: Path) -> Path:
    """The same outputs, whose metrics a test may change."""
    for path in run_of_two.iterdir():
        if path.name != "metrics":
            (tmp_path / path.name).symlink_to(path)
    (tmp_path / "metrics").mkdir()
    for path in (run_of_two / "metrics").iterdir():
        (tmp_path / "metrics" / path.name).write_bytes(path.read_bytes())
    return tmp_path


def _run(folder: Path, tasks: tuple[str, ...]) -> Path:
    frame = plausible_frame(tasks=tasks)
    frame.write_parquet(folder / "frame.parquet")
    services = write_services(folder / "services.json")
    bundle = train(frame, services, TrainParams(forecaster=Settings(rounds=20, folds=2))).bundle
    write(bundle, folder / "bundle")
    judged = judge_bundle(bundle, frame, CATALOG_HASH, EvaluateParams(resamples=50))
    judged.plots.write(folder / "plots")
    _write_features(folder / "features")
    counted = {"decisions": 1440, "left_out": {"future not whole": 31}, "positives": 700}
    metrics = {
        "admit": {
            "source": "ucc5g", "read": 1_234_567, "admitted": 1_234_560, "quarantined": 7,
            "acceptance": 1_234_560 / 1_234_567, "lines_read": 1_234_600, "files": 83,
            "by_table": {"ue_flow": {"read": 1_234_567, "admitted": 1_234_560, "quarantined": 7}},
            "by_reason": {EVIL: 4, "duplicate_superseded": 3},
            "nulls": {"ue_radio.cqi": {"marker '-'": 4321}},
        },
        "label": {task: counted | {"used": True} for task in tasks}
        | {"handover": {"decisions": 3, "left_out": {}, "positives": 1, "used": False}},
        "truncation": {"rows": 200, "columns": 60, "values": 12000, "differences": 0},
        "evaluate": judged.metrics,
    }  # fmt: skip
    for name, content in metrics.items():
        _write(folder, name, content)
    return folder


def _write_features(folder: Path) -> None:
    """ue_radio with two keys, one of them fresh and half of CQI unknown; ue_flow empty; no other."""
    names = [feature.name for feature in UE_RADIO.features()]
    times = [END, END - timedelta(minutes=1), END - timedelta(minutes=2), END - timedelta(hours=1)]
    radio = pl.DataFrame(
        {"ue_id": ["a", "b", "a", "b"], "event_timestamp": times, "arrival_timestamp": times}
        | {name: [1.0] * 4 for name in names if name != "ue_cqi_mean_10s"}
        | {"ue_cqi_mean_10s": [1.0, None, None, 2.0]},
    )
    empty = pl.DataFrame(
        schema={"ue_id": pl.String, "five_qi": pl.Int64}
        | dict.fromkeys(("event_timestamp", "arrival_timestamp"), pl.Datetime("us", "UTC"))
        | {feature.name: pl.Float64 for feature in UE_FLOW.features()}
    )
    for path, rows in (("ue_radio/day=2026-01-20", radio), ("ue_flow", empty)):
        (folder / path).mkdir(parents=True)
        rows.write_parquet(folder / path / "rows.parquet")


def _write(folder: Path, name: str, content: object) -> None:
    (folder / "metrics").mkdir(exist_ok=True)
    (folder / "metrics" / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")


def _read(folder: Path, name: str) -> dict[str, Any]:
    return dict(json.loads((folder / "metrics" / f"{name}.json").read_text(encoding="utf-8")))


def _page(folder: Path, version: Path | None = None) -> str:
    frame = pl.read_parquet(folder / "frame.parquet")
    paths = (folder / name for name in ("metrics", "features", "plots"))
    return report(*paths, frame=frame, bundle=folder / "bundle", version=version).html


def _text(page: str) -> str:
    """What a reader sees, in one line."""
    return re.sub(r"\s+", " ", re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.S))


def test_it_shows_every_task_reason_and_number(folder: Path) -> None:
    page = _page(folder)
    text = _text(page)
    for task in TASKS:
        found = _read(folder, "evaluate")[task]
        assert text.count(task) >= 5
        assert f"{found['auc']:.3f}" in text and f"{found['auc_persistence']:.3f}" in text
        assert f"{found['brier']:.3f}" in text and f"{found['ece']:.3f}" in text
    assert "duplicate_superseded" in text and "1,234,560 of 1,234,567" in text
    assert "ue_radio.cqi marker &#39;-&#39; 4,321" in text
    assert "future not whole" in text and "handover: not learned; 3 decisions" in text
    assert "200 rows × 60 columns, 12,000 values" in text
    assert load(folder / "bundle").digest in text and CATALOG_HASH in text and "dvc repro" in text
    assert page.count("data:image/png;base64,") == 1  # qos_met has no continuous target here


def test_the_sections_come_in_the_order_of_the_pipeline(folder: Path) -> None:
    found = re.findall(r'<section id="(\w+)"', _page(folder))
    assert found == [
        "intake", "features", "frame", "proof", "skill", "groups", "curves", "examples",
        "registry", "again",
    ]  # fmt: skip
    assert re.findall(r'href="#(\w+)"', _page(folder)) == found


def test_what_users_wrote_is_escaped(folder: Path) -> None:
    refused = {"registered": False, "name": "<b>qos", "reason": "<img src=x>", "bundle": "b<i>"}
    _write(folder, "register", refused)
    admit = _read(folder, "admit")
    _write(folder, "admit", admit | {"source": "<script>1</script>"})
    page = _page(folder)
    assert "<script" not in page and "<b>qos" not in page and "<img src=x" not in page
    assert "b<i>" not in page and "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;" in page
    assert charts.bar(0.5, "model", '"><script>').count("<script") == 0


def test_stages_that_were_not_run_are_said_so(folder: Path) -> None:
    text = _text(_page(folder))
    for stage_name in ("check", "register"):
        assert f"Not run: {stage_name} left no receipt." in text
    assert "not run" in text and "not computed" in text
    _write(folder, "check", {"expectations": 252, "failed": 2, "empty": ["ue_flow"],
                             "tables": {"ue_radio": {"expectations": 24, "rows": 84854}}})  # fmt: skip
    _write(folder, "publish", {"ue_radio": {"rows": 4, "keys": 31337, "catalog_hash": "other"}})
    accepted = {"registered": True, "name": "qos", "reason": None, "bundle": "b1"}
    _write(folder, "register", accepted)
    text = _text(_page(folder))
    assert "252 expectations on 1 tables, 2 failed" in text and "empty: ue_flow" in text
    assert "31,337" in text and "differs" in text and "not published" in text
    assert "registered qos accepted" in text and "another one than shown here" in text


def test_the_version_of_a_registry_is_named_if_it_holds_this_bundle(folder: Path) -> None:
    digest = load(folder / "bundle").digest
    accepted = {"registered": True, "name": "qos", "reason": None, "bundle": digest}
    _write(folder, "register", accepted)
    found = {"bundle": digest, "version": 12, "aliases": ["champion"], "run_id": "r1"}
    _write(folder, "version", found)
    version = folder / "metrics" / "version.json"
    assert "qos v12 champion" in _text(_page(folder, version))
    _write(folder, "version", found | {"bundle": "older"})
    assert _page(folder, version) == _page(folder)
    assert "v12" not in _page(folder) and "another one than" not in _page(folder)


def test_a_needed_input_that_is_absent_is_named(folder: Path) -> None:
    (folder / "metrics" / "admit.json").unlink()
    with pytest.raises(QosError, match=r"admit\.json: not found; `dvc repro admit`"):
        _page(folder)
    (folder / "metrics" / "admit.json").write_text("[]")
    with pytest.raises(QosError, match=r"admit\.json: a list"):
        _page(folder)


def test_a_source_with_one_task_and_no_pictures_has_a_page(tmp_path: Path) -> None:
    folder = _run(tmp_path, ("handover",))
    for path in (folder / "plots").iterdir():
        path.unlink()
    text = _text(_page(folder))
    assert "persistence for handover." in text and re.search("gain proven [01] of 1 ", text)
    assert "throughput" not in text and text.count("Not drawn") == 3


def test_coverage_and_freshness_are_counted(folder: Path) -> None:
    page = _page(folder)
    row = re.search(r"<tr><th><span class=\"mono\">ue_radio</span>.*?</tr>", page, re.S)
    assert row is not None
    cells = _text(row[0]).split()
    assert cells[:4] == ["ue_radio", "ue_id", "4", "2"] and cells[-3:] == ["1", "not", "run"]
    assert "2026-01-20 12:00:00" in row[0] and "10 s" in row[0]
    cqi = re.search(r"<span class=\"mono\"[^>]*>ue_cqi_mean_10s.*?</div>", page, re.S)
    assert cqi is not None and "50.0\u00a0%" in cqi[0] and 'width="50.00%"' in cqi[0]
    empty = re.search(r"<tr><th><span class=\"mono\">ue_flow</span>.*?</tr>", page, re.S)
    assert empty is not None and "no event" in empty[0]


GAINS = {
    "better": (0.02, 0.01, 0.03),
    "none": (0.02, -0.01, 0.05),
    "zero": (0.02, 0.0, 0.05),
    "worse": (-0.02, -0.03, -0.01),
    "unknown": (None, None, None),
    "few": (0.02, None, None),
}


def _gained(*names: str) -> dict[str, Any]:
    keys = ("gain", "gain_low", "gain_high")
    return {name: dict(zip(keys, GAINS[name], strict=True)) for name in names}


@pytest.mark.parametrize(
    ("tasks", "expected"),
    [
        (("better",), "The model is better than persistence for better."),
        (("zero",), "No gain shown over persistence for zero."),
        (("none", "better", "zero"), "The model is better than persistence for better; no gain "
         "shown over persistence for none and zero."),
        (("worse",), "The model is worse than persistence for worse."),
        (("few", "unknown"), "No gain over persistence can be stated for few and unknown."),
    ],
)  # fmt: skip
def test_the_headline_says_only_what_the_interval_allows(
    tasks: tuple[str, ...], expected: str
) -> None:
    assert headline(_gained(*tasks)) == expected


def test_no_gain_is_said_on_the_page(folder: Path) -> None:
    judged = _read(folder, "evaluate")
    for found in judged.values():
        found |= {"gain": 0.02, "gain_low": -0.01, "gain_high": 0.05, "verdict": "Not shown here."}
    _write(folder, "evaluate", judged)
    text = _text(_page(folder))
    assert "No gain shown over persistence for qos_met and throughput." in text
    assert "gain proven 0 of 2" in text and "Not shown here." in text
    assert text.count("no gain shown") == 2 and "better than persistence" not in text


def test_doubts_are_raised_before_the_numbers(run_of_two: Path) -> None:
    manifest = load(run_of_two / "bundle").manifest
    good = {
        "bundle": manifest["digest"], "auc": 0.9, "auc_low": 0.88, "auc_radio_only": 0.8,
        "brier": 0.1, "brier_class_rate": 0.2, "band_coverage": 0.8, "band_coverage_low": 0.78,
        "band_coverage_high": 0.82, "sessions": 30,
    }  # fmt: skip
    metrics = {
        "admit": {"source": "ucc5g"}, "label": {}, "check": None,
        "truncation": {"differences": 0}, "evaluate": {"t": good},
    }  # fmt: skip

    def raised(name: str, **changes: Any) -> list[str]:
        changed: dict[str, Any] = copy.deepcopy(metrics)
        target = changed[name]["t"] if name == "evaluate" else changed.setdefault(name, {})
        if target is None:
            target = changed[name] = {}
        target.update(changes)
        return [text for _, text in cautions(changed, manifest)]

    assert raised("evaluate") == []
    assert "radio features alone do as well" in raised("evaluate", auc_radio_only=0.89)[0]
    assert "judged on 7 sessions only" in raised("evaluate", sessions=7)[0]
    assert "no better than the class rate" in raised("evaluate", brier=0.3)[0]
    narrow = {"band_coverage": 0.7, "band_coverage_low": 0.68, "band_coverage_high": 0.72}
    assert "too narrow" in raised("evaluate", **narrow)[0]
    assert "another bundle" in raised("evaluate", bundle="b0")[0]
    assert "5 values change" in raised("truncation", differences=5)[0]
    assert "3 expectations failed" in raised("check", failed=3)[0]
    assert "simulated" in raised("admit", source="simulator")[0]


def test_examples_are_unseen_decisions_of_the_test_part(run_of_two: Path) -> None:
    bundle = load(run_of_two / "bundle")
    frame = pl.read_parquet(run_of_two / "frame.parquet")
    found = examples(frame, bundle)
    assert 8 <= len(found) <= 10 and {one["task"] for one in found} == set(TASKS)
    for one in found:
        split = bundle.manifest["tasks"][one["task"]]["split"]
        rows = frame.filter(
            pl.col("task") == one["task"],
            pl.col("ue_id") == one["ue"],
            pl.col("event_timestamp").dt.strftime("%Y-%m-%d %H:%M:%S") == one["when"],
        )
        assert set(rows["session_id"]) <= set(split["test"])
        assert one["label"] in rows["label"] and 0 <= one["probability"] <= 1
        assert one["right"] == ((one["probability"] >= 0.5) == bool(one["label"]))
        assert one["asked"] == ["≥ 10 Mbps"]
    spread = [one["probability"] for one in found if one["task"] == "throughput"]
    assert spread == sorted(spread) and max(spread) - min(spread) > 0.3


def test_examples_of_a_session_that_spans_the_cut_come_from_after_it(run_of_two: Path) -> None:
    bundle = load(run_of_two / "bundle")
    frame = pl.read_parquet(run_of_two / "frame.parquet")
    manifest = copy.deepcopy(bundle.manifest)
    for about in manifest["tasks"].values():
        times = frame.filter(pl.col("session_id").is_in(about["split"]["test"]))["event_timestamp"]
        about["split"]["test_from"] = times.sort()[len(times) // 2].isoformat()
    late = examples(frame, Bundle(manifest, bundle.tasks))
    begins = {task: about["split"]["test_from"] for task, about in manifest["tasks"].items()}
    assert late and all(one["when"] >= begins[one["task"]][:19].replace("T", " ") for one in late)


def test_equal_inputs_give_equal_bytes_in_another_process(folder: Path, tmp_path: Path) -> None:
    files = {"frame": "frame.parquet"}
    flags = [f for name in NAMES for f in (f"--{name}", str(folder / files.get(name, name)))]
    command = [sys.executable, "-m", "pipelines.report", *flags, "--out", str(tmp_path / "out")]
    environment = os.environ | {"PYTHONHASHSEED": "1", "PYTHONPATH": str(Path.cwd())}
    subprocess.run(command, check=True, env=environment, cwd=tmp_path)
    written = (tmp_path / "out" / "index.html").read_bytes()
    assert written == _page(folder).encode()
    stage.run(report, [*flags, "--out", str(tmp_path / "out")])  # over an older page
    assert (tmp_path / "out" / "index.html").read_bytes() == written


def test_the_page_is_whole_small_and_loads_nothing(folder: Path) -> None:
    page = _page(folder)
    assert len(page.encode()) < 5_000_000
    assert not re.search(r"<(script|link|iframe|object)|@import|url\(", page)
    loaded = re.findall(r"(?:src|href|srcset|action)\s*=\s*[\"']?([^\"'\s>]*)", page)
    assert loaded and all(target.startswith(("#", "data:")) for target in loaded)
    open_tags: list[str] = []

    class Nesting(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag not in VOID:
                open_tags.append(tag)

        def handle_endtag(self, tag: str) -> None:
            if tag not in VOID:
                assert open_tags.pop() == tag, f"</{tag}> at {self.getpos()}"

    Nesting().feed(page)
    assert open_tags == []


def test_strips_place_their_marks_in_percent_and_never_outside() -> None:
    assert charts.ticks((0.0, 1.0)) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert charts.ticks((-0.05, 0.05)) == [-0.04, -0.02, 0.0, 0.02, 0.04]
    low, high = charts.around([0.41, -0.12], (-0.05, 0.05))
    assert (round(low, 9), round(high, 9)) == (-0.15, 0.45)
    strip = charts.interval(2.0, -9.0, 9.0, (0.0, 1.0), "model")
    assert 'x1="3.00%" x2="97.00%"' in strip and 'cx="97.00%"' in strip
    assert "unknown" in charts.interval(None, None, None, (0.0, 1.0), "model")
    assert 'width="0.00%"' in charts.bar(None) and 'width="100.00%"' in charts.bar(1.5)


def test_a_duration_has_its_largest_whole_unit() -> None:
    spans = {10: "10 s", 60: "1 min", 90: "90 s", 7200: "2 h", 28 * 86400: "28 d"}
    assert {s: spelled(timedelta(seconds=s)) for s in spans} == spans
