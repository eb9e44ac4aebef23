"""What a benchmark measured, and on what machine."""

import importlib.metadata
import json
import os
import platform
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results")
LIBRARIES = ("duckdb", "dvc", "feast", "lightgbm", "mlflow", "polars", "pyarrow", "redis")


def peak_gb() -> float:
    """The most memory this process has held, in GB.

    `ru_maxrss` counts what the parent held when it started this process.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)) * 1024 / 1e9  # type: ignore[union-attr]


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
