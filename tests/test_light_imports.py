"""What a client needs not: the models, the stores and the web framework are not imported for it."""

import subprocess
import sys

import pytest

HEAVY = {"feast", "sklearn", "lightgbm", "mlflow", "numba", "pandas", "fastapi"}
LONGEST_S = 2.0  # of CPU
LOOK = """
import importlib, sys, time
importlib.import_module(sys.argv[1])
print(time.process_time(), *{name.partition(".")[0] for name in sys.modules})
"""


def imported(module: str) -> tuple[float, set[str]]:
    """CPU seconds of a fresh interpreter that imports a module, and the packages it then has."""
    said = subprocess.run(
        [sys.executable, "-c", LOOK, module], capture_output=True, text=True, check=True, timeout=60
    ).stdout.split()
    return float(said[0]), set(said[1:])


def test_the_client_is_light() -> None:
    took, packages = imported("serving.client")
    assert {"serving", "schemas", "pydantic", "httpx"} <= packages
    assert packages & (HEAVY | {"polars", "dataframely", "numpy", "starlette", "models"}) == set()
    assert took < LONGEST_S


@pytest.mark.parametrize("module", ["serving.ask", "serving.learn", "demo.__main__"])
def test_commands_that_only_ask_are_light(module: str) -> None:
    _, packages = imported(module)
    assert packages & HEAVY == set()
    assert "serving" in packages
