"""A model that cannot answer is refused with one problem, and the one in use goes on answering."""

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from lifecycle.bundles import write
from lifecycle.registry import Evidence, open_registry, register_bundle
from models.bundle import bundle_of
from serving.service import service_app
from tests.conftest import World
from tests.serving.core_kit import busiest, running, small_bundle
from tests.serving.guard_kit import settings_with
from tests.serving.models_kit import PARTS, Place, place_of


@dataclass(frozen=True)
class Asked:
    """The service that runs, its registry and a request that its model can answer."""

    http: httpx.Client
    place: Place
    request: dict[str, Any]

    def swap(self, model: str) -> httpx.Response:
        return self.http.post("/api/models/live", json={"model": model})

    def decide(self) -> tuple[str, list[float]]:
        """Who answered, and with what probabilities."""
        reply = self.http.post("/api/predict-with-qos", json=self.request)
        assert reply.status_code == 200, reply.text
        told = reply.json()
        return told["model"]["version"], [one["probability"] for one in told["candidates"]]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory, small_world: World) -> Iterator[Asked]:
    place = place_of(small_world, tmp_path_factory.mktemp("refused"))
    settings = settings_with(
        auth="off", rates_on=False, model="qos@champion", repo=place.repo, store_s=5.0,
        data=place.folder / "data", registry_uri=place.uri, log_level="error",
    )  # fmt: skip
    ue, five_qi, cells = busiest(small_world)
    request = {"ue_id": ue, "five_qi": five_qi, "connected_to": cells[0],
               "candidates": [{"cell_id": cell, "rsrp_dbm": -90.0} for cell in cells]}  # fmt: skip
    with running(service_app(settings)) as http:
        http.timeout = httpx.Timeout(60)
        yield Asked(http, place, request)


def another(place: Place, tasks: tuple[str, ...] = (), **changed: Any) -> tuple[str, Path]:
    """One more version and the folder of its bundle; tasks: those that it has, none: all; changed:
    entries of its manifest."""
    made = small_bundle(seed=6)
    kept = {n: made.manifest[n] for n in made.manifest.keys() - {"files", "digest", "format"}}
    kept |= {"parameters": {}, "data_hash": "da" * 32, "libraries": {}} | changed
    wanted = tasks or tuple(made.tasks)
    kept["tasks"] = {task: kept["tasks"][task] | {"parts": PARTS, "band": True} for task in wanted}
    bundle = bundle_of(kept, {task: made.tasks[task] for task in wanted})
    folder = place.folder / f"made-{bundle.digest[:12]}"
    write(bundle, folder)
    metrics: dict[str, Any] = {task: {"bundle": bundle.digest} for task in bundle.tasks}
    registry = open_registry(place.uri)
    found = register_bundle(registry, "qos", folder, Evidence(metrics, None, {}), "tried")
    shutil.rmtree(folder)
    run = place.folder / "mlartifacts" / found.run_id
    return f"qos/{found.version}", run / "artifacts" / "model" / "bundle"


def hurt(place: Place, seed: int, harm: Callable[[Path], None]) -> str:
    """A version that was good when it was registered."""
    version, folder = another(place, parameters={"seed": seed})
    harm(folder)
    return version


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def one_of(folder: Path) -> Path:
    return next(folder.rglob("classifier.txt"))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def reworded(path: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {"service": "x"}), encoding="utf-8")


Made = Callable[[Place], str]
CASES: dict[str, tuple[Made, str]] = {
    "another catalog": (
        lambda place: another(place, catalog_hash="0" * 16)[0], "catalog 000000000000"),
    "a service that there is none of": (
        lambda place: another(place, service="qos_v9")[0], "qos_v9"),
    "another service of the definitions": (
        lambda place: another(place, service="cell_selection_v1")[0], "cell_selection_v1"),
    "no task that decides": (
        lambda place: another(place, ("latency_loss",))[0], "qos_met"),
    "a model file cut short": (
        lambda place: hurt(place, 1, lambda folder: cut(one_of(folder))), "classifier.txt"),
    "a model file with one bit changed": (
        lambda place: hurt(place, 2, lambda folder: flip(one_of(folder))), "classifier.txt"),
    "a model file that is gone": (
        lambda place: hurt(place, 3, lambda folder: one_of(folder).unlink()), "classifier.txt"),
    "a manifest cut short": (
        lambda place: hurt(place, 4, lambda folder: cut(folder / "manifest.json")),
        "manifest.json"),
    "a manifest that says otherwise": (
        lambda place: hurt(place, 5, lambda folder: reworded(folder / "manifest.json")),
        "manifest.json"),
    "a bundle that is gone": (
        lambda place: hurt(place, 6, shutil.rmtree), "manifest.json"),
}  # fmt: skip


@pytest.mark.parametrize("what", CASES)
def test_it_is_refused_with_one_problem_and_the_one_in_use_answers_as_before(
    asked: Asked, what: str
) -> None:
    make, told = CASES[what]
    before = asked.decide()
    reply = asked.swap(make(asked.place))
    assert reply.status_code == 409, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    (fault,) = reply.json()["errors"]
    assert fault["place"] == "model" and told in fault["reason"]
    assert asked.decide() == before
    assert before[0] == "qos/1" and None not in before[1]


def test_decisions_are_answered_while_swaps_are_refused(asked: Asked) -> None:
    version = another(asked.place, catalog_hash="1" * 16)[0]
    before, ended = asked.decide(), threading.Event()
    statuses: list[int] = []

    def swap() -> None:
        try:
            with httpx.Client(base_url=asked.http.base_url, timeout=60) as http:
                for _ in range(3):
                    statuses.append(
                        http.post("/api/models/live", json={"model": version}).status_code
                    )
        finally:
            ended.set()

    thread = threading.Thread(target=swap)
    thread.start()
    answers = []
    while not ended.is_set():
        answers.append(asked.decide())
    thread.join()
    assert statuses == [409] * 3
    assert len(answers) >= 3 and all(one == before for one in answers)


def test_a_good_one_is_let_answer_after_all_that(asked: Asked) -> None:
    version, _ = another(asked.place, parameters={"seed": 7})
    assert asked.swap(version).status_code == 200
    assert asked.decide()[0] == version
    assert asked.swap("qos/1").json()["before"] == version
    assert asked.decide()[0] == "qos/1"
