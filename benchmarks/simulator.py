"""How much faster than real time a city is simulated, every UE and cell of it each second.

    python -m benchmarks.simulator --ues 1000 --sites 17 --seconds 1200

Three cells a site. The first stretch of time, in which the fields are drawn, is not counted.
"""

import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.results_file import RESULTS, peak_gb, write_result
from nef.simulator.city import STRETCH_S, city_params, play


def main(
    ues: Annotated[int, typer.Option(help="at once, for all the time")] = 1000,
    sites: Annotated[int, typer.Option(help="of three cells each")] = 17,
    seconds: Annotated[int, typer.Option(help="to simulate at 1 Hz")] = 1200,
    out: Annotated[Path, typer.Option(help="folder of the result")] = RESULTS,
) -> None:
    """Measures the seconds that it takes, with the peak memory of the process."""
    params = city_params(ues, sites, seconds + STRETCH_S)
    run = play(params, seconds + STRETCH_S)
    next(run)
    start, cpu, handovers, served, bits = time.perf_counter(), time.process_time(), 0, 0, 0.0
    for _, happened in run:
        handovers += sum(who.size for _, kind, who, *_ in happened.events if kind == "nr_handover")
        served += int((happened.serving >= 0).sum())
        bits += float(np.nansum(happened.downlink_mbps))
    took, used = time.perf_counter() - start, time.process_time() - cpu
    result: dict[str, Any] = {
        "ues": ues,
        "cells": 3 * sites,
        "simulated_s": seconds,
        "seconds": round(took, 2),
        "cpu_seconds": round(used, 2),
        "times_real_time": round(seconds / took, 1),
        "peak_gb": round(peak_gb(), 2),
        "served_share": round(served / (ues * seconds), 4),
        "handovers_per_ue_minute": round(handovers / (ues * seconds / 60.0), 3),
        "mean_downlink_mbps": round(bits / (ues * seconds), 2),
    }
    print(f"{ues} UEs x {3 * sites} cells: {result['times_real_time']} times real time")
    print(write_result("simulator", result, out))


if __name__ == "__main__":
    typer.run(main)
