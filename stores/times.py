"""What both online stores say of a row's times: which of two rows is newer, and which is too old.

Stock Feast 0.67 answers with a row of any age and calls an absent entity of Redis present. Here a
missing row is NOT_FOUND, and a row older than its view's ttl is OUTSIDE_MAX_AGE with a null value and
its event time beside it. Stock SQLite lets an older row overwrite a newer one, stock Redis never takes
a correction of equal event time. Here the later event wins, of equal ones the later created.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from feast import RepoConfig
from feast.infra.registry.base_registry import BaseRegistry
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from google.protobuf.timestamp_pb2 import Timestamp

from stores.request import check_request

AgeFrom = Literal["now", "newest"]
Row = tuple[EntityKey, dict[str, Value], datetime, datetime | None]  # as Feast hands rows over
Order = tuple[int, int]  # event and created time in microseconds: the greater one wins

BEYOND = -(2**62)  # created time, in an order, of a row that has none

_NULL = Value()
_ABSENT = Timestamp()


def newest(
    data: Iterable[Row], key_of: Callable[[EntityKey], bytes]
) -> dict[bytes, tuple[Order, Row]]:
    """Key to order and row: of several rows of one key the newest, of equal ones the last.

    A row with a null in its key can never be asked for, and is left out. Feast hands a missing
    created time over as None or as NaT, which equals nothing; here it is None.
    """
    rows: dict[bytes, tuple[Order, Row]] = {}
    for row in data:
        if any(part.WhichOneof("val") is None for part in row[0].entity_values):
            continue
        if row[3] != row[3]:
            row = (*row[:3], None)
        order = (micros(row[2]), BEYOND if row[3] is None else micros(row[3]))
        key = key_of(row[0])
        if key not in rows or order >= rows[key][0]:
            rows[key] = (order, row)
    return rows


def refuse_aged(
    response: Any, start: int, grouped_refs: Sequence[tuple[Any, Sequence[str]]], now: datetime
) -> None:
    """Gives the vectors that Feast appended from `start` on the status that their age asks for.

    grouped_refs: (view, features) in the order of the vectors, as Feast holds them after its read.
    now: the instant that ages are counted to.
    """
    place = start
    for view, features in grouped_refs:
        oldest = _oldest(getattr(view, "ttl", None), now)
        for vector in response.results[place : place + len(features)]:
            for row, time in enumerate(vector.event_timestamps):
                if time == _ABSENT:
                    _set(vector, row, FieldStatus.NOT_FOUND)
                elif oldest is not None and _micros(time) < oldest:
                    _set(vector, row, FieldStatus.OUTSIDE_MAX_AGE)
        place += len(features)


class AgedReads:
    """What both stores add to Feast's reads; stands before Feast's store among the bases."""

    def newest_us(self, config: RepoConfig) -> int | None:
        """Time of the newest row written by this project, in microseconds."""
        raise NotImplementedError

    def clock(self, config: RepoConfig) -> datetime:
        """The instant that ages count to."""
        newest_us = None if config.online_store.age_from == "now" else self.newest_us(config)
        return datetime.now(UTC) if newest_us is None else from_micros(newest_us)

    def get_online_features(
        self, config: RepoConfig, features: Any, entity_rows: Any, registry: BaseRegistry,
        project: str, full_feature_names: bool = False, *rest: Any, **more: Any,
    ) -> Any:  # fmt: skip
        """Feast's answer; raises `ValueError` for a key that is null or of another type."""
        check_request(entity_rows, features, registry, project, full_feature_names)
        return super().get_online_features(  # type: ignore[misc]
            config, features, entity_rows, registry, project, full_feature_names, *rest, **more
        )

    async def get_online_features_async(
        self, config: RepoConfig, features: Any, entity_rows: Any, registry: BaseRegistry,
        project: str, full_feature_names: bool = False, *rest: Any, **more: Any,
    ) -> Any:  # fmt: skip
        """As `get_online_features`."""
        check_request(entity_rows, features, registry, project, full_feature_names)
        return await super().get_online_features_async(  # type: ignore[misc]
            config, features, entity_rows, registry, project, full_feature_names, *rest, **more
        )

    def _read_features_per_fv(
        self, config: RepoConfig, grouped_refs: list[Any], *rest: Any, **named: Any
    ) -> None:
        response, start = _appended_to(rest, named)
        super()._read_features_per_fv(config, grouped_refs, *rest, **named)  # type: ignore[misc]
        self._refuse(config, grouped_refs, response, start)

    async def _read_features_per_fv_async(
        self, config: RepoConfig, grouped_refs: list[Any], *rest: Any, **named: Any
    ) -> None:
        response, start = _appended_to(rest, named)
        await super()._read_features_per_fv_async(config, grouped_refs, *rest, **named)  # type: ignore[misc]
        self._refuse(config, grouped_refs, response, start)

    def _refuse(
        self, config: RepoConfig, grouped_refs: list[Any], response: Any, start: int
    ) -> None:
        if config.online_store.enforce_ttl:
            refuse_aged(response, start, grouped_refs, self.clock(config))


def _appended_to(rest: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, int]:
    """The response that Feast is about to fill, and how many vectors it has yet."""
    response = rest[2] if len(rest) > 2 else named["online_features_response"]
    return response, len(response.results)


def micros(time: datetime) -> int:
    """Microseconds since 1970 of a time; a naive one is UTC."""
    aware = time.replace(tzinfo=UTC) if time.tzinfo is None else time
    return (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def from_micros(value: int) -> datetime:
    """The UTC time of microseconds since 1970."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=value)


def _oldest(ttl: timedelta | None, now: datetime) -> int | None:
    return micros(now - ttl) if ttl else None


def _micros(time: Timestamp) -> int:
    return int(time.seconds * 1_000_000 + time.nanos // 1000)


def _set(vector: Any, row: int, status: int) -> None:
    vector.statuses[row] = status
    vector.values[row].CopyFrom(_NULL)
