"""What Feast is told is what is declared, and a field that nothing computes stops `feast apply`."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from feature_repo.feast_objects import UncomputedFieldError, check_computed, field
from feature_repo.services import SERVICES
from feature_repo.store import REPO, quiet
from feature_repo.views import STORED, UE_RADIO, VIEWS
from feature_repo.windows import View

with quiet():
    from feast import Field
    from feast.types import Float64

    from feature_repo import definitions

FEAST_VIEWS: dict[str, Any] = {view.name: getattr(definitions, view.name) for view in VIEWS}


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_every_field_bears_unit_range_source_and_says_what_it_is(view: Any) -> None:
    fields = {f.name: f for f in FEAST_VIEWS[view.name].features}
    assert list(fields) == [feature.name for feature in view.features()]
    for feature in view.features():
        found = fields[feature.name]
        assert found.dtype == Float64
        assert found.tags["unit"] == feature.unit
        assert found.tags["source"] == feature.source and feature.source
        for bound in ("low", "high"):
            said, meant = found.tags[bound], getattr(feature, bound)
            assert said == "unbounded" if meant is None else float(said) == meant
        assert found.description == f"{feature.description} [{feature.unit}]"


@pytest.mark.parametrize("view", STORED, ids=lambda view: view.name)
def test_keys_age_times_and_place_reach_feast(view: Any) -> None:
    found = FEAST_VIEWS[view.name]
    assert tuple(column.name for column in found.entity_columns) == view.keys
    assert found.ttl == view.ttl if isinstance(view, View) else not found.ttl
    source = found.batch_source
    assert source.timestamp_field == "event_timestamp"
    assert source.created_timestamp_column == "arrival_timestamp"
    assert source.path.endswith(f"data/features/{view.name}")


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_a_service_offers_its_features_in_the_order_of_the_model(service: Any) -> None:
    projections = getattr(definitions, service.name).feature_view_projections
    offered = [feature.name for projection in projections for feature in projection.features]
    assert offered == [feature.name for feature in service.features()]


def test_every_declared_view_is_defined() -> None:
    assert set(definitions._views) == {view.name for view in VIEWS}


class _Fake:
    name = UE_RADIO.name
    join_keys = ("ue_id",)
    features = (*map(field, UE_RADIO.features()), Field(name="ue_guess_db", dtype=Float64))


def test_a_field_that_nothing_computes_is_named() -> None:
    check_computed(FEAST_VIEWS.values())
    with pytest.raises(
        UncomputedFieldError, match=r"ue_radio: 1 fields .*: 'ue_guess_db'; declare"
    ):
        check_computed([_Fake()])


def test_feast_apply_stops_at_a_field_that_nothing_computes(tmp_path: Path) -> None:
    """The real command on a copy of the definitions with one Field more."""
    repo = tmp_path / "feature_repo"
    ignored = shutil.ignore_patterns("__pycache__", "catalog")
    shutil.copytree(REPO, repo, ignore=ignored)
    shutil.copytree(REPO.parent / "schemas", tmp_path / "schemas", ignore=ignored)
    shutil.copytree(REPO.parent / "stores", tmp_path / "stores", ignore=ignored)
    path = repo / "definitions.py"
    text = path.read_text(encoding="utf-8")
    added = (
        "from feast import Field\nfrom feast.types import Float64\n"
        'ue_radio.features.append(Field(name="ue_guess_db", dtype=Float64))\n'
        "check_computed(_views.values())\n"
    )
    assert text.rstrip().endswith("check_computed(_views.values())")
    path.write_text(text.replace("check_computed(_views.values())\n", added), encoding="utf-8")
    done = subprocess.run(
        [Path(sys.executable).with_name("feast"), "apply"],
        cwd=repo,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert (
        "1 fields that no window or function computes: 'ue_guess_db'" in done.stdout + done.stderr
    )
    assert not (tmp_path / "data" / "registry.db").exists()
