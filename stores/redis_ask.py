"""What asks the Redis of an online store configuration: one server, a sentinel's master, a cluster."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from feast.infra.online_stores.redis import RedisOnlineStore, RedisType
from redis import exceptions

from stores.redis_async import AsyncLines
from stores.redis_lines import Lines
from stores.redis_server import FAULTS, Group, Limits, Rows, Server, Tries, dealt

_CLIENT_FAULTS = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.ClusterError,
    exceptions.RedisClusterException,
)


class Asking(Protocol):
    """What asks a Redis: rows of each group of keys, and the clock's value if it was asked for.

    reads_whole: whether it takes groups of whole hashes.
    """

    reads_whole: bool

    def fetch(self, groups: Sequence[Group], clock: bytes | None) -> tuple[list[Rows], Any]: ...

    async def fetch_async(
        self, groups: Sequence[Group], clock: bytes | None
    ) -> tuple[list[Rows], Any]: ...

    def close(self) -> None: ...

    async def close_async(self) -> None: ...


class ServerAsking:
    """Asks one server over plain sockets, in threads and in event loops."""

    reads_whole = True

    def __init__(self, server: Callable[[], Server], name: str, limits: Limits):
        self._lines = Lines(server, name, limits)
        self._async_lines = AsyncLines(server, name, limits)
        self.fetch, self.fetch_async = self._lines.fetch, self._async_lines.fetch

    def close(self) -> None:
        """Closes the idle connections of threads."""
        self._lines.close()

    async def close_async(self) -> None:
        """Closes the idle connections of threads and of the running event loop."""
        self._lines.close()
        await self._async_lines.close()


class ClusterAsking:
    """Asks a Redis Cluster through redis-py's client, which knows where each key is."""

    reads_whole = False

    def __init__(
        self, nodes: Sequence[dict[str, Any]], settings: dict[str, Any], name: str, limits: Limits
    ):
        self.nodes, self.name, self.limits = nodes, name, limits
        timeouts = {"socket_timeout": limits.read_s, "socket_connect_timeout": limits.connect_s}
        self.settings = timeouts | settings
        self._client: Any = None

    def fetch(self, groups: Sequence[Group], clock: bytes | None) -> tuple[list[Rows], Any]:
        """One pipeline over the nodes. Raises OnlineStoreAway, OnlineStoreRefuses."""
        tries = Tries(self.name, self.limits)
        while True:
            try:
                pipe = self._connected().pipeline(transaction=False)
                if clock is not None:
                    pipe.get(clock)
                for group in groups:
                    for key in group.keys:
                        pipe.hmget(key, list(group.fields))
                answers = pipe.execute(raise_on_error=False)
                for answer in answers:
                    if isinstance(answer, _CLIENT_FAULTS):
                        raise answer
                return dealt(answers, groups, clock)
            except (*FAULTS, *_CLIENT_FAULTS) as why:
                time.sleep(tries.pause(why))

    async def fetch_async(
        self, groups: Sequence[Group], clock: bytes | None
    ) -> tuple[list[Rows], Any]:
        """As `fetch`, in a thread."""
        return await asyncio.to_thread(self.fetch, groups, clock)

    def close(self) -> None:
        """Closes the client; the next read opens another."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    async def close_async(self) -> None:
        """As `close`."""
        self.close()

    def _connected(self) -> Any:
        if self._client is None:
            from redis.cluster import ClusterNode, RedisCluster

            node_of: Any = ClusterNode

            nodes = [node_of(node["host"], int(node["port"])) for node in self.nodes]
            self._client = RedisCluster(startup_nodes=nodes, **self.settings)
        return self._client


def asking(config: Any, limits: Limits) -> Asking:
    """What asks the Redis of this online store configuration."""
    nodes, settings = RedisOnlineStore._parse_connection_string(config.connection_string)
    names = ",".join(f"{node['host']}:{node['port']}" for node in nodes)
    if config.redis_type == RedisType.redis_cluster:
        return ClusterAsking(nodes, settings, names, limits)
    tls = tuple(sorted((k, v) for k, v in settings.items() if k.startswith("ssl_")))

    def server_at(host: str, port: int) -> Server:
        text = {key: str(settings[key]) for key in ("username", "password") if key in settings}
        return Server(
            host=host,
            port=port,
            db=int(settings.get("db", 0)),
            tls=tls if settings.get("ssl") else None,
            **text,
        )

    if config.redis_type == RedisType.redis_sentinel:
        from redis.sentinel import Sentinel

        sentinel_of: Any = Sentinel

        places = [(node["host"], int(node["port"])) for node in nodes]

        def master() -> Server:
            sentinel = sentinel_of(places, socket_timeout=limits.connect_s)
            try:
                return server_at(*sentinel.discover_master(config.sentinel_master))
            except exceptions.RedisError as why:
                raise ConnectionError(f"no sentinel names a master: {why}") from None

        return ServerAsking(master, f"{config.sentinel_master} of {names}", limits)
    server = server_at(nodes[0]["host"], int(nodes[0]["port"]))
    return ServerAsking(lambda: server, server.name, limits)
