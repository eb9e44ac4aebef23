"""The catalog in git is the one that the definitions give, and its hash follows the meaning."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from feature_repo import catalog
from feature_repo.views import UE_RADIO, VIEWS
from feature_repo.windows import Derived, View, of, seconds

BEFORE = catalog.catalog_hash(("ue_radio",))


def test_the_catalog_in_git_is_what_the_definitions_say() -> None:
    found = {path.name: path.read_text(encoding="utf-8") for path in catalog.FOLDER.glob("*")}
    wanted = dict(catalog.files())
    stale = sorted(n for n in found.keys() | wanted.keys() if found.get(n) != wanted.get(n))
    assert not stale, f"{stale} differ; `make catalog` writes them anew"


def test_writing_leaves_what_is_right_and_removes_what_is_no_more(tmp_path: Path) -> None:
    catalog.write(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == set(catalog.files())
    (tmp_path / "gone.json").write_text("{}")
    (tmp_path / "ue_radio.json").write_text("{}")
    untouched = (tmp_path / "ue_flow.json").stat().st_mtime_ns
    catalog.write(tmp_path)
    assert not (tmp_path / "gone.json").exists()
    assert (tmp_path / "ue_radio.json").read_text() == catalog.files()["ue_radio.json"]
    assert (tmp_path / "ue_flow.json").stat().st_mtime_ns == untouched


def test_each_service_states_its_features_in_order_and_its_hash() -> None:
    for name, service in json.loads(catalog.files()["services.json"]).items():
        declared = [f.name for v in service["views"] for f in _view(v).features()]
        assert service["features"] == declared, name
        assert set(service["radio"]) <= set(declared)
        assert service["catalog_hash"] == catalog.catalog_hash(tuple(service["views"]))


def _view(name: str) -> Any:
    return next(view for view in VIEWS if view.name == name)


def _hash_with(monkeypatch: pytest.MonkeyPatch, view: View) -> str:
    others = tuple(view if known.name == view.name else known for known in VIEWS)
    monkeypatch.setattr(catalog, "VIEWS", others)
    return catalog.catalog_hash(("ue_radio",))


def _first(**change: str) -> dict[str, Any]:
    first = dataclasses.replace(UE_RADIO.windows[0], **change)  # type: ignore[arg-type]
    return {"windows": (first, *UE_RADIO.windows[1:])}


def _derived(**change: Any) -> dict[str, Any]:
    known: Derived = UE_RADIO.derived["on_nr"]
    return {"derived": {"on_nr": dataclasses.replace(known, **change)}}


MEANINGS = {
    "span": _first(span="6s"),
    "operation": _first(op="min"),
    "column": _first(column="rsrq_db"),
    "one more": {"windows": (*UE_RADIO.windows, *of("cqi", "last_5s"))},
    "one less": {"windows": UE_RADIO.windows[:-1]},
    "order": {"windows": UE_RADIO.windows[::-1]},
    "unit": _derived(unit="dB"),
    "range": _derived(high=2.0),
    "formula": _derived(expression=pl.col("rat").cast(pl.String).is_null().cast(pl.Float64)),
    "age": {"ttl": seconds(11)},
    "tick": {"tick": seconds(60)},
    "clock": {"clock": "ue_flow"},
    "filter": {"where": pl.col("rsrp_dbm") < -100},
    "key": {"keys": ("ue_id", "cell_id")},
}


@pytest.mark.parametrize("meaning", MEANINGS)
def test_another_meaning_is_another_hash(meaning: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _hash_with(monkeypatch, dataclasses.replace(UE_RADIO, **MEANINGS[meaning])) != BEFORE


def test_the_same_meaning_is_the_same_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    again = dataclasses.replace(UE_RADIO, derived=dict(UE_RADIO.derived), windows=UE_RADIO.windows)
    assert _hash_with(monkeypatch, again) == BEFORE
    assert catalog.catalog_hash(("ue_radio",)) == BEFORE


def test_a_view_of_no_service_changes_no_hash_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    motion = dataclasses.replace(_view("ue_motion"), ttl=seconds(99))
    assert _hash_with(monkeypatch, motion) == BEFORE
