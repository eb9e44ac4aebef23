"""Pseudonyms of subscribers and coarse positions: what happens before anything is stored.

A subscriber id (IMSI/SUPI, MSISDN/GPSI, IP or MAC address) becomes `ue-` and 20 hex digits of a keyed
HMAC-SHA256; the key comes from $QOS_PSEUDONYM_KEY, else from `.qos/pseudonym.key`, made on first use.
`python -m lifecycle.pseudonym rotate` makes a new key: old and new pseudonyms cannot be joined.
"""

import hashlib
import hmac
import math
import os
import re
import secrets
import sys
from pathlib import Path

import polars as pl
import typer

from schemas.errors import QosError

KEY_FILE = Path(".qos/pseudonym.key")
KEY_VARIABLE = "QOS_PSEUDONYM_KEY"
MIN_KEY_BYTES = 16

_PREFIX = re.compile(r"^(imsi|supi|msisdn|gpsi|ue)[-:]", re.IGNORECASE)
_HEX = "[0-9A-Fa-f]"
_MAC = (
    rf"(?<![0-9A-Za-z])(?:{_HEX}{{2}}(?:[:-]{_HEX}{{2}}){{5}}|{_HEX}{{4}}(?:\.{_HEX}{{4}}){{2}}"
    rf"|{_HEX}{{12}})(?![0-9A-Za-z])"
)
_GROUPS = rf"{_HEX}{{1,4}}(?::{_HEX}{{1,4}})"
_IPV6 = (  # whole, or with ::, so that the time of day is none
    rf"(?<![0-9A-Za-z:])(?:{_GROUPS}{{7,}}|(?:{_GROUPS}*)?::(?:{_GROUPS}*)?)(?:(?:\.\d{{1,3}}){{3}})?"
)
_IPV4 = r"(?<![0-9.])(?:\d{1,3}\.){3}\d{1,3}(?!\.?[0-9])"
_NAI = r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"
_SPACED = r"\+\d{1,3}(?:[ ./-]?\(?\d{2,}\)?){2,}"
_NUMBER = r"(?:(?:imsi|supi|msisdn|gpsi)-|\+)?(?<![0-9])\d{10,}"
_IDENTIFIER = re.compile("|".join((_NAI, _MAC, _IPV6, _IPV4, _SPACED, _NUMBER)), re.IGNORECASE)
_FRACTION = re.compile(r"(?<![.\d])(\d+\.)(\d+)(?!\.?\d)")


def read_key() -> bytes:
    """The machine's key; makes one, readable by its owner only, and says so, if there is none.

    Raises `QosError` for a key that is too short.
    """
    given = os.environ.get(KEY_VARIABLE)
    if given is not None:
        return _long_enough(given.encode(), f"${KEY_VARIABLE}")
    if not KEY_FILE.exists():
        _write_key()
        print(
            f"made {KEY_FILE} (mode 600): the key of the pseudonyms; keep it, or set ${KEY_VARIABLE}",
            file=sys.stderr,
        )
    return _long_enough(KEY_FILE.read_bytes().strip(), str(KEY_FILE))


def _long_enough(key: bytes, where: str) -> bytes:
    if len(key) < MIN_KEY_BYTES:
        raise QosError(
            f"{where}: the key has {len(key)} bytes, at least {MIN_KEY_BYTES} are needed"
        )
    return key


def _write_key() -> None:
    KEY_FILE.parent.mkdir(parents=True, exist_ok=True)
    beside = KEY_FILE.with_name(f".{KEY_FILE.name}.{os.getpid()}.part")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(secrets.token_hex(32))
    beside.replace(KEY_FILE)


def pseudonym(subscriber: str, key: bytes) -> str:
    """`ue-` and 20 hex digits; equal for the spellings of one id (`imsi-…`, `+49…`, MAC with : - or .)."""
    plain = _PREFIX.sub("", subscriber.strip()).lstrip("+").lower()
    if re.fullmatch(_MAC, plain):
        plain = re.sub("[:.-]", "", plain)
    return "ue-" + hmac.new(key, plain.encode(), hashlib.sha256).hexdigest()[:20]


def scrub(text: str, key: bytes, decimals: int | None = None) -> str:
    """The text with everything that looks like a subscriber id replaced by its pseudonym.

    decimals: numbers are cut to so many, for any of them may be a position; None leaves them.
    """
    if decimals is not None:
        text = _FRACTION.sub(lambda found: found[1] + found[2][:decimals], text)
    return _IDENTIFIER.sub(lambda found: pseudonym(found[0], key), text)


def redacted(text: str) -> str:
    """The text of a message, with `<subscriber id>` for everything that looks like one."""
    return _IDENTIFIER.sub("<subscriber id>", _FRACTION.sub(lambda f: f[1] + f[2][:3], text))


def pseudonymised(table: pl.DataFrame, key: bytes, grid_deg: float) -> pl.DataFrame:
    """The table with pseudonyms for ue_id, free texts scrubbed and positions on the grid's middles."""
    decimals = max(0, math.floor(-math.log10(grid_deg) + 1e-9))
    changes: list[pl.Expr] = []
    if "ue_id" in table.columns:
        changes.append(_mapped(table["ue_id"], lambda value: pseudonym(value, key)))
    changes += [
        _mapped(table[name], lambda value: scrub(value, key))
        for name in ("session_id", "request_id", "source_file")
        if name in table.columns
    ]
    changes += [
        _mapped(table[name], lambda value: scrub(value, key, decimals))
        for name in ("source_text", "refusal")
        if name in table.columns
    ]
    return coarsened(table.with_columns(changes), grid_deg)


def coarsened(table: pl.DataFrame, grid_deg: float) -> pl.DataFrame:
    """The table with its positions on the grid's middles; one that is there stays."""
    return table.with_columns(
        _middle(name, grid_deg, limit)
        for name, limit in (("latitude_deg", 90.0), ("longitude_deg", 180.0))
        if name in table.columns
    )


def _middle(name: str, grid_deg: float, limit: float) -> pl.Expr:
    """The middle of the position's square; the last squares that lie within the limits hold the edge."""
    value = pl.col(name)
    middle = (value / grid_deg).floor() * grid_deg + grid_deg / 2
    over = (value <= limit) & (middle > limit)
    under = (value >= -limit) & (middle < -limit)
    inside = pl.when(over).then(middle - grid_deg).when(under).then(middle + grid_deg)
    return inside.otherwise(middle).round(9).alias(name)


def _mapped(column: pl.Series, change: "object") -> pl.Expr:
    values = column.drop_nulls().unique()
    new = [change(value) for value in values]  # type: ignore[operator]
    replaced = column.replace_strict(values, new, default=None, return_dtype=pl.String)
    return pl.lit(replaced).alias(column.name)


app = typer.Typer(help="The key of the pseudonyms.", add_completion=False)


@app.command()
def rotate() -> None:
    """Makes a new key; run `dvc repro --force collect` afterwards, for old pseudonyms no longer match."""
    if KEY_VARIABLE in os.environ:
        sys.exit(f"the key comes from ${KEY_VARIABLE}: rotate it where it is set")
    _write_key()
    print(
        f"new key in {KEY_FILE}; what is stored bears the old pseudonyms: "
        "`dvc repro --force collect` and then `make run` make everything anew"
    )


@app.command()
def show_path() -> None:
    """Prints where the key comes from, never the key."""
    print(f"${KEY_VARIABLE}" if KEY_VARIABLE in os.environ else str(KEY_FILE))


if __name__ == "__main__":
    app()
