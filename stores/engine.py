"""A Feast compute engine that fills an online store from Arrow, all views of a run in one pass.

batch_engine:
  type: stores.engine.BulkComputeEngine
  batch_rows: 100000    # keys that are held at once

Of each view only the newest row of a key is read, see `stores.arrival`. What the engine does not do
itself (transformations, aggregations, filters, validation, views over views, offline outputs) it leaves
to Feast's local engine.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Literal

import pyarrow as pa
from feast.infra.common.materialization_job import MaterializationJobStatus, MaterializationTask
from feast.infra.compute_engines.local.compute import LocalComputeEngine
from feast.infra.compute_engines.local.job import LocalMaterializationJob
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import FeastConfigBaseModel
from feast.utils import make_tzaware
from tqdm import tqdm  # type: ignore[import-untyped]

from stores.arrival import (
    CREATED,
    EVENT,
    Pull,
    Watermark,
    advance_watermark,
    batches,
    forget_watermarks,
    pull,
    read_watermark,
)
from stores.asof import AsofOfflineStore
from stores.source import columns_of
from stores.times import from_micros

BATCH_ROWS = 100_000
_SILENT_S = 2


class BulkComputeEngineConfig(FeastConfigBaseModel):
    """batch_rows: keys held at once; backend: of Feast's local engine, for what is left to it."""

    type: Literal["stores.engine.BulkComputeEngine"] = "stores.engine.BulkComputeEngine"
    batch_rows: int = BATCH_ROWS
    backend: str | None = None


class BulkComputeEngine(LocalComputeEngine):
    """See the module's docstring."""

    def __init__(self, batch_rows: int = BATCH_ROWS, **settings: Any) -> None:
        super().__init__(**settings)
        if batch_rows < 1:
            raise ValueError(f"batch_engine: batch_rows is {batch_rows}; at least 1 is needed")
        self.batch_rows = batch_rows

    @property
    def supports_batch(self) -> bool:
        """Feast hands over all views of a run at once."""
        return True

    def update(
        self, project: str, views_to_delete: Sequence[Any], *kept: Any, **named: Any
    ) -> None:
        """Forgets how far deleted views had been read."""
        forget_watermarks(self.online_store, self.repo_config, [v.name for v in views_to_delete])

    def teardown_infra(self, project: str, fvs: Sequence[Any], entities: Sequence[Any]) -> None:
        """Forgets how far the views had been read."""
        forget_watermarks(self.online_store, self.repo_config, [view.name for view in fvs])

    def _materialize_one(
        self, registry: BaseRegistry, task: MaterializationTask, **kwargs: Any
    ) -> LocalMaterializationJob:
        if left_to_feast(task.feature_view):
            return super()._materialize_one(registry, task, **kwargs)
        job = f"{task.feature_view.name}-{task.start_time}-{task.end_time}"
        try:
            self.fill(task)
        except Exception as error:  # Feast raises it after the other views are done
            return LocalMaterializationJob(job, MaterializationJobStatus.ERROR, error)
        return LocalMaterializationJob(job, MaterializationJobStatus.SUCCEEDED)

    def fill(self, task: MaterializationTask) -> int:
        """Brings one view's online rows up to the task's end; the number of keys written.

        Raises `TypeError` where the online store takes no Arrow.
        """
        view, config, store = task.feature_view, self.repo_config, self.online_store
        if not hasattr(store, "write_arrow"):
            raise TypeError(
                f"{type(self).__name__} cannot write to {type(store).__name__}: it has no "
                "write_arrow(config, view, rows)"
            )
        if isinstance(self.offline_store, AsofOfflineStore):
            pulled = self.pulled(task)
            total, parts, mark = len(pulled.winners), batches(pulled, self.batch_rows), pulled.mark
        else:
            table = self._pulled_by_feast(task)
            total, parts, mark = table.num_rows, self._slices(table), None
        written = 0
        with tqdm(total=total, ncols=100, delay=_SILENT_S, desc=view.name) as progress:
            for rows in parts:
                written += store.write_arrow(config, view, rows)
                progress.update(rows.num_rows)
        if mark is not None and total:
            advance_watermark(store, config, view, mark)
        return written

    def pulled(self, task: MaterializationTask) -> Pull:
        """What `fill` reads, before it writes; the offline store must be ours."""
        view = task.feature_view
        stored = read_watermark(self.online_store, self.repo_config, view)
        arrived = stored.created_us if stored else None
        start, end = first_event(task, stored), make_tzaware(task.end_time)
        return pull(self.repo_config, view, start, end, arrived)

    def _pulled_by_feast(self, task: MaterializationTask) -> pa.Table:
        """The newest row of each key, by names, from an offline store that is not ours."""
        view = task.feature_view
        keys, features, event, created = columns_of(view)
        columns, source = keys | features, view.batch_source
        assert source is not None
        table = self.offline_store.pull_latest_from_table_or_query(
            config=self.repo_config,
            data_source=source,
            join_key_columns=list(keys.values()),
            feature_name_columns=list(features.values()),
            timestamp_field=event,
            created_timestamp_column=created,
            start_date=make_tzaware(task.start_time),
            end_date=make_tzaware(task.end_time),
        ).to_arrow()
        time = pa.timestamp("us", "UTC")
        no_time = pa.nulls(table.num_rows, time)
        dummy = {} if keys else {"__dummy_id": pa.array([""] * table.num_rows, pa.string())}
        return pa.table(
            dummy
            | {name: table[column] for name, column in columns.items()}
            | {
                EVENT: table[event].cast(time),
                CREATED: table[created].cast(time) if created else no_time,
            }
        )

    def _slices(self, table: pa.Table) -> Iterator[pa.Table]:
        for start in range(0, table.num_rows, self.batch_rows):
            yield table.slice(start, self.batch_rows)


def left_to_feast(view: Any) -> bool:
    """Whether a view asks for more than the newest row of its source."""
    return bool(
        view.batch_source is None
        or getattr(view, "source_views", None)
        or getattr(view, "feature_transformation", None)
        or getattr(view, "aggregations", None)
        or getattr(view, "filter", None)
        or getattr(view, "enable_validation", False)
        or getattr(view, "offline", False)
        or not view.online
    )


def first_event(task: MaterializationTask, stored: Watermark | None) -> datetime:
    """The event time that a run reads from.

    Feast starts an incremental run at the end of the last one. Ours goes back to the latest event that
    was read, where that is earlier (the last end lay in the future, or the data lagged), and to the
    start of the first run where this online store knows of none.
    """
    start: datetime = make_tzaware(task.start_time)
    intervals = [
        (make_tzaware(first), make_tzaware(last))
        for first, last in task.feature_view.materialization_intervals
    ]
    if not intervals or start != max(last for _, last in intervals):
        return start
    if stored is None:
        return min(first for first, _ in intervals)
    return min(start, from_micros(stored.event_us))
