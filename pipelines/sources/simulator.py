"""The radio simulator as a source: every row is a line, for nothing was read from a file."""

import polars as pl

from nef.simulator import SimulatorParams, simulate_labelled
from pipelines.sources.collected import Collected, canonical, empty_tables

# The simulator's subscribers are of the test network 001/01 (3GPP TS 36.508, 4.4.2) and name nobody:
# a key that everybody has makes the default run the same on every machine.
TEST_NETWORK_KEY = b"test network 001/01, nobody's subscribers"


def simulator(params: SimulatorParams) -> Collected:
    """The canonical tables of one seeded campaign, and what was injected into it: `label_anomaly`."""
    tables = empty_tables()
    simulated, wrong = simulate_labelled(params)
    for name, rows in simulated.items():
        numbered = rows.with_columns(
            source_file=pl.lit(f"simulator/{name}"),
            source_line=pl.int_range(1, pl.len() + 1),
        )
        tables[name] = canonical(name, numbered)
    lines = sum(len(rows) for rows in tables.values())
    labels = {"label_anomaly": wrong}
    return Collected(tables, lines, files=0, pseudonym_key=TEST_NETWORK_KEY, labels=labels)
