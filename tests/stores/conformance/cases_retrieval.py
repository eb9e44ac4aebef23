"""Cases 31 to 35: what else one asks of a retrieval."""

from typing import Any

import pandas as pd
import pyarrow as pa
from feast import Field, RequestSource
from feast.on_demand_feature_view import OnDemandFeatureView, on_demand_feature_view
from feast.types import Int64

from tests.stores.conformance.cases import Variants, case
from tests.stores.conformance.harness import Harness, OnlineHarness, quiet, read_online, same
from tests.stores.conformance.world import HOUR, NOON, View, references, trips


@case("only what had been created by the entity's time is known; all too new is null")
def case_31_known_then(harness: Harness) -> None:
    rows = [
        (1, NOON - HOUR / 2, NOON - HOUR / 2, 5),
        (1, NOON - HOUR / 2, NOON + HOUR / 4, 6),
        (1, NOON - HOUR / 4, NOON + HOUR / 2, 7),
        (2, NOON - HOUR / 2, NOON + HOUR / 4, 8),
    ]
    asks = [{"driver_id": d, "at": NOON + n * HOUR / 4} for d in (1, 2) for n in (-1, 0, 1, 2, 3)]
    found = harness.check([trips(*rows)], asks)
    assert found == [(v,) for v in (5, 5, 6, 7, 7, None, None, 8, 8, None)]
    if not harness.online:
        same(harness.ask([trips(*rows)], asks[-5:-2], known=False), [(8,)] * 3)


RANGE = [
    (1, NOON, NOON, 5), (1, NOON + HOUR, NOON + HOUR, 6), (1, NOON + HOUR, NOON + HOUR, 6),
    (2, NOON + HOUR, NOON + HOUR, 7), (3, NOON - HOUR, NOON - HOUR, 8), (None, NOON, NOON, 9),
]  # fmt: skip
MEANINGS = {
    "events": [(1, NOON, 5), (1, NOON + HOUR, 6), (2, NOON + HOUR, 7)],
    "rows": [(1, NOON, 5), (1, NOON + HOUR, 6), (1, NOON + HOUR, 6), (2, NOON + HOUR, 7)],
    "snapshot": [(1, NOON + HOUR, 6), (2, NOON + HOUR, 7)],
}


@case(
    "without an entity frame a range of time is asked for, in each of three meanings",
    not_online="a request is about one instant",
)
def case_32_without_entity_frame(harness: Harness) -> None:
    variants = Variants("meanings")
    view = trips(*RANGE)
    for meaning, expected in MEANINGS.items():
        with variants.variant(meaning):
            store = harness.open([view], **harness.offline_store(without_entity_df=meaning))
            found = harness.history(
                store, None, references([view]), start_date=NOON, end_date=NOON + HOUR
            ).to_pylist()
            times = (
                [name for name in found[0] if name not in ("driver_id", "count")] if found else []
            )
            got = [(row["driver_id"], row[times[0]], row["count"]) for row in found]
            same(sorted(got), expected)
    variants.settle()


@case("the entity frame is not changed, and the answer is in its order")
def case_33_order(harness: Harness) -> None:
    rows = [
        (d, NOON + h * HOUR / 8, NOON + h * HOUR / 8, 10 * d + h)
        for d in range(7)
        for h in range(9)
    ]
    view = trips(*rows)
    numbers = [(5 * n + 3) % 56 for n in range(56)]
    if harness.online:
        asks = [{"driver_id": n % 9, "at": NOON + HOUR} for n in numbers] * 2
        harness.check([view], asks)
        return
    frame = pd.DataFrame(
        {
            "driver_id": [n % 9 for n in numbers],
            "event_timestamp": [NOON + (n % 4) * HOUR / 4 for n in numbers],
            "n": numbers,
        },
        index=numbers,
    )
    before = frame.copy(deep=True)
    found = harness.history(harness.open([view]), frame, references([view])).to_pydict()
    pd.testing.assert_frame_equal(frame, before)
    same(found["n"], numbers)


def _with_request(view: View, harness: Harness) -> OnDemandFeatureView:
    def added(inputs: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"total": inputs["count"].fillna(0).astype("int64") + inputs["extra"]})

    asked = RequestSource(name="asked", schema=[Field(name="extra", dtype=Int64)])
    made: OnDemandFeatureView = on_demand_feature_view(
        sources=[view.feature_view(harness.folder), asked],
        schema=[Field(name="total", dtype=Int64)],
        mode="pandas",
    )(added)
    return made


@case("an on-demand view computes on top, also with data of the request")
def case_34_on_demand(harness: Harness) -> None:
    view = trips((1, NOON, NOON, 5), (2, NOON - 2 * HOUR, NOON - 2 * HOUR, 6))
    store = harness.open([view], _with_request(view, harness))
    rows = [{"driver_id": d, "extra": 100 * d} for d in (1, 2, 3)]
    features = ["trips:count", "added:total"]
    if isinstance(harness, OnlineHarness):
        harness.materialize_as_at(store, [view], NOON)
        found = read_online(store, features, rows, NOON)
    else:
        frame = pd.DataFrame(rows).assign(event_timestamp=NOON)
        table = harness.history(store, frame, features).to_pylist()
        found = [
            (row["count"], row["total"]) for row in sorted(table, key=lambda row: row["driver_id"])
        ]
    same([tuple(None if pd.isna(v) else v for v in row) for row in found],
         [(5, 105), (None, 200), (None, 300)])  # fmt: skip


@case("each version of a view answers by its own definition: view@v0 and view@v1")
def case_35_versions(harness: Harness) -> None:
    first = trips((1, NOON, NOON, 5))
    rows = first.table.set_column(3, "count", pa.array([6])).append_column("km", pa.array([0.5]))
    second = trips(table=rows, path="second.parquet")
    folder = harness.folder / "versions"
    registry = {"path": str(folder / "r.db"), "enable_online_feature_view_versioning": True}
    store = harness.open([first], folder=folder, registry=registry)
    with quiet():
        store.apply([*second.entities(), second.feature_view(folder)])
    second.written(second.path_in(folder), second.table)
    variants = Variants("versions")
    for tag, count in {"@v0": 5, "@v1": 6, "": 6}.items():
        with variants.variant(tag or "the latest"):
            assert _version(harness, store, tag) == count, f"not {count}"
    variants.settle()


def _version(harness: Harness, store: Any, tag: str) -> Any:
    feature = f"trips{tag}:count"
    if harness.online:
        with quiet():
            store.materialize(
                NOON - HOUR, NOON, feature_views=["trips"], version=tag.removeprefix("@") or None
            )
        return read_online(store, [feature], [{"driver_id": 1}], NOON)[0][0]
    frame = pd.DataFrame({"driver_id": [1], "event_timestamp": [NOON]})
    return harness.history(store, frame, [feature]).to_pylist()[0]["count"]
