"""Case 39 in a process of its own: `... conformance.million STORE GIGABYTES SECONDS`."""

import json
import resource
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from tests.stores.conformance.stores import harness
from tests.stores.conformance.world import NOON, US, references, trips

KEYS, HISTORY, ENTITY_ROWS = 1_000, 1_000, 1_000_000
STEP_US = 60_000_000  # each key has a row a minute


def main(store: str, limit_gb: float, processor_s: int) -> None:
    """Prints {wrong, peak_gb}; ends at twice the memory, and where the processor seconds are over."""
    resource.setrlimit(resource.RLIMIT_CPU, (processor_s, processor_s))
    most = int(2 * limit_gb * 1e9)
    resource.setrlimit(resource.RLIMIT_DATA, (most, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    start = int(NOON.timestamp() * 1e6)
    event = pa.array(np.tile(start + STEP_US * np.arange(HISTORY), KEYS)).cast(US)
    rows = pa.table(
        {
            "driver_id": pa.array(np.repeat(np.arange(KEYS), HISTORY)),
            "event": event,
            "created": event,
            "count": pa.array(np.arange(KEYS * HISTORY)),
        }
    )
    random = np.random.default_rng(1)
    keys = random.integers(0, KEYS, ENTITY_ROWS)
    offsets = random.integers(0, HISTORY * STEP_US, ENTITY_ROWS)
    frame = pd.DataFrame(
        {
            "driver_id": keys,
            "event_timestamp": pd.to_datetime(start + offsets, unit="us", utc=True),
            "n": np.arange(ENTITY_ROWS),
        }
    )
    view = trips(table=rows, ttl=None)
    with tempfile.TemporaryDirectory() as scratch:
        tried = harness(store, Path(scratch))
        opened = tried.open([view])
        found = tried.history(opened, frame, references([view]))
    expected = keys * HISTORY + offsets // STEP_US
    number = found["n"].to_numpy()
    got = pc.fill_null(found["count"], -1).to_numpy()
    right = int((got == expected[number]).sum()) if len(number) == len(np.unique(number)) else 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(json.dumps({"wrong": max(ENTITY_ROWS, len(number)) - right, "peak_gb": peak}))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))
