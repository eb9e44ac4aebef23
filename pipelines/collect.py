"""Source to raw: canonical tables, subscribers pseudonymised and positions coarsened before the first
write."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import polars as pl

from lifecycle.pseudonym import coarsened, pseudonymised, read_key, redacted
from nef.simulator import SimulatorParams
from pipelines.sources.collected import Collected
from pipelines.sources.nef import NefParams, nef
from pipelines.sources.simulator import simulator
from pipelines.sources.table import table
from pipelines.sources.taiwan_ho import taiwan_ho
from pipelines.sources.ucc5g import ucc5g
from pipelines.stage import run, write_all
from schemas.errors import QosError, listed


@dataclass(frozen=True)
class Params:
    """source: where rows come from; table: the folder of the `table` source, which holds the files and
    one mapping YAML; grid_deg: positions are kept to the middle of squares of this size (0.001 deg is
    about 110 m of latitude)."""

    source: Literal["simulator", "ucc5g", "taiwan_ho", "nef", "table"] = "simulator"
    table: str = "docs/examples"
    grid_deg: float = 0.001
    simulator: SimulatorParams = field(default_factory=SimulatorParams)
    nef: NefParams = field(default_factory=NefParams)


@dataclass(frozen=True)
class Raw:
    """Raw tables ready to store, what was read, and the side tables that no stage reads as features."""

    tables: dict[str, pl.DataFrame]
    account: dict[str, object]
    labels: dict[str, pl.DataFrame] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """`<table>.parquet` each, `label_<what>.parquet` and `collect.json`."""
        folder.mkdir(parents=True)
        every = self.tables | self.labels
        write_all([(folder / f"{name}.parquet", rows) for name, rows in every.items()])
        write_all([(folder / "collect.json", self.account)])


def collect(params: Params) -> Raw:
    """The raw canonical tables of the source; raises `QosError` where it has no row."""
    if not 0 < params.grid_deg <= 1:
        raise QosError(f"params.yaml: collect.grid_deg: {params.grid_deg}, must be in (0, 1] deg")
    try:
        found = _read(params)
    except QosError as error:
        if params.source != "table":
            raise
        raise QosError(redacted(str(error))) from None  # it may quote the user's file
    if not any(len(rows) for rows in found.tables.values()):
        raise QosError(f"{params.source}: empty: {found.lines} lines and not one row")
    tables, labels = (
        _protected(part, found, params.grid_deg) for part in (found.tables, found.labels)
    )
    account: dict[str, object] = {
        "source": params.source,
        "files": found.files,
        "lines_read": found.lines,
        "tables": {name: len(rows) for name, rows in tables.items()},
        "nulls": {column: dict(reasons) for column, reasons in sorted(found.nulls.items())},
    }
    return Raw(tables, account, labels)


def _protected(
    tables: dict[str, pl.DataFrame], found: Collected, grid_deg: float
) -> dict[str, pl.DataFrame]:
    if found.protected:
        return {name: coarsened(rows, grid_deg) for name, rows in tables.items()}
    key = found.pseudonym_key or read_key()
    return {name: pseudonymised(rows, key, grid_deg) for name, rows in tables.items()}


def _read(params: Params) -> Collected:
    if params.source == "simulator":
        return simulator(params.simulator)
    if params.source == "ucc5g":
        return ucc5g()
    if params.source == "taiwan_ho":
        return taiwan_ho()
    if params.source == "nef":
        return nef(params.nef)
    return table(_mapping(Path(params.table)))


def _mapping(folder: Path) -> Path:
    """The one mapping of a folder; raises `QosError` for none or several."""
    if not folder.is_dir():
        raise QosError(f"params.yaml: collect.table: {folder}: no such folder")
    found = sorted(path for path in folder.iterdir() if path.suffix in (".yaml", ".yml"))
    if len(found) != 1:
        raise QosError(
            f"params.yaml: collect.table: {folder}: {len(found)} mappings "
            f"[{listed([path.name for path in found])}]; one .yaml file describes the folder's tables"
        )
    return found[0]


if __name__ == "__main__":
    run(collect)
