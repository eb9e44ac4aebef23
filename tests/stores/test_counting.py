"""A process that imports Feast counts in memory once it says so."""

import subprocess
import sys

COUNTED = """
import feast, os
from prometheus_client import CollectorRegistry, Counter, values
shared = values.ValueClass is not values.MutexValue and "PROMETHEUS_MULTIPROC_DIR" in os.environ
from stores.counting import count_in_memory
count_in_memory()
counter = Counter("seen", "Seen", registry=CollectorRegistry())
counter.inc(2)
print(shared, type(counter._value) is values.MutexValue, counter._value.get(),
      "PROMETHEUS_MULTIPROC_DIR" in os.environ)
"""


def test_what_importing_feast_does_to_prometheus_is_undone() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", COUNTED], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", "True", "2.0", "False"]
