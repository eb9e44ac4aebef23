"""What the stream left offline is asked for through Feast: point-in-time correct, as known then."""

from datetime import timedelta
from pathlib import Path

import polars as pl

from feature_repo import compute
from feature_repo.views import UE_RADIO
from pipelines.stream.compact import compact
from pipelines.stream.history import stream_store
from pipelines.stream.outputs import append_offline, prepare
from stores.source import append_rows
from tests.conftest import World

EVENT, ARRIVAL = "event_timestamp", "arrival_timestamp"


def test_feast_answers_from_the_streams_files_before_and_after_compaction(
    small_world: World, tmp_path: Path
) -> None:
    features = tmp_path / "features"
    prepare(features)
    rows = small_world.table("ue_radio")
    made = compute.features(rows, rows, UE_RADIO).sort(ARRIVAL)
    name = UE_RADIO.features()[1].name
    for number, start in enumerate(range(0, len(made), 40), 1):
        part = made.slice(start, 40)
        append_offline(append_rows, features, "ue_radio", [part], "abc", number)
    asked = made.filter(pl.int_range(pl.len()) % 97 == 5).select(
        "ue_id", (pl.col(EVENT) + timedelta(milliseconds=300)).alias(EVENT)
    )
    wanted = []
    for ue, at in asked.rows():  # the newest row that was known then
        known = made.filter(
            pl.col("ue_id") == ue,
            pl.col(ARRIVAL) <= at,
            pl.col(EVENT) <= at,
            pl.col(EVENT) > at - UE_RADIO.ttl,
        ).sort(EVENT, ARRIVAL)
        wanted.append(known[name][-1] if len(known) else None)
    assert sum(value is not None for value in wanted) > 20

    def answer() -> list[float | None]:
        with stream_store(features) as store:
            got = store.get_historical_features(asked.to_pandas(), [f"ue_radio:{name}"])
            table = pl.from_arrow(got.to_arrow())
            assert isinstance(table, pl.DataFrame)
            ordered = asked.join(table, on=["ue_id", EVENT], how="left", maintain_order="left")
            return ordered[name].to_list()

    assert answer() == wanted
    assert compact(features, "abc", 10**6) > 10
    assert answer() == wanted
