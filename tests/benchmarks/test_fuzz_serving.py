"""The fuzz of the decision service in small."""

from itertools import islice
from pathlib import Path

import pytest

from benchmarks import fuzz_serving
from benchmarks.fuzz_serving import KEYS, fuzz, requests
from benchmarks.fuzzing import GOOD, Draw
from tests.conftest import World
from tests.serving.core_kit import bundle_folder


def test_nothing_breaks_and_nothing_bad_is_taken(
    small_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in fuzz_serving.OF_JOBS:  # a job takes seconds
        monkeypatch.setitem(fuzz_serving.MOST_GOOD, kind, 0)
    found = fuzz(400, 3, small_world.features, bundle_folder(tmp_path / "bundle"))
    assert list(found) == [*KEYS, "seconds"]
    assert found["bodies"] == 400 and found["bad"] > 150
    assert found["accepted"] > 80 and found["accepted"] + found["refused"] == 400
    for key in ("crashes", "server_errors", "accepted_invalid", "refused_valid"):
        assert found[key] == 0, found
    assert found["refused_without_reason"] == found["jobs"] == 0, found


def test_equal_seeds_give_equal_bodies_and_jobs_are_few() -> None:
    first, again = (list(islice(requests(Draw(5)), 3000)) for _ in range(2))
    assert [(one.kind, one.body) for one in first] == [(one.kind, one.body) for one in again]
    assert {one.kind for one in first} == set(fuzz_serving.PATHS)
    for kind in fuzz_serving.OF_JOBS:
        able = [one for one in first if one.kind == kind and one.worth == GOOD]
        assert len(able) <= fuzz_serving.MOST_GOOD[kind]
