"""The simulator's distributions beside those of the public data sets: distances and a plot.

    QOS_DATASETS=<folder> python -m benchmarks.plausibility

Seconds are compared with seconds, without regard to their order; handovers by session. The sets are
of other places, bands and hours than any simulated town, so that the distance between two real sets is
the measure of how near is near.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import matplotlib
import numpy as np
import numpy.typing as npt
import polars as pl
import typer
from rich.console import Console
from rich.table import Table
from scipy import stats

from benchmarks.results_file import RESULTS, write_result
from nef.simulator import SimulatorParams
from nef.simulator.campaign import clean
from pipelines.sources.taiwan_ho import taiwan_ho
from pipelines.sources.ucc5g import ucc5g

Array = npt.NDArray[np.float64]
Samples = dict[str, Array]

SETS = {"ucc5g": ucc5g, "taiwan_ho": taiwan_ho}
UNITS = {
    "rsrp_dbm": "RSRP of the serving cell, dBm",
    "sinr_db": "SINR of the serving cell, dB",
    "downlink_mbps": "downlink of a greedy flow, Mbps",
    "handovers_per_minute": "changes of the serving cell a minute, by session",
}
CELL_CHANGES = ("nr_handover", "cell_change", "lte_handover", "mn_handover")
LEAST_S = 60  # a session shorter than that has no rate
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
COLOURS = {"simulator": "#222222", "ucc5g": "#c1440e", "taiwan_ho": "#1f6fb2"}


def main(
    sets: Annotated[str, typer.Option(help="which to compare with, with commas")] = ",".join(SETS),
    seed: Annotated[int, typer.Option(help="of the simulated campaign")] = 1,
    out: Annotated[Path, typer.Option(help="folder of the result and the plot")] = RESULTS,
) -> None:
    """Compares the default campaign with each set; leaves plausibility.json and plausibility.png."""
    names = sets.split(",")
    if unknown := sorted(set(names) - set(SETS)):
        raise typer.BadParameter(f"unknown {unknown}, known: {sorted(SETS)}", param_hint="--sets")
    simulated = samples(clean(SimulatorParams(seed=seed)))
    real = {name: samples(SETS[name]().tables) for name in names}
    found = compare(simulated, real)
    show(found)
    print(write_result("plausibility", found, out))
    print(plot({"simulator": simulated} | real, out / "plausibility.png"))


def samples(tables: Mapping[str, pl.DataFrame]) -> Samples:
    """Values of each quantity of UNITS; empty where a set does not measure it. Refused rows are out."""
    admitted = {
        name: rows.filter(pl.col("refusal").is_null()) if "refusal" in rows.columns else rows
        for name, rows in tables.items()
    }
    radio, flow = admitted["ue_radio"], admitted["ue_flow"]
    greedy = flow.filter(pl.col("traffic").cast(pl.String) == "full_buffer")
    return {
        "rsrp_dbm": _values(radio["rsrp_dbm"]),
        "sinr_db": _values(radio["sinr_db"]),
        "downlink_mbps": _values(greedy["downlink_mbps"]),
        "handovers_per_minute": _values(_rates(radio, admitted["network_event"])),
    }


def _values(series: pl.Series) -> Array:
    return series.drop_nulls().to_numpy().astype(np.float64)


def _rates(radio: pl.DataFrame, events: pl.DataFrame) -> pl.Series:
    spans = radio.group_by("session_id").agg(
        seconds=(
            pl.col("event_timestamp").max() - pl.col("event_timestamp").min()
        ).dt.total_seconds()
    )
    moves = events.filter(pl.col("kind").cast(pl.String).is_in(CELL_CHANGES))
    counted = spans.filter(pl.col("seconds") >= LEAST_S).join(
        moves.group_by("session_id").agg(moves=pl.len()), on="session_id", how="left"
    )
    return counted.sort("session_id").select(
        pl.col("moves").fill_null(0) * 60.0 / pl.col("seconds")
    )["moves"]


def compare(simulated: Samples, real: Mapping[str, Samples]) -> dict[str, Any]:
    """{quantity: {set: distance}}, with quantiles of each side under "quantiles"; what a set does not
    measure is left out. "between_sets" is the distance of the first two sets that measure it.
    """
    found: dict[str, Any] = {}
    for quantity in UNITS:
        own = simulated[quantity]
        others = {name: one[quantity] for name, one in real.items() if one[quantity].size}
        found[quantity] = {name: distance(own, values) for name, values in others.items()}
        if len(others) > 1:
            found[quantity]["between_sets"] = distance(*list(others.values())[:2])
        found[quantity]["quantiles"] = {
            name: [round(float(one), 3) for one in np.quantile(values, QUANTILES)]
            for name, values in ({"simulator": own} | others).items()
        }
    return found


def distance(one: Array, other: Array) -> dict[str, float]:
    """Wasserstein's in the quantity's unit, and Kolmogorov's and Smirnov's, 0..1."""
    return {
        "wasserstein": round(float(stats.wasserstein_distance(one, other)), 3),
        "ks": round(float(stats.ks_2samp(one, other, method="asymp").statistic), 3),
    }


def show(found: Mapping[str, Any]) -> None:
    """A table on the terminal, side by side."""
    table = Table(title="simulator beside the data sets", title_justify="left")
    for name in ("quantity", "set", "Wasserstein", "KS", "simulator p5 p50 p95", "set p5 p50 p95"):
        table.add_column(name)
    for quantity, sets in found.items():
        quantiles = sets["quantiles"]
        for name in [name for name in sets if name in quantiles]:
            table.add_row(
                quantity, name, f"{sets[name]['wasserstein']}", f"{sets[name]['ks']}",
                *(" ".join(f"{quantiles[side][at]:g}" for at in (0, 2, 4))
                  for side in ("simulator", name)),
            )  # fmt: skip
    Console().print(table)


def plot(sides: Mapping[str, Samples], path: Path) -> Path:
    """Cumulative distributions of each quantity, all sides in one panel."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(2, 2, figsize=(10, 7), layout="constrained")
    for panel, (quantity, label) in zip(panels.flat, UNITS.items(), strict=True):
        for name, samples_of in sides.items():
            values = np.sort(samples_of[quantity])
            if values.size:
                share = np.arange(1, values.size + 1) / values.size
                panel.plot(values, share, label=name, color=COLOURS.get(name), linewidth=1.6)
        if quantity == "downlink_mbps":
            panel.set_xscale("symlog", linthresh=1.0)
        panel.set(xlabel=label, ylabel="share of the sample below", ylim=(0.0, 1.0))
        panel.grid(alpha=0.3)
        panel.legend(frameon=False, loc="lower right")
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return path


if __name__ == "__main__":
    typer.run(main)
