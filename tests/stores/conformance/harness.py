"""One store behind `open` and `ask`, so that a case is written once for all of them."""

import contextlib
import io
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from feast import FeatureStore
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus
from feast.repo_config import RepoConfig
from feast.type_map import feast_value_type_to_python_type
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.stores.conformance.world import (
    US,
    Ask,
    Values,
    View,
    expected,
    references,
)  # fmt: skip

OURS = {"type": "stores.asof.AsofOfflineStore"}
BATCH_ENGINE = {"type": "stores.engine.BulkComputeEngine"}


class Harness:
    """An offline store. stock: it is Feast's own, and asked by name for what was known."""

    online = False

    def __init__(self, name: str, folder: Path, offline: Mapping[str, Any], *, stock: bool) -> None:
        self.name = name
        self.folder = folder
        self.offline = dict(offline)
        self.stock = stock

    def open(
        self, views: Sequence[View], *more: Any, folder: Path | None = None, **config: Any
    ) -> FeatureStore:
        """A repository of its own with these views applied and their tables written."""
        where = folder or self.folder / uuid.uuid4().hex
        where.mkdir(parents=True, exist_ok=True)
        store = FeatureStore(repo_path=str(where), config=self._config(where, config))
        for view in views:
            write(where, view)
        definitions = [view.feature_view(where) for view in views]
        entities = {entity.name: entity for view in views for entity in view.entities()}
        with quiet():
            store.apply([*entities.values(), *definitions, *more])
        return store

    def ask(
        self,
        views: Sequence[View],
        asks: Sequence[Ask],
        *,
        known: bool = True,
    ) -> Values:
        """The values of all features for each ask, in the asks' order; raises where rows are lost."""
        store = self.open(views, **self.offline_store(as_known_at=known))
        frame = entity_frame(views, asks)
        found = self.history(store, frame, references(views), known=known)
        by_number: dict[int, list[dict[str, Any]]] = {}
        for row in found.to_pylist():
            by_number.setdefault(row["n"], []).append(row)
        assert found.num_rows == len(asks), f"{found.num_rows:,} of {len(asks):,} rows"
        lost = [n for n in range(len(asks)) if len(by_number.get(n, ())) != 1]
        assert not lost, f"{len(lost):,} of {len(asks):,} rows lost or twice"
        names = [reference.split(":")[1] for reference in references(views)]
        return [tuple(by_number[n][0][name] for name in names) for n in range(len(asks))]

    def history(
        self,
        store: FeatureStore,
        frame: Any,
        features: Any,
        *,
        known: bool = True,
        full: bool = False,
        **more: Any,
    ) -> pa.Table:
        """What get_historical_features gives as Arrow."""
        if self.stock and known and _any_created(store):
            more["filter_by_created_timestamp"] = True
        with quiet():
            return store.get_historical_features(
                frame, features=features, full_feature_names=full, **more
            ).to_arrow()

    def check(self, views: Sequence[View], asks: Sequence[Ask], *, known: bool = True) -> Values:
        """Asks, and raises where the two loops say something else."""
        found = self.ask(views, asks, known=known)
        same(found, expected(views, asks, known=known))
        return found

    def offline_store(self, **settings: Any) -> dict[str, Any]:
        """The configuration with settings that stock stores do not have."""
        return {} if self.stock else {"offline_store": self.offline | settings}

    def _config(self, folder: Path, changes: Mapping[str, Any]) -> RepoConfig:
        return RepoConfig(
            **(
                {
                    "project": "p" + uuid.uuid4().hex,
                    "provider": "local",
                    "registry": str(folder / "registry.db"),
                    "offline_store": self.offline,
                    "online_store": self._online_store(folder),
                    "batch_engine": BATCH_ENGINE,
                    "entity_key_serialization_version": 3,
                    "repo_path": folder,
                }
                | dict(changes)
            )
        )

    def _online_store(self, folder: Path) -> dict[str, Any]:
        return {"type": "sqlite", "path": str(folder / "online.db")}


class OnlineHarness(Harness):
    """An online store, materialised from the as-of store as at each ask's time and then read."""

    online = True

    def __init__(self, name: str, folder: Path, online: Callable[[Path], dict[str, Any]]) -> None:
        super().__init__(name, folder, OURS, stock=False)
        self._make_online = online

    def ask(self, views: Sequence[View], asks: Sequence[Ask], *, known: bool = True) -> Values:
        """As the offline one; the sources hold at each time what was known then."""
        assert known, "an online store knows what there was when it was written"
        store = self.open(views)
        answers: Values = [()] * len(asks)
        for time in sorted({ask["at"] for ask in asks}):
            numbers = [n for n, ask in enumerate(asks) if ask["at"] == time]
            self.materialize_as_at(store, views, time)
            found = read_online(
                store,
                references(views),
                [{k: v for k, v in asks[n].items() if k != "at"} for n in numbers],
                time,
            )
            for number, values in zip(numbers, found, strict=True):
                answers[number] = values
        return answers

    def materialize_as_at(self, store: FeatureStore, views: Sequence[View], time: datetime) -> None:
        """Writes the sources as they were at a time, and materialises all of them up to it."""
        for view in views:
            write(Path(str(store.config.repo_path)), view.known_at(time))
        with quiet():
            store.materialize(_before(views, time), time)

    def _online_store(self, folder: Path) -> dict[str, Any]:
        return self._make_online(folder)


def read_online(
    store: FeatureStore,
    features: Any,
    rows: list[dict[str, Any]],
    now: datetime,
    *,
    names: Sequence[str] | None = None,
    **more: Any,
) -> Values:
    """Values of get_online_features at a time; what is not PRESENT must be null.

    names: the columns that are wanted, by default the features' short names.
    """
    set_clock(store, now)
    answer = store.get_online_features(features, entity_rows=rows, **more).proto
    given = list(answer.metadata.feature_names.val)
    columns = []
    for name in names or [feature.split(":")[1] for feature in features]:
        vector = answer.results[given.index(name)]
        values = [feast_value_type_to_python_type(value) for value in vector.values]
        for value, status in zip(values, vector.statuses, strict=True):
            assert status == FieldStatus.PRESENT or value is None, f"{name}: {value} with {status}"
        columns.append(values)
    return list(zip(*columns, strict=True))


def set_clock(store: FeatureStore, now: datetime) -> None:
    """Lets the online store count ages to this instant."""
    online: Any = store._get_provider().online_store
    online.clock = lambda config: now


def write(folder: Path, view: View) -> None:
    """The view's table to where its source is."""
    path = view.path_in(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    view.written(path, view.table)


def entity_frame(views: Sequence[View], asks: Sequence[Ask]) -> pd.DataFrame:
    """Join keys, event_timestamp and the row number `n`, typed as the sources are."""
    kinds = {v.feast_name(k): v.table.schema.field(k).type for v in views for k in v.keys}
    names = list(dict.fromkeys(name for ask in asks for name in ask if name != "at"))
    columns = {
        name: pa.array([ask.get(name) for ask in asks], kinds.get(name)) for name in names
    } | {
        "event_timestamp": pa.array([ask["at"] for ask in asks], US),
        "n": pa.array(range(len(asks)), pa.int64()),
    }
    frame: pd.DataFrame = pa.table(columns).to_pandas(
        types_mapper=lambda kind: pd.Int64Dtype() if _nullable(kind, columns) else None
    )
    return frame


def _nullable(kind: pa.DataType, columns: Mapping[str, pa.Array]) -> bool:
    return pa.types.is_int64(kind) and any(
        column.type == kind and column.null_count for column in columns.values()
    )


def same(found: Sequence[Any], wanted: Sequence[Any]) -> None:
    """Raises with how many rows differ and the first of them."""
    assert len(found) == len(wanted), f"{len(found):,} of {len(wanted):,} rows"
    differ = [n for n, (a, b) in enumerate(zip(found, wanted, strict=True)) if a != b]
    if differ:
        first = differ[0]
        raise AssertionError(
            f"{_short(found[first])} instead of {_short(wanted[first])} "
            f"({len(differ):,} of {len(wanted):,} rows)"
        )


def _short(values: Any) -> str:
    return str(values[0] if isinstance(values, tuple) and len(values) == 1 else values)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without Feast's progress."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def _any_created(store: FeatureStore) -> bool:
    sources = [view.batch_source for view in store.list_feature_views()]
    return any(source is not None and source.created_timestamp_column for source in sources)


def _before(views: Sequence[View], time: datetime) -> datetime:
    times = [row["event"] for view in views for row in view.rows() if row["event"] is not None]
    first: datetime = min([time, *times])
    return first - timedelta(days=1)


def forall(
    harness: Harness,
    strategy: st.SearchStrategy[Any],
    check: Callable[[Any], Any],
    examples: int = 15,
) -> None:
    """Runs a check over examples; always the same ones, and not shrunk for a stock store."""

    def holds(drawn: Any) -> None:
        check(drawn)

    phases = [Phase.generate] if harness.stock else [Phase.generate, Phase.shrink]
    settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=phases,
        suppress_health_check=list(HealthCheck),
    )(given(strategy)(holds))()


@contextlib.contextmanager
def refused(*names: str) -> Iterator[None]:
    """Raises where what is within does not raise an error that says all of these names."""
    try:
        yield
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        missing = [name for name in names if name not in said]
        assert not missing, f"the error does not name {missing}: {said.splitlines()[0]}"
    else:
        raise AssertionError(f"taken without an error about {', '.join(names)}")
