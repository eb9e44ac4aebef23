"""How a stage starts: the contracts without the SQL library that they could be written for."""

import subprocess
import sys

LOOK = """
import sys
import pipelines.aggregate
print("sqlalchemy" in sys.modules, "lightgbm" in sys.modules)
import sqlalchemy, feast
print(sqlalchemy.select(1))
"""


def test_a_stage_starts_without_sqlalchemy_and_can_still_import_it() -> None:
    said = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOOK], capture_output=True, text=True, check=True
    ).stdout
    assert said.split("\n", 1) == ["False False", "SELECT 1\n"]
