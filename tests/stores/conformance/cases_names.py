"""Cases 23 to 27: what a column is called, and views without keys."""

from typing import Any

import pandas as pd
import pyarrow as pa
from feast import FeatureService
from feast.types import UnixTimestamp

from tests.stores.conformance.cases import Variants, case
from tests.stores.conformance.harness import Harness, OnlineHarness, read_online, refused, same
from tests.stores.conformance.world import HOUR, NOON, US, View, table, trips


@case("a feature named as an entity column, a key or a time is refused or right, never renamed")
def case_23_equal_names(harness: Harness) -> None:
    variants = Variants("equal names")
    if not harness.online:
        store = harness.open([trips((1, NOON, NOON, 5))])
        frame = pd.DataFrame({"driver_id": [1], "event_timestamp": [NOON], "count": [77]})
        with variants.variant("an entity column named as a feature"), refused("count"):
            harness.history(store, frame, ["trips:count"])
        with variants.variant("the same with full names"):
            found = harness.history(store, frame, ["trips:count"], full=True).to_pylist()[0]
            assert (found["count"], found["trips__count"]) == (77, 5), f"{found}"
    with variants.variant("a feature named as another view's key"):
        kinds = {"rider_id": pa.int64(), "event": US, "created": US, "driver_id": pa.int64()}
        last = View("last", table(kinds, (7, NOON, NOON, 1)), ("rider_id",))
        values = _full(
            harness, [trips((1, NOON, NOON, 5)), last], [{"driver_id": 1, "rider_id": 7}]
        )
        assert values == [(5, 1)], f"{values}"
    with variants.variant("the created time as a feature"):
        view = trips((1, NOON, NOON - HOUR, 5), types={"created": UnixTimestamp}, more=("created",))
        values = _full(harness, [view], [{"driver_id": 1}])
        assert values == [(5, NOON - HOUR)], f"{values}"
    with variants.variant("the event time as a feature"):
        view = trips((1, NOON - HOUR / 2, NOON - HOUR, 5), more=("event",))
        values = _full(harness, [view], [{"driver_id": 1}])
        assert values == [(5, NOON - HOUR / 2)], f"{values}"
    variants.settle()


@case("a field mapping renames keys, times and features")
def case_24_field_mapping(harness: Harness) -> None:
    kinds = {"drv": pa.int64(), "ts": US, "made": US, "n": pa.int64(), "km": pa.float64()}
    rows = table(kinds, (1, NOON, NOON, 5, 0.5), (1, NOON, NOON - HOUR, 6, 0.25))
    mapping = {"drv": "driver_id", "n": "count"}
    asks = [{"driver_id": d, "at": NOON} for d in (1, 2)]
    variants = Variants("mappings")
    for name, times in {
        "of a key and a feature": {},
        "of the times too": {"ts": "event", "made": "created"},
    }.items():
        with variants.variant(name):
            view = View(
                "trips", rows, ("drv",), event="ts", created="made", mapping=mapping | times
            )
            assert harness.check([view], asks) == [(5, 0.5), (None, None)]
    variants.settle()


@case("one view under two aliases with keys of their own: origin and destination")
def case_25_aliases(harness: Harness) -> None:
    view = trips((1, NOON, NOON, 5), (2, NOON, NOON, 6))
    definition = view.feature_view(harness.folder)
    ends = [
        definition.with_name(end).with_join_key_map({"driver_id": f"{end}_id"})
        for end in ("origin", "destination")
    ]
    rows = [{"origin_id": a, "destination_id": b} for a in (1, 2, 3) for b in (1, 2)]
    wanted = [(r["origin_id"], r["destination_id"]) for r in rows]
    values = _full(harness, [view], rows, FeatureService(name="ends", features=ends))
    counts = {1: 5, 2: 6}
    same(values, [(counts.get(a), counts.get(b)) for a, b in wanted])


@case("features are named alone, or fully where asked; two of one name only fully")
def case_26_full_names(harness: Harness) -> None:
    views = [trips((1, NOON, NOON, 5)), trips((1, NOON, NOON, 6), name="rides")]
    variants = Variants("ways of naming")
    with variants.variant("alone"):
        assert harness.check(views[:1], [{"driver_id": 1, "at": NOON}]) == [(5,)]
    with variants.variant("fully"):
        assert _full(harness, views, [{"driver_id": 1}]) == [(5, 6)]
    with variants.variant("two alone"), refused("count"):
        harness.ask(views, [{"driver_id": 1, "at": NOON}])
    variants.settle()


@case("a view without keys gives its latest row to each entity row, alone and beside others")
def case_27_no_keys(harness: Harness) -> None:
    kinds = {"event": US, "created": US, "price": pa.int64()}
    prices = View(
        "prices",
        table(
            kinds, (NOON - HOUR / 2, NOON - HOUR / 2, 3), (NOON, NOON, 4), (NOON - HOUR, NOON, 2)
        ),
        (),
    )
    variants = Variants("requests")
    asks = [{"driver_id": 1, "at": NOON + n * HOUR / 4} for n in (-4, -3, -1, 0, 1, 5)]
    with variants.variant("alone"):
        harness.check([prices], asks)
    with variants.variant("beside another view"):
        harness.check([trips((1, NOON, NOON, 5)), prices], asks)
    variants.settle()


def _full(
    harness: Harness, views: list[View], rows: list[dict[str, Any]], service: Any = None
) -> list[tuple[Any, ...]]:
    """The values at NOON of all features, fully named, in the views' and then the features' order."""
    store = harness.open(views, *([service] if service else []))
    features = service or [
        f"{view.name}:{view.feast_name(f)}" for view in views for f in view.features
    ]
    names = (
        [
            f"{p.name_to_use()}__{f.name}"
            for p in service.feature_view_projections
            for f in p.features
        ]
        if service
        else [feature.replace(":", "__") for feature in features]
    )
    if isinstance(harness, OnlineHarness):
        harness.materialize_as_at(store, views, NOON)
        return read_online(store, features, rows, NOON, names=names, full_feature_names=True)
    frame = pd.DataFrame(rows).assign(event_timestamp=NOON, n=range(len(rows)))
    found = harness.history(store, frame, features, full=True).to_pylist()
    return [tuple(row[name] for name in names) for row in sorted(found, key=lambda row: row["n"])]
