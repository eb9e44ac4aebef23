"""The five stores that the cases are run over, and a real Redis for one of them."""

from pathlib import Path

from tests.stores.conformance.harness import OURS, Harness, OnlineHarness

STORES = ("asof", "sqlite", "redis", "duckdb", "dask")
STOCK = ("duckdb", "dask")


def harness(name: str, folder: Path, redis_address: str = "") -> Harness:
    """The store of this name, working below a folder; redis_address: host:port, for "redis"."""
    if name == "asof":
        return Harness(name, folder, OURS, stock=False)
    if name == "sqlite":
        kind = "stores.sqlite.BulkSqliteOnlineStore"
        return OnlineHarness(name, folder, lambda w: {"type": kind, "path": str(w / "online.db")})
    if name == "redis":
        kind = "stores.redis.BulkRedisOnlineStore"
        return OnlineHarness(
            name, folder, lambda w: {"type": kind, "connection_string": redis_address}
        )
    if name in STOCK:
        return Harness(name, folder, {"type": name}, stock=True)
    raise ValueError(f"no store {name!r}; there are {STORES}")
