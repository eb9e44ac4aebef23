"""A bundle comes back whole or not at all."""

import dataclasses
import json

import numpy as np
import pytest

from models.bundle import (
    MANIFEST,
    Bundle,
    BundleError,
    bundle_of,
    check_features,
    from_files,
    to_files,
)
from models.forecaster import Settings, fit_task
from tests.models.test_forecaster import NAMES, world

MANIFEST_FACTS = {
    "service": "qos_v1", "features": NAMES, "radio": NAMES[:2], "catalog_hash": "ab" * 32,
}  # fmt: skip


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    rows = world(1)
    settings = Settings(rounds=8, folds=2)
    whole = fit_task(rows, NAMES, NAMES[:2], settings, 1)
    plain = fit_task(dataclasses.replace(rows, value=None), NAMES, [], settings, 1)
    tasks = {"throughput": whole, "handover": plain}
    facts = {
        name: {"band": bool(model.quantiles), "fitted": model.fitted}
        for name, model in tasks.items()
    }
    return bundle_of(MANIFEST_FACTS | {"tasks": facts}, tasks)


def test_it_answers_the_same_after_a_journey_through_files(bundle: Bundle) -> None:
    back = from_files(to_files(bundle))
    assert back.tasks == bundle.tasks and back.manifest == bundle.manifest
    features = world(2).features
    for task in ("throughput", "handover"):
        for mine, theirs in zip(
            bundle.predict(task, features), back.predict(task, features), strict=True
        ):
            np.testing.assert_array_equal(mine, theirs)
    assert bundle.predict("handover", features)[1] is None


def test_its_files_are_text_without_pickles(bundle: Bundle) -> None:
    for name, content in to_files(bundle).items():
        assert name.endswith((".txt", ".json"))
        content.decode("ascii")


@pytest.mark.parametrize("fault", ["changed", "truncated", "missing"])
def test_every_faulty_file_is_refused_by_its_name(bundle: Bundle, fault: str) -> None:
    whole = to_files(bundle)
    assert len(whole) == 1 + 7 + 2
    for name in whole:
        files = dict(whole)
        if fault == "missing":
            del files[name]
        elif fault == "truncated":
            files[name] = files[name][:-20]
        else:
            files[name] = files[name].replace(b"1", b"2", 1)
        with pytest.raises(BundleError, match=f"^data/bundle/{name}: ") as caught:
            from_files(files, where="data/bundle")
        assert "\n" not in str(caught.value)


def test_a_manifest_of_another_format_is_refused(bundle: Bundle) -> None:
    files = to_files(bundle)
    files[MANIFEST] = json.dumps(json.loads(files[MANIFEST]) | {"format": 99}).encode()
    with pytest.raises(BundleError, match="format 99; this version reads 1"):
        from_files(files)


def test_a_matrix_of_another_width_and_an_unknown_task_are_refused(bundle: Bundle) -> None:
    with pytest.raises(
        BundleError, match=r"\(5, 3\); it takes 4 columns, from 'radio_a' to 'noise'"
    ):
        bundle.predict("throughput", np.zeros((5, 3)))
    with pytest.raises(BundleError, match=r"no task 'x'; it has \['handover', 'throughput'\]"):
        bundle.predict("x", np.zeros((5, 4)))


def test_missing_columns_and_another_catalog_are_refused(bundle: Bundle) -> None:
    check_features(bundle, [*NAMES, "more"], "ab" * 32)
    check_features(bundle, NAMES, None)
    with pytest.raises(
        BundleError, match=r"lacks 2 of 4 features: 'history', 'noise'; service 'qos_v1'"
    ):
        check_features(bundle, NAMES[:2], None)
    with pytest.raises(BundleError, match=r"trained with catalog abababababab…, .* catalog cdcdcd"):
        check_features(bundle, NAMES, "cd" * 32)


def test_the_digest_is_of_the_content(bundle: Bundle) -> None:
    facts = {key: bundle.manifest[key] for key in (*MANIFEST_FACTS, "tasks")}
    assert bundle_of(facts, bundle.tasks).digest == bundle.digest
    assert bundle_of(facts | {"catalog_hash": "00" * 32}, bundle.tasks).digest != bundle.digest
