"""Asks Feast for the service's features at the label rows: right in time, and as known at that time."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import polars as pl

from feature_repo.services import SERVICES
from feature_repo.store import REPO, scratch_store
from pipelines.stage import read_table, run
from pipelines.truncation import Truncation, replay
from schemas.errors import QosError
from schemas.tables import TABLES

KEYS = ["ue_id", "cell_id", "five_qi", "event_timestamp"]
REQUEST = ["requested_downlink_mbps", "requested_delay_ms", "requested_loss_ratio"]


@dataclass(frozen=True)
class Params:
    """service: whose features to ask for; truncation_rows: how many label rows are replayed."""

    service: str = "qos_v1"
    truncation_rows: int = 200
    seed: int = 7


class Result(NamedTuple):
    """frame: the labels and then the features in the service's order; truncation: the replay."""

    frame: pl.DataFrame
    truncation: dict[str, object]


def assemble(labels: Path, features: Path, admitted: Path, params: Params) -> Result:
    """One row a label row, in its order; a feature is null where it was unknown or past its ttl.

    features: a folder data/features, which the definitions' sources name; admitted: the tables that
    the replay by truncation cuts. Raises `QosError` where a replayed value differs: a feature saw
    the future.
    """
    known = {service.name: service for service in SERVICES}
    if params.service not in known:
        raise QosError(f"params.yaml: assemble.service: {params.service!r}; known: {list(known)}")
    service = known[params.service]
    rows = read_table(labels)
    names = [feature.name for feature in service.features()]
    frame = historical(rows, params.service, names, features.resolve().parents[1] / REPO.name)
    tables = {name: read_table(admitted / f"{name}.parquet") for name in TABLES}
    outcome = replay(frame, tables, service, params.truncation_rows, params.seed)
    _refuse_differences(outcome)
    return Result(frame, outcome.metrics())


def historical(
    rows: pl.DataFrame, service: str, names: list[str], repo: Path = REPO
) -> pl.DataFrame:
    """The rows with the service's features beside them, from Feast's offline store.

    repo: the folder that the definitions' sources start from.
    """
    entities = rows.select(*KEYS, *REQUEST)
    with scratch_store(repo) as store:
        job = store.get_historical_features(
            entity_df=entities.to_pandas(),
            features=store.get_feature_service(service),
        )
        found = pl.from_arrow(job.to_arrow())
    assert isinstance(found, pl.DataFrame)
    if len(found) != len(rows):
        raise QosError(
            f"{service}: asked for {len(rows)} rows, the offline store gave {len(found)}"
        )
    return pl.concat(
        [rows, found.select(pl.col(n).cast(pl.Float64) for n in names)],
        how="horizontal",
    )


def _refuse_differences(outcome: Truncation) -> None:
    if outcome.differences:
        first = outcome.differences[0]
        raise QosError(
            f"replay by truncation: {len(outcome.differences)} of {outcome.values} values differ when "
            f"the data end at the decision; first: {first}; a feature must not see the future"
        )


if __name__ == "__main__":
    run(assemble)
