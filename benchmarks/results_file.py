"""Writes a benchmark's result with what it was measured on."""

import importlib.metadata
import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results")
LIBRARIES = ("duckdb", "dvc", "feast", "lightgbm", "mlflow", "polars", "pyarrow", "redis")


def write_result(name: str, measured: dict[str, Any], folder: Path = RESULTS) -> Path:
    """`<name>.json` with the measured keys, the machine's cores, the versions and the time (UTC)."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.json"
    content = measured | {
        "cores": os.cpu_count(),
        "load_1m": round(os.getloadavg()[0], 2),
        "versions": {"python": platform.python_version()}
        | {library: importlib.metadata.version(library) for library in LIBRARIES},
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return path
