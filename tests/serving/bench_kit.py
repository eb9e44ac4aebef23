"""What the benchmarks of the running service need of a world: features on disk and a bundle."""

from pathlib import Path

import pytest

from tests.conftest import World
from tests.serving.core_kit import bundle_folder, filled


def places(world: World, folder: Path, patch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Folders of the features and of the bundle.

    The environment that a benchmark changes is as it was after the test. Reads may take longer: the
    tests share the machine.
    """
    patch.setenv("QOS_REDIS", "set by the benchmark")
    patch.setenv("ML_STORE_SECONDS", "0.5")
    filled(world, "embedded", folder / "w" / "feature_repo")
    told = {"parameters": {"seed": 5}, "data_hash": "-", "settings": {}, "libraries": {}}
    return folder / "w" / "data" / "features", bundle_folder(folder / "bundle", **told)
