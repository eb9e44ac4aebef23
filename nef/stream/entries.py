"""One entry of the stream: rows of one or several tables that became known together, as JSON.

A row is an object of its table's columns; times are integers, microseconds since 1970 (UTC).
Subscriber ids are pseudonyms before they come here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

Row = dict[str, Any]

_CLOCKS_DIFFER_US = 5_000_000
_LARGEST = 2**53
_LONGEST_NAME = 200


class EntryError(ValueError):
    """An entry that is none of ours: says what is wrong with it."""


@dataclass(frozen=True)
class Entry:
    """producer: one run of one producer, number: 0, 1, ... of its entries.

    through: the producer's promise in microseconds: whatever it sends later arrives later. None: it
    promises nothing yet. last: it sends nothing more. id: the stream's, time_ms: the server's time then.
    """

    id: str
    producer: str
    number: int
    through: int | None
    tables: Mapping[str, list[Row]]
    last: bool = False

    @property
    def latest_us(self) -> int:
        """No row of the entry can have arrived later, clocks being as different as they are."""
        return self.time_ms * 1000 + _CLOCKS_DIFFER_US

    @property
    def time_ms(self) -> int:
        """Server time of the entry in milliseconds."""
        return int(self.id.split("-")[0])


def encode(
    producer: str, number: int, through: int | None, tables: Mapping[str, list[Row]], *, last: bool
) -> bytes:
    """The one field of an entry. Raises `EntryError` for values that JSON has not."""
    try:
        return orjson.dumps(
            {"from": producer, "n": number, "through": through, "last": last, "rows": tables},
            option=orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_SERIALIZE_NUMPY,
        )
    except (TypeError, orjson.JSONEncodeError) as error:
        raise EntryError(f"rows: {error}; times are integers, microseconds since 1970") from None


def decode(identity: str, field: bytes | None) -> Entry:
    """The entry of a stream's field. Raises `EntryError` where it is not one of `encode`."""
    if field is None:
        raise EntryError("entry: has no field `entry`")
    try:
        content = orjson.loads(field)
    except orjson.JSONDecodeError as error:
        raise EntryError(f"entry: no JSON ({error})") from None
    if not isinstance(content, dict):
        raise EntryError(f"entry: a {type(content).__name__}, where an object is expected")
    kinds = {"from": str, "n": int, "through": int | None, "rows": dict}
    for name, kind in kinds.items():
        value = content.get(name)
        if name not in content or not isinstance(value, kind) or isinstance(value, bool):
            raise EntryError(f"entry.{name}: {_short(value)} is no {kind}")
    if not 0 <= content["n"] < _LARGEST:
        raise EntryError(f"entry.n: {content['n']}, where 0 to {_LARGEST - 1} is allowed")
    if content["through"] is not None and abs(content["through"]) >= _LARGEST:
        raise EntryError(f"entry.through: {content['through']}, no time in microseconds")
    if not 0 < len(content["from"]) <= _LONGEST_NAME:
        raise EntryError(f"entry.from: a name has 1 to {_LONGEST_NAME} characters")
    for table, rows in content["rows"].items():
        if not isinstance(rows, list) or not {dict}.issuperset(map(type, rows)):
            raise EntryError(f"entry.rows.{table}: no list of objects")
    return Entry(
        identity, content["from"], content["n"], content["through"], content["rows"],
        bool(content.get("last")),
    )  # fmt: skip


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
