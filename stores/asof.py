"""A Feast offline store over Parquet `FileSource`s with a right and fast point-in-time join.

offline_store:
  type: stores.asof.AsofOfflineStore
  as_known_at: true     # a row created after the entity's time is not known to it
  memory_limit: 4GB     # of the process that joins; larger sources come in batches
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import polars as pl
import pyarrow as pa
from feast import FeatureView, OnDemandFeatureView, RepoConfig
from feast.data_source import DataSource
from feast.feature_logging import LoggingConfig, LoggingSource
from feast.infra.offline_stores.file_source import (
    FileLoggingDestination,
    SavedDatasetFileStorage,
)
from feast.infra.offline_stores.offline_store import (
    OfflineStore,
    RetrievalJob,
    RetrievalMetadata,
)
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import FeastConfigBaseModel
from feast.saved_dataset import SavedDatasetStorage
from pydantic import ByteSize

from stores.join import join_view
from stores.range import Meaning, rows_of_range
from stores.source import append_rows, exact_utc, scan, schema_of, source_path, utc


class AsofOfflineStoreConfig(FeastConfigBaseModel):
    """as_known_at: leave out rows whose created time is after the entity's (Feast's default is to
    use them, which leaks what was not known). without_entity_df: what a range of time asks for, see
    `stores.range`. memory_limit: what the process may take while it joins; the entity rows and the
    answer must fit; without it, what it has and half of what is free."""

    type: Literal["stores.asof.AsofOfflineStore"] = "stores.asof.AsofOfflineStore"
    as_known_at: bool = True
    without_entity_df: Meaning = "events"
    memory_limit: ByteSize | None = None


class AsofRetrievalJob(RetrievalJob):
    """Computes once, when asked for its result."""

    def __init__(
        self,
        compute: Callable[[], pl.DataFrame],
        *,
        full_feature_names: bool,
        on_demand_feature_views: list[OnDemandFeatureView] | None = None,
        metadata: RetrievalMetadata | None = None,
    ) -> None:
        self._compute = compute
        self._full_feature_names = full_feature_names
        self._on_demand_feature_views = on_demand_feature_views or []
        self._metadata = metadata

    @property
    def full_feature_names(self) -> bool:
        """Whether features are named view__feature."""
        return self._full_feature_names

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        """Applied by Feast on top of the table."""
        return self._on_demand_feature_views

    @property
    def metadata(self) -> RetrievalMetadata | None:
        """Feast's description of the request."""
        return self._metadata

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        return self._compute().to_arrow(compat_level=pl.CompatLevel.oldest())

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        frame: pd.DataFrame = self._to_arrow_internal(timeout).to_pandas()
        return frame

    def persist(
        self,
        storage: SavedDatasetStorage,
        allow_overwrite: bool | None = False,
        timeout: int | None = None,
    ) -> None:
        """Writes the result as Parquet to a saved dataset's file."""
        assert isinstance(storage, SavedDatasetFileStorage)
        path = Path(storage.file_options.uri)
        if path.exists() and not allow_overwrite:
            raise FileExistsError(f"{path}: exists; allow_overwrite replaces it")
        beside = path.with_name(f".{path.name}.part")
        self._compute().write_parquet(beside)
        beside.replace(path)


class AsofOfflineStore(OfflineStore):
    """See the module's docstring; the join itself is `stores.kernel.point_in_time`."""

    supports_filter_by_created_timestamp = True

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: Any,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        **kwargs: Any,
    ) -> RetrievalJob:
        """One row an entity row, in its order, with the requested features beside its columns.

        entity_df None: the rows of `start_date` to `end_date`, see `stores.range`.
        """
        known = bool(
            config.offline_store.as_known_at or kwargs.get("filter_by_created_timestamp", False)
        )
        entities = (
            rows_of_range(
                config,
                feature_views,
                kwargs.get("start_date"),
                kwargs.get("end_date"),
                config.offline_store.without_entity_df,
                as_known_at=known,
            )
            if entity_df is None
            else _entities(entity_df)
        )
        time = _time_column(entities)
        _check_names(entities.columns, feature_refs, full_feature_names)
        asked = entities.with_columns(exact_utc(entities[time]))

        def compute() -> pl.DataFrame:
            joined = [
                join_view(
                    config, view, feature_refs, asked, time,
                    full_feature_names=full_feature_names, as_known_at=known,
                    memory_limit=config.offline_store.memory_limit,
                )
                for view in feature_views
            ]  # fmt: skip
            return pl.concat([asked, *joined], how="horizontal")

        return AsofRetrievalJob(
            compute,
            full_feature_names=full_feature_names,
            on_demand_feature_views=OnDemandFeatureView.get_requested_odfvs(
                feature_refs, project, registry
            ),
            metadata=RetrievalMetadata(
                features=feature_refs,
                keys=[name for name in entities.columns if name != time],
                min_event_timestamp=asked[time].min(),  # type: ignore[arg-type]
                max_event_timestamp=asked[time].max(),  # type: ignore[arg-type]
            ),
        )

    @staticmethod
    def pull_latest_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime,
        end_date: datetime,
    ) -> RetrievalJob:
        """The newest row of each key with an event in [start, end], the newest created among those.

        A null is not a key; without keys there is one row.
        """
        order = [
            timestamp_field,
            *([created_timestamp_column] if created_timestamp_column else []),
        ]

        def compute() -> pl.DataFrame:
            rows = _interval(
                config, data_source, join_key_columns, feature_name_columns, timestamp_field,
                created_timestamp_column, start_date, end_date,
            )  # fmt: skip
            rows = rows.drop_nulls(join_key_columns).sort(
                order, nulls_last=False, maintain_order=True
            )
            if not join_key_columns:
                return rows.tail(1)
            return rows.unique(join_key_columns, keep="last", maintain_order=True)

        return AsofRetrievalJob(compute, full_feature_names=False)

    @staticmethod
    def pull_all_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> RetrievalJob:
        """Every row with an event in [start, end]."""
        return AsofRetrievalJob(
            lambda: _interval(
                config, data_source, join_key_columns, feature_name_columns, timestamp_field,
                created_timestamp_column, start_date, end_date,
            ),
            full_feature_names=False,
        )  # fmt: skip

    @staticmethod
    def offline_write_batch(
        config: RepoConfig,
        feature_view: FeatureView,
        table: pa.Table,
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Appends rows to the view's source; raises `ValueError` where a column is missing."""
        source = feature_view.batch_source
        assert source is not None
        path = source_path(config, source)
        have = schema_of(path)
        if missing := [name for name in have if name not in table.column_names]:
            raise ValueError(
                f"{feature_view.name}: the rows to write have no column {missing}; they have "
                f"{table.column_names}"
            )
        append_rows(path, table.select(list(have)))
        if progress:
            progress(table.num_rows)

    @staticmethod
    def write_logged_features(
        config: RepoConfig,
        data: pa.Table | Path,
        source: LoggingSource,
        logging_config: LoggingConfig,
        registry: BaseRegistry,
    ) -> None:
        """Appends a log, a table or a Parquet file or folder, to the destination's folder."""
        destination = logging_config.destination
        assert isinstance(destination, FileLoggingDestination)
        folder = Path(destination.path)
        if not folder.is_absolute() and config.repo_path is not None:
            folder = Path(config.repo_path) / folder
        folder.mkdir(parents=True, exist_ok=True)
        table = pl.read_parquet(data).to_arrow() if isinstance(data, Path) else data
        append_rows(folder, table)


def _entities(entity_df: Any) -> pl.DataFrame:
    if isinstance(entity_df, pl.DataFrame):
        return entity_df
    if isinstance(entity_df, pd.DataFrame):
        _check_once(list(entity_df.columns))
        return pl.from_pandas(entity_df.reset_index(drop=True))
    if isinstance(entity_df, pa.Table):
        _check_once(entity_df.column_names)
        table = pl.from_arrow(entity_df)
        assert isinstance(table, pl.DataFrame)
        return table
    if isinstance(entity_df, str) and entity_df.endswith(".parquet"):
        return pl.read_parquet(entity_df)
    raise ValueError(
        f"entity_df is a {type(entity_df).__name__}; the as-of store takes a pandas, Polars or Arrow "
        "table, or the path of a .parquet file"
    )


def _check_once(names: Sequence[str]) -> None:
    if twice := sorted({str(name) for name in names if list(names).count(name) > 1}):
        raise ValueError(f"entity_df has more than one column {twice}; its columns: {list(names)}")


def _check_names(columns: Sequence[str], feature_refs: Sequence[str], full: bool) -> None:
    named = [ref.replace(":", "__", 1) if full else ref.split(":", 1)[1] for ref in feature_refs]
    if both := [name for name in named if name in columns]:
        raise ValueError(
            f"entity_df has columns {both} that are named as requested features; rename them, or ask "
            "with full_feature_names"
        )


def _time_column(entities: pl.DataFrame) -> str:
    if "event_timestamp" in entities.columns:
        return "event_timestamp"
    times = [name for name, dtype in entities.schema.items() if dtype == pl.Datetime]
    if len(times) == 1:
        return times[0]
    raise ValueError(
        f"entity_df has no event_timestamp and {len(times)} datetime columns {times}; its columns: "
        f"{entities.columns}"
    )


def _interval(
    config: RepoConfig,
    data_source: DataSource,
    join_key_columns: list[str],
    feature_name_columns: list[str],
    timestamp_field: str,
    created_timestamp_column: str | None,
    start_date: datetime | None,
    end_date: datetime | None,
) -> pl.DataFrame:
    rows = scan(config, data_source)
    schema = rows.collect_schema()
    times = [
        timestamp_field,
        *([created_timestamp_column] if created_timestamp_column else []),
    ]
    features = feature_name_columns or schema.names()  # Feast names none to a transformation
    columns = list(dict.fromkeys([*join_key_columns, *features, *times]))
    rows = rows.select(
        *(pl.col(c) for c in columns if c not in times),
        *(utc(pl.col(c), schema[c]) for c in times),
    )
    if start_date is not None:
        rows = rows.filter(pl.col(timestamp_field) >= _aware(start_date))
    if end_date is not None:
        rows = rows.filter(pl.col(timestamp_field) <= _aware(end_date))
    found = rows.collect()
    return found if join_key_columns else found.with_columns(pl.lit("").alias("__dummy_id"))


def _aware(time: datetime) -> datetime:
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
