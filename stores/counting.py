"""Where Prometheus metrics are counted in a process that imports Feast."""

import os

from prometheus_client import values


def count_in_memory() -> None:
    """Metrics made from now on count in this process's memory.

    Importing Feast makes `prometheus_client` count in files that all processes of the same environment
    share, for its own server's sake. Whoever has a registry of its own calls this first.
    """
    import feast.metrics  # what is imported now does not set the variables again

    assert feast.metrics
    for variable in ("PROMETHEUS_MULTIPROC_DIR", "PROMETHEUS_MULTIPROCESS_DIR"):
        os.environ.pop(variable, None)
    values.ValueClass = values.MutexValue
