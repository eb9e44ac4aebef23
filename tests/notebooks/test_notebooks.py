"""The notebooks as a reader runs them: in a checkout of their own, from a folder beside it."""

import ast
import asyncio
import os
import re
import shutil
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from feature_repo.services import SERVICES
from feature_repo.store import open_store
from pipelines import label
from pipelines.publish import fill
from pipelines.stage import write_all
from tests.conftest import World

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "notebooks"
NAMES = (
    "01_explore_features", "02_training_frame", "03_online_lookup", "04_whole_story", "05_decisions",
)  # fmt: skip
WITH_OUTPUTS = ("01_explore_features", "03_online_lookup")  # the others start from nothing
PACKAGES = (
    "feature_repo",
    "lifecycle",
    "models",
    "nef",
    "pipelines",
    "schemas",
    "serving",
    "stores",
)
FEATURES = len(SERVICES[0].features())


def stored(name: str) -> Any:
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)  # type: ignore[no-untyped-call]


def checkout(folder: Path) -> Path:
    """The packages without any output, where the kernel finds them before the installed ones."""
    for name in PACKAGES:
        shutil.copytree(
            ROOT / name, folder / name, ignore=shutil.ignore_patterns("*.db", "*.pyc.*")
        )
    return folder


def with_outputs(folder: Path, world: World) -> Path:
    """A checkout in which the pipeline has run, as far as the notebooks read it."""
    data = checkout(folder) / "data"
    shutil.copytree(world.folder / "data", data)
    labels, _ = label.label(data / "admitted", label.Params())
    receipt = fill(open_store(repo=folder / "feature_repo"), data / "features")
    write_all([(data / "labels.parquet", labels), (data / "metrics" / "publish.json", receipt)])
    return folder


async def execute(name: str, place: Path, beside: Path) -> Any:
    """The executed notebook, or the error that stopped it."""
    client = NotebookClient(
        stored(name), kernel_name="python3", timeout=200, resources={"metadata": {"path": beside}}
    )
    environment = os.environ | {"PYTHONPATH": str(place), "PYTHONWARNINGS": "default"}
    try:
        return await client.async_execute(env=environment)
    except Exception as error:
        return error


@pytest.fixture(scope="module")
def executed(small_world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Notebook name to the executed notebook or its error; all run at once."""
    bare = checkout(tmp_path_factory.mktemp("bare"))
    full = with_outputs(tmp_path_factory.mktemp("full"), small_world)
    beside = tmp_path_factory.mktemp("beside")

    async def all_of_them() -> list[Any]:
        return await asyncio.gather(
            *(execute(n, full if n in WITH_OUTPUTS else bare, beside) for n in NAMES)
        )

    found = dict(zip(NAMES, asyncio.run(all_of_them()), strict=True))
    assert not list(beside.iterdir()), "a notebook left something where it ran"
    assert not (bare / "data").exists(), "a notebook wrote into the checkout"
    return found


def result(executed: dict[str, Any], name: str) -> dict[str, Any]:
    """What the last cell shows."""
    if isinstance(executed[name], Exception):
        raise executed[name]
    text = executed[name].cells[-1].outputs[-1]["data"]["text/plain"]
    found = ast.literal_eval(text)
    assert isinstance(found, dict)
    return found


def printed(executed: dict[str, Any], name: str) -> str:
    outputs = [o for cell in executed[name].cells for o in cell.get("outputs", [])]
    return "".join(o["text"] for o in outputs if o.get("name") == "stdout")


def test_features_are_explored_on_the_outputs_of_a_run(executed: dict[str, Any]) -> None:
    found = result(executed, "01_explore_features")
    assert "outputs of `make run`" in printed(executed, "01_explore_features")
    assert found["features"] == FEATURES
    assert found["rows"] > 200
    # the simulated network is NR alone: it has no NR carrier beside an LTE anchor
    assert all("_nr_" in name for name in found["never_known"] if name.startswith("ue_nr"))
    assert "ue_nr_rsrp_dbm_last_5s" in found["never_known"]
    assert 0.2 < abs(found["rho"]) <= 1
    pictures = [
        output
        for cell in executed["01_explore_features"].cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert len(pictures) == 2


def test_a_training_frame_comes_from_any_directory_without_a_run(executed: dict[str, Any]) -> None:
    found = result(executed, "02_training_frame")
    assert "a small simulated network" in printed(executed, "02_training_frame")
    assert found["rows"] == 5000
    assert found["columns"] == 7 + FEATURES
    assert found["in_order"] and found["same_from_elsewhere"] and found["same_in_polars"]
    assert found["radio_known"] > 0.95


def test_the_online_lookup_tells_fresh_from_aged_from_unknown(executed: dict[str, Any]) -> None:
    found = result(executed, "03_online_lookup")
    assert found["differing"] == []
    assert found["compared"] == FEATURES - 5  # the on-demand ones are not stored
    assert "PRESENT" in found["radio"]["fresh"]
    assert set(found["radio"]["fresh"]) <= {"PRESENT", "NULL_VALUE"}
    assert found["radio"]["aged"] == ["OUTSIDE_MAX_AGE"]
    assert found["radio"]["unknown"] == ["NOT_FOUND"]


def test_the_whole_story_ends_in_a_judged_model(executed: dict[str, Any]) -> None:
    found = result(executed, "04_whole_story")
    counts = found["counts"]
    assert counts["read"] == counts["admitted"] + counts["quarantined"]
    assert counts["quarantined"] > 0
    assert found["leaks"] == 0
    assert found["judged_on"] == "test part"
    low, middle, high = found["auc"]
    assert 0.5 < low < middle < high < 1
    assert found["gain"][0] < found["gain"][1] < found["gain"][2]
    assert 0.5 < found["band_coverage"] < 1


def test_decisions_are_asked_for_told_of_and_replayed_at_a_running_service(
    executed: dict[str, Any],
) -> None:
    found = result(executed, "05_decisions")
    assert "ok at port" in printed(executed, "05_decisions")
    assert found["decision"] in ("stay", "apply")
    assert 0 < found["confidence"] <= max(found["probabilities"]) <= 1
    assert found["batch"] == 12
    assert found["outcome"] == ("accepted", False, ["downlink_mbps"])
    assert found["identical"] == found["decisions"] == 13
    pictures = [
        output
        for cell in executed["05_decisions"].cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert len(pictures) == 2


def test_every_notebook_is_known() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == list(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_stored_bare(name: str) -> None:
    notebook = stored(name)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.outputs for cell in code] == [[]] * len(code)
    assert {cell.execution_count for cell in code} == {None}
    text = (FOLDER / f"{name}.ipynb").read_text(encoding="utf-8")
    assert not re.search(r"/(home|root|Users|tmp|work|mnt|opt)/|[A-Z]:\\\\", text)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_says_first_what_is_learnt_and_how_long_it_takes(name: str) -> None:
    opening = stored(name).cells[0]
    assert opening.cell_type == "markdown"
    assert re.match(r"# .+\n\nYou learn [^.]+;\sabout\s\d+\sseconds\.", opening.source)


def test_the_notebooks_make_their_data_alike() -> None:
    setups = {stored(name).cells[2].source for name in NAMES[:3]}
    assert len(setups) == 1
    assert "TemporaryDirectory" in setups.pop()
