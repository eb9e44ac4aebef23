"""Cases 28 to 30: what a source may be, and where."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from hypothesis import strategies as st

from tests.stores.conformance.cases import Variants, case
from tests.stores.conformance.harness import Harness, forall, refused
from tests.stores.conformance.world import HOUR, NOON, references, trips


@case("an empty entity frame and an empty source give no rows and nulls; a lacking column is named")
def case_28_nothing(harness: Harness) -> None:
    variants = Variants("empty things")
    full = trips((1, NOON, NOON, 5))
    if not harness.online:
        with variants.variant("an entity frame"):
            frame = pd.DataFrame({"driver_id": [1], "event_timestamp": [NOON]}).head(0)
            found = harness.history(harness.open([full]), frame, references([full]))
            assert (found.num_rows, "count" in found.column_names) == (0, True)
    with variants.variant("a source"):
        assert harness.check([trips()], [{"driver_id": 1, "at": NOON}]) == [(None,)]
    with variants.variant("a source without a column"), refused("count"):
        lacking = trips((1, NOON, NOON, 5), written=_without_count)
        harness.ask([lacking], [{"driver_id": 1, "at": NOON}])
    variants.settle()


def _without_count(path: Path, table: pa.Table) -> None:
    pq.write_table(table.drop(["count"]), path)


def _shuffled(table: pa.Table) -> pa.Table:
    order = [(7 * n + 3) % table.num_rows for n in range(table.num_rows)]
    return table.take(sorted(range(table.num_rows), key=lambda n: order[n]))


def _folder(path: Path, table: pa.Table) -> None:
    path.mkdir(parents=True, exist_ok=True)
    for n in range(0, table.num_rows, 7):
        pq.write_table(table.slice(n, 7), path / f"part-{n}.parquet")


def _days(path: Path, table: pa.Table) -> None:
    days = pa.array([str(time.date()) for time in table["event"].to_pylist()])
    ds.write_dataset(
        table.append_column("day", days), path, format="parquet",
        partitioning=ds.partitioning(pa.schema([("day", pa.string())]), flavor="hive"),
        existing_data_behavior="delete_matching",
    )  # fmt: skip


def _groups(path: Path, table: pa.Table) -> None:
    pq.write_table(table, path, row_group_size=3)


def _two(change: Callable[[pa.Table], pa.Table]) -> Callable[[Path, pa.Table], None]:
    """Two files, the later half changed."""

    def written(path: Path, table: pa.Table) -> None:
        path.mkdir(parents=True, exist_ok=True)
        half = table.num_rows // 2
        pq.write_table(table.slice(0, half), path / "a.parquet")
        pq.write_table(change(table.slice(half)), path / "b.parquet")

    return written


def _one_column_more(table: pa.Table) -> pa.Table:
    return table.append_column("later", table["count"])


def _other_order(table: pa.Table) -> pa.Table:
    return table.select(table.column_names[::-1])


def _narrower(table: pa.Table) -> pa.Table:
    place = table.column_names.index("count")
    return table.set_column(place, "count", table["count"].cast(pa.int32()))


def _cast(kind: pa.DataType) -> Callable[[Path, pa.Table], None]:
    def written(path: Path, table: pa.Table) -> None:
        key = table["name"].cast(kind)
        pq.write_table(table.set_column(table.column_names.index("name"), "name", key), path)

    return written


LAYOUTS: dict[str, tuple[str, Callable[[Path, pa.Table], None]]] = {
    "a folder of files": ("rows", _folder),
    "a folder by day": ("rows", _days),
    "many row groups": ("rows.parquet", _groups),
    "a column that later files have": ("rows", _two(_one_column_more)),
    "columns in another order": ("rows", _two(_other_order)),
    "narrower integers in later files": ("rows", _two(_narrower)),
    "strings in a dictionary": ("rows.parquet", _cast(pa.dictionary(pa.int32(), pa.string()))),
    "large strings": ("rows.parquet", _cast(pa.large_string())),
}


@case("a source is a file or a folder of files, in any order, layout and encoding of strings")
def case_29_layouts(harness: Harness) -> None:
    variants = Variants("layouts")
    rows = [(str(n % 5), NOON + n * HOUR / 3, NOON + n * HOUR / 3, n) for n in range(-60, 20)]
    view = trips(*rows, key=pa.string(), ttl=3 * HOUR)
    table = _shuffled(view.table.rename_columns(["name", *view.table.column_names[1:]]))
    asks = [{"driver_id": str(d), "at": NOON + h * HOUR} for d in range(6) for h in (-15, -2, 3)]
    for name, (path, written) in LAYOUTS.items():
        with variants.variant(name):
            laid = trips(
                table=table, keys=("name",), mapping={"name": "driver_id"}, ttl=3 * HOUR,
                path=path, written=written,
            )  # fmt: skip
            harness.check([laid], asks)
    with variants.variant("a feature that only later files have"):
        half = table.num_rows // 2
        early = table.slice(0, half)
        nulls = early.set_column(3, "count", pa.nulls(half, pa.int64()))
        laid = trips(
            table=pa.concat_tables([nulls, table.slice(half)]), keys=("name",), ttl=3 * HOUR,
            mapping={"name": "driver_id"}, path="rows", written=_early_without,
        )  # fmt: skip
        harness.check([laid], asks)
    variants.settle()
    _any_order(harness)


def _early_without(path: Path, table: pa.Table) -> None:
    path.mkdir(parents=True, exist_ok=True)
    lacks = pc.is_null(table["count"])
    pq.write_table(table.filter(lacks).drop(["count"]), path / "a.parquet")
    pq.write_table(table.filter(pc.invert(lacks)), path / "b.parquet")


def _any_order(harness: Harness) -> None:
    rows = [(n % 3, NOON + n * HOUR / 9, NOON + n * HOUR / 9, n) for n in range(-12, 5)]
    asks = [{"driver_id": d, "at": NOON + h * HOUR / 2} for d in range(4) for h in (-1, 0)]

    def check(order: list[Any]) -> None:
        harness.check([trips(*order, path="rows", written=_folder)], asks)

    forall(harness, st.permutations(rows), check, examples=6)


@case("a relative path is the repository's, wherever the process stands")
def case_30_relative_path(harness: Harness) -> None:
    view = trips((1, NOON, NOON, 5), relative=True)
    before = Path.cwd()
    elsewhere = harness.folder / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    os.chdir(elsewhere)
    try:
        assert harness.check([view], [{"driver_id": 1, "at": NOON}]) == [(5,)]
    finally:
        os.chdir(before)
