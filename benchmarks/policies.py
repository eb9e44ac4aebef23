"""Handover policies on the same seeds: strongest cell, event A3, tuned event A3, the learned ones.

    python -m benchmarks.policies

A3 is tuned, and the selector learned, on seeds that none is compared on. What is compared is the share
of requests that were met (throughput, delay and loss over ten seconds, see `closed_loop.run`).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import matplotlib
import numpy as np
import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.forecast_policy import Reports, forecasting, reporting
from benchmarks.results_file import RESULTS, write_result
from benchmarks.selector_policy import Learned, Log, Rules, exploring, learn, selecting
from models.selector import Settings, calibration_error
from nef.simulator import closed_loop
from nef.simulator.city import city_params
from nef.simulator.closed_loop import Outcome, PolicyMaker
from nef.simulator.params import SimulatorParams
from schemas.errors import QosError
from schemas.service_class import SERVICE_CLASSES

LEARN_FROM, TUNE_FROM, ECE_FROM, TEST_FROM = 1000, 2000, 3000, 6000
HYSTERESIS_DB = (0.0, 0.5, 1.0, 2.0, 3.0)
TIME_TO_TRIGGER_S = (0, 1)
EXPECTED_DB = (1.5, 2.0, 3.0)  # hysteresis on the forecast RSRP
NEVER = 2.0
# Margin, that for a return, and by how much event A3's target may lie below the serving cell.
MARGINS = ((NEVER, NEVER, 0.1), (NEVER, NEVER, 0.2), (0.15, 0.3, 0.2), (0.08, 0.2, 0.1))
GATED_MARGINS = (0.02, 0.1)
USUAL_A3 = (SimulatorParams.hysteresis_db, SimulatorParams.time_to_trigger_s)
FORECAST, SELECTOR, GATED, TUNED = "forecast_a3", "selector", "selector_gated", "tuned_a3"
CLASSES = (*SERVICE_CLASSES, "all")
RESOLUTION = 120


@dataclass(frozen=True)
class Size:
    """Of a comparison: the city, how long each run is, and how many seeds are for what."""

    ues: int = 60
    sites: int = 7
    seconds: int = 240
    learn: int = 24
    tune: int = 12
    seeds: int = 20

    def params(self, seed: int) -> SimulatorParams:
        """The city of a seed."""
        return city_params(self.ues, self.sites, self.seconds, seed=seed, mmtc_share=0.2)


def main(
    seeds: Annotated[int, typer.Option(help="on which the policies are compared")] = Size.seeds,
    learn_seeds: Annotated[int, typer.Option(help="to learn the selector from")] = Size.learn,
    tune_seeds: Annotated[int, typer.Option(help="to tune A3 and the margin on")] = Size.tune,
    ues: Annotated[int, typer.Option(help="at once, for all the time")] = Size.ues,
    sites: Annotated[int, typer.Option(help="of three cells each")] = Size.sites,
    seconds: Annotated[int, typer.Option(help="of each run")] = Size.seconds,
    out: Annotated[Path, typer.Option(help="folder of the result and the plot")] = RESULTS,
) -> None:
    """Learns, tunes and compares; leaves policies.json and policies.png."""
    size = Size(ues, sites, seconds, learn_seeds, tune_seeds, seeds)
    with Progress(transient=True) as progress:
        found = measure(size, progress)
    show(found)
    print(verdict(found["difference"]))
    print(verdict(found["difference_forecast"], "A3 on the forecast RSRP"))
    print(write_result("policies", found, out))
    print(plot(found, out / "policies.png"))


def measure(size: Size, progress: Progress) -> dict[str, Any]:
    """What policies.json holds: each policy's summary, the paired difference of the selector and
    tuned A3, what was tuned, and how well the selector is calibrated on seeds it has not seen.

    Raises QosError for fewer than 2 seeds to compare on.
    """
    if size.seeds < 2:
        raise QosError(f"policies.seeds: {size.seeds}, at least 2 are asked for an interval")
    grid = [(db, s) for db in HYSTERESIS_DB for s in TIME_TO_TRIGGER_S]
    tuning = range(TUNE_FROM, TUNE_FROM + size.tune)
    rules = {f"a3 {db} dB {s} s": closed_loop.a3(db, s) for db, s in grid}
    tried = compared(rules, tuning, size, progress, "tune A3")
    name = best_of(tried)
    best = dict(zip(rules, grid, strict=True))[name]
    task = progress.add_task("learn the selector", total=size.learn)
    bases = [closed_loop.a3(*best), closed_loop.a3(*USUAL_A3)]
    learned = learn(
        bases, range(LEARN_FROM, LEARN_FROM + size.learn), size.params, size.seconds, Settings(),
        lambda: progress.advance(task),
    )  # fmt: skip
    selector, forecast, swings = learned.selector, learned.forecast, swings_of(tried[name])
    ahead = {f"{db} dB": forecasting(forecast, db) for db in EXPECTED_DB}
    tried_ahead = compared(ahead, tuning, size, progress, "tune the forecast's A3")
    expected_db = dict(zip(ahead, EXPECTED_DB, strict=True))[best_of(tried_ahead, swings)]
    options = {
        f"{m} {back} {worse}": Rules(m, back, worse, best, expected_db)
        for m, back, worse in MARGINS
    }
    makers = {name: selecting(selector, one, None, forecast) for name, one in options.items()}
    tried_too = compared(makers, tuning, size, progress, "tune the margins")
    chosen = options[best_of(tried_too, swings)]
    summaries: list[Any] = [closed_loop.summary(x) for x in (tried, tried_ahead, tried_too)]
    reasons: dict[str, Counter[str]] = {SELECTOR: Counter(), GATED: Counter()}
    policies = {
        "strongest": closed_loop.strongest,
        "a3": closed_loop.a3(*USUAL_A3),
        TUNED: closed_loop.a3(*best),
        FORECAST: forecasting(forecast, expected_db),
        SELECTOR: selecting(selector, chosen, reasons[SELECTOR], forecast),
        GATED: selecting(
            selector, Rules(*GATED_MARGINS, fallback=best, confident=True), reasons[GATED]
        ),
    }
    tests = range(TEST_FROM, TEST_FROM + size.seeds)
    outcomes = compared(policies, tests, size, progress, "compare")
    return {
        **closed_loop.summary(outcomes),
        "difference": closed_loop.difference(outcomes, SELECTOR, TUNED),
        "difference_forecast": closed_loop.difference(outcomes, FORECAST, TUNED),
        "difference_gated": closed_loop.difference(outcomes, GATED, TUNED),
        "tuned": {
            "a3_hysteresis_db": best[0], "a3_time_to_trigger_s": best[1],
            "selector_margin": chosen.margin, "selector_return_margin": chosen.return_margin,
            "selector_worse": chosen.worse, "forecast_hysteresis_db": expected_db,
        },
        "tuning": {
            name: {
                "qos_satisfaction": told[name]["all"]["qos_satisfaction"],
                "ping_pong_rate": told[name]["ping_pong_rate"],
            }
            for told in summaries
            for name in told
        },
        "selector_fitted": selector.fitted,
        "forecast_fitted": forecast.fitted,
        "calibration": unseen(learned, size, bases[0]),
        "reasons": {name: dict(sorted(one.items())) for name, one in reasons.items()},
        "city": {"ues": size.ues, "cells": 3 * size.sites, "seconds": size.seconds},
    }  # fmt: skip


def compared(
    makers: Mapping[str, PolicyMaker],
    seeds: Sequence[int],
    size: Size,
    progress: Progress,
    what: str,
) -> dict[str, list[Outcome]]:
    """`closed_loop.compare` with progress."""
    task = progress.add_task(what, total=len(makers) * len(seeds))

    def begun(name: str, seed: int) -> None:
        progress.update(task, advance=1, description=f"{what}: {name}, seed {seed}")

    return closed_loop.compare(makers, seeds, size.params, size.seconds, begun)


def best_of(found: Mapping[str, Sequence[Outcome]], most_swings: float = 1.0) -> str:
    """The policy that met most requests, of those with no more ping-pong, if there is one; of equals
    the one with fewer handovers.
    """
    told: Any = closed_loop.summary(found)
    return max(
        found,
        key=lambda name: (
            swings_of(found[name]) <= most_swings,
            told[name]["all"]["qos_satisfaction"],
            -told[name]["handovers_per_minute"],
        ),
    )


def swings_of(outcomes: Sequence[Outcome]) -> float:
    """The mean ping-pong rate."""
    return float(np.mean([one.ping_pong_rate for one in outcomes]))


def unseen(learned: Learned, size: Size, base: PolicyMaker) -> dict[str, float]:
    """Of an exploring run with a seed of its own: expected calibration error and share met; variance
    of the change of RSRP, and what the forecast leaves of it, in dB squared.
    """
    log, reports = Log(), Reports(ECE_FROM)
    maker = exploring(reporting(base, reports), log, ECE_FROM)
    closed_loop.run(maker, size.params(ECE_FROM), size.seconds)
    matrix, met = log.learned()
    likely = learned.selector.probability(matrix)
    rows, change = reports.learned(int(learned.forecast.fitted["horizon_s"]))
    left = change - learned.forecast.change_db(rows)
    return {
        "expected_calibration_error": round(calibration_error(likely, met), 5),
        "mean_probability": round(float(likely.mean()), 5),
        "met": round(float(met.mean()), 5),
        "rows": len(met),
        "change_db2": round(float(np.mean(change**2)), 4),
        "forecast_left_db2": round(float(np.mean(left**2)), 4),
    }


def verdict(difference: Mapping[str, Mapping[str, float]], name: str = "The selector") -> str:
    """One sentence: whether a policy beats tuned A3 on requests met without more ping-pong."""
    more, swings = difference["qos_satisfaction"], difference["ping_pong_rate"]
    told = f"{more['mean']:+.4f} [{more['low']:+.4f}, {more['high']:+.4f}] of the requests met"
    swung = f"ping-pong {swings['mean']:+.4f} [{swings['low']:+.4f}, {swings['high']:+.4f}]"
    if more["low"] > 0.0:
        sentence = f"{name} meets more requests than tuned A3"
    elif more["high"] < 0.0:
        sentence = f"{name} meets FEWER requests than tuned A3"
    else:
        sentence = f"{name} and tuned A3 cannot be told apart by the requests met"
    swinging = "with more ping-pong" if swings["mean"] > 0.0 else "without more ping-pong"
    return f"{sentence}, {swinging}: {told}, {swung}"


def policies_in(found: Mapping[str, Any]) -> list[str]:
    """The names of the policies in a result."""
    return [name for name, one in found.items() if isinstance(one, dict) and "seeds" in one]


def show(found: Mapping[str, Any], console: Console | None = None) -> None:
    """Prints the comparison as a table."""
    table = Table(
        title="Requests met, by service class", collapse_padding=True, pad_edge=False, box=SIMPLE
    )  # fmt: skip
    table.add_column("policy", no_wrap=True)
    titles = (*CLASSES, "HO/min", "p-pong", "outage")
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    for name in policies_in(found):
        one = found[name]
        cells = [
            f"{part['qos_satisfaction']:.3f}" if (part := one.get(kind)) else "-"
            for kind in CLASSES
        ]
        rates = [f"{one[rate]:.3f}" for rate in closed_loop.RATES]
        table.add_row(name, *cells, *rates)
    (console or Console()).print(table)


def plot(found: Mapping[str, Any], path: Path) -> Path:
    """Requests met by class and policy, with intervals, as a PNG."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = policies_in(found)
    figure, axes = pyplot.subplots(figsize=(9, 4.5))
    width = 0.8 / len(names)
    for number, name in enumerate(names):
        there = [place for place, kind in enumerate(CLASSES) if kind in found[name]]
        parts = [found[name][CLASSES[place]] for place in there]
        mean = np.array([part["qos_satisfaction"] for part in parts])
        low = mean - np.array([part["low"] for part in parts])
        high = np.array([part["high"] for part in parts]) - mean
        axes.bar(
            np.array(there) + (number - (len(names) - 1) / 2) * width, mean, width, label=name,
            yerr=np.clip([low, high], 0.0, None), capsize=2,
        )  # fmt: skip
    axes.set_xticks(range(len(CLASSES)), CLASSES)
    axes.set_ylabel("share of requests met")
    axes.set_ylim(0.0, 1.0)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=RESOLUTION)
    pyplot.close(figure)
    return path


if __name__ == "__main__":
    typer.run(main)
