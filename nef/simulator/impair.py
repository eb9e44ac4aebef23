"""What goes wrong between a network and its collector: late, double and impossible rows."""

import numpy as np
import numpy.typing as npt
import polars as pl

from nef.simulator.params import SimulatorParams

LATE_S = (1.0, 20.0)
SKEW_S = (0.5, 5.0)  # a clock ahead of the collector's
PROMPT = frozenset({"qos_request"})  # asked of the platform itself: never late

# What a broken sensor says, by column; every value is outside its contract's range.
FAULTS: dict[str, dict[str, tuple[float, ...]]] = {
    "ue_radio": {"rsrp_dbm": (12.0, -200.0), "sinr_db": (-99.0, 255.0), "cqi": (-1.0, 16.0)},
    "ue_neighbour": {"rsrp_dbm": (12.0, -200.0), "rsrp_offset_db": (999.0,)},
    "ue_flow": {
        "downlink_delay_ms": (-5.0,),
        "packet_loss_ratio": (1.7,),
        "downlink_mbps": (-1.0,),
    },
    "ue_motion": {"latitude_deg": (181.0,), "speed_mps": (-3.0, 400.0)},
    "cell_load": {"prb_used_ratio": (1.2, -0.1), "active_ue_count": (-1.0,)},
    "qos_request": {"requested_delay_ms": (-10.0,)},
}
# A second value that is as plausible as the first: what a disagreeing double holds.
DISAGREE = {
    "ue_radio": ("rsrp_dbm", -3.0),
    "ue_neighbour": ("rsrp_dbm", -3.0),
    "ue_flow": ("downlink_mbps", 0.5),
    "ue_motion": ("speed_mps", 1.0),
    "cell_load": ("active_ue_count", 1.0),
}


def impair(
    tables: dict[str, pl.DataFrame], params: SimulatorParams, random: np.random.Generator
) -> dict[str, pl.DataFrame]:
    """The tables with the shares of late, faulty and double rows that params ask for."""
    return {
        name: double(
            name,
            faulty(name, late(name, table, params.late_share, random), params.fault_share, random),
            params.duplicate_share,
            random,
        )
        for name, table in tables.items()
    }


def late(name: str, table: pl.DataFrame, share: float, random: np.random.Generator) -> pl.DataFrame:
    """A share of the rows arrives 1 to 20 s after it was true."""
    chosen = random.random(table.height) < (0.0 if name in PROMPT else share)
    extra_us = np.rint(random.uniform(*LATE_S, table.height) * 1e6).astype(np.int64)
    return table.with_columns(
        pl.when(pl.Series(chosen))
        .then(pl.col("event_timestamp") + pl.Series(extra_us).cast(pl.Duration("us")))
        .otherwise("arrival_timestamp")
        .alias("arrival_timestamp")
    )


def faulty(
    name: str, table: pl.DataFrame, share: float, random: np.random.Generator
) -> pl.DataFrame:
    """A share of the rows has an impossible value, or an arrival before the event."""
    faults = [
        (column, value) for column, values in FAULTS.get(name, {}).items() for value in values
    ]
    kind = random.integers(0, len(faults) + 1, table.height)
    chosen = random.random(table.height) < share
    skew_us = np.rint(random.uniform(*SKEW_S, table.height) * 1e6).astype(np.int64)
    for number, (column, value) in enumerate(faults):
        table = _overwrite(table, column, chosen & (kind == number), pl.lit(value))
    ahead = pl.col("event_timestamp") - pl.Series(skew_us).cast(pl.Duration("us"))
    return _overwrite(table, "arrival_timestamp", chosen & (kind == len(faults)), ahead)


def double(
    name: str, table: pl.DataFrame, share: float, random: np.random.Generator
) -> pl.DataFrame:
    """A share of the rows comes twice; every other such pair disagrees in one value."""
    chosen = np.flatnonzero(random.random(table.height) < share)
    again = table[chosen].with_columns(pl.col("arrival_timestamp") + pl.duration(milliseconds=40))
    if name in DISAGREE:
        column, by = DISAGREE[name]
        disagree = random.random(chosen.size) < 0.5
        again = _overwrite(again, column, disagree, pl.col(column) + by)
    order = np.argsort(np.concatenate([np.arange(table.height), chosen]), kind="stable")
    return pl.concat([table, again])[order]


def _overwrite(
    table: pl.DataFrame, column: str, rows: npt.NDArray[np.bool_], value: pl.Expr
) -> pl.DataFrame:
    return table.with_columns(
        pl.when(pl.Series(rows)).then(value).otherwise(pl.col(column)).alias(column)
    )
