"""Many commands to Redis at once: one buffer out, the replies in.

A command is EVALSHA of a script of one key. Its bytes are laid a column at a time, so that no row costs
a Python object.
"""

import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import hiredis
import numpy as np
import pyarrow as pa
from redis.exceptions import ResponseError

from stores.encode import by_length, join

# Writes a row of one view where it is newer than the stored one, or where that is as new and lacks a
# field (a feature came to the view): 1, or 0 and nothing is written.
# KEYS: the entity; ARGV: event time, created time, then the value of each field.
_NEWER = """
local call, key = redis.call, KEYS[1]
local stored = call('HGET', key, {event})
if stored then
  local function time(text)
    local at, parts = 1, {{0, 0}}
    while at <= #text do
      local part, sum, rest, scale, bytes, byte = text:byte(at) / 8, 0, 0, 1, 0, 0
      repeat
        at, bytes = at + 1, bytes + 1
        byte = text:byte(at)
        local seven = byte % 128
        sum = sum + seven * scale
        if bytes < 10 then rest = rest + (127 - seven) * scale end
        scale = scale * 128
      until byte < 128
      at = at + 1
      parts[part] = bytes == 10 and -rest - 1 or sum
    end
    return parts[1], parts[2]
  end
  local function created(text)
    if not text then return -1073741824, 0 end
    local low, high = struct.unpack('<I4i4', text)
    return high, low
  end
  local a, b = 0, 0
  local c, d = 0, 0
  if stored ~= ARGV[1] then
    a, b = time(ARGV[1])
    c, d = time(stored)
  end
  if a == c and b == d then
    a, b = created(ARGV[2])
    c, d = created(call('HGET', key, {created}))
  end
  if a < c or (a == c and b < d) then return 0 end
  if a == c and b == d then
    local lacks = false
    local function look(held)
      for _, value in ipairs(held) do lacks = lacks or not value end
    end
    {looks}
    if not lacks then return 0 end
  end
end
{writes}
return 1
"""
# Keeps the greater number.
LATER = """
local stored = redis.call('GET', KEYS[1])
if not stored or tonumber(stored) < tonumber(ARGV[1]) then redis.call('SET', KEYS[1], ARGV[1]) end
return 0
"""
_FIELDS_A_CALL = 100  # a call in Lua takes at most some 250 values
_PIECE = 1 << 18
_PATIENCE_S = 60.0


@dataclass(frozen=True)
class Commands:
    """A script for each row: its key and its arguments by column. counted: its answers are rows."""

    script: str
    keys: pa.BinaryArray
    cells: Sequence[pa.BinaryArray]
    counted: bool = True

    @cached_property
    def sha(self) -> str:
        """What Redis calls the script."""
        return hashlib.sha1(self.script.encode()).hexdigest()

    @property
    def columns(self) -> list[pa.BinaryArray]:
        """The keys, then the arguments."""
        return [self.keys, *self.cells]


@dataclass
class Done:
    """rows: answered by the server; written: of them, those that it took."""

    rows: int = 0
    written: int = 0


def newer_script(fields: Sequence[bytes], expire_s: int | None) -> str:
    """The script that writes a row with these fields, the first two its event and created times."""
    literals = [_literal(field) for field in fields]
    writes, looks = [], []
    for start in range(0, len(fields), _FIELDS_A_CALL):
        some = literals[start : start + _FIELDS_A_CALL]
        pairs = ", ".join(f"{name}, ARGV[{place}]" for place, name in enumerate(some, start + 1))
        writes.append(f"call('HSET', key, {pairs})")
        looks.append(f"look(call('HMGET', key, {', '.join(some)}))")
    if expire_s:
        writes.append(f"call('EXPIRE', key, {expire_s})")
    return _NEWER.format(
        event=literals[0], created=literals[1], looks="\n".join(looks), writes="\n".join(writes)
    )


def evalsha(sha: str, keys: pa.BinaryArray, arguments: Sequence[pa.BinaryArray]) -> pa.BinaryArray:
    """One EVALSHA a row, in the wire's form."""
    opening = b"*%d\r\n$7\r\nEVALSHA\r\n$40\r\n%s\r\n$1\r\n1" % (
        len(arguments) + 4,
        sha.encode(),
    )
    parts: list[Any] = [pa.scalar(opening)]
    for cells in (keys, *arguments):
        parts += [by_length(cells, lambda size: b"\r\n$%d\r\n" % size), cells]
    return join([*parts, pa.scalar(b"\r\n")])


_WORTH_A_THREAD = 1_000  # rows; fewer are sent before another thread has begun


def by_stream(client: Any, commands: Iterable[Commands], done: Done) -> None:
    """Sends to one server, making the next commands while it works on the last.

    Raises RedisError or OSError where one of them was refused or its answer did not come.
    """
    connection = client.connection_pool.get_connection()
    loaded: set[str] = set()
    sent: Future[None] | None = None
    try:
        with ThreadPoolExecutor(1) as sender:
            for command in commands:
                wire = evalsha(command.sha, command.keys, command.cells)
                if sent:
                    sent.result()
                    sent = None
                if len(command.keys) < _WORTH_A_THREAD:
                    _send(connection, command, wire, loaded, done)
                else:
                    sent = sender.submit(_send, connection, command, wire, loaded, done)
            if sent:
                sent.result()
    except BaseException:
        connection.disconnect()
        raise
    finally:
        client.connection_pool.release(connection)


def by_pipeline(client: Any, commands: Iterable[Commands], done: Done) -> None:
    """The same to a cluster, whose client knows which server has a key."""
    loaded: set[str] = set()
    for command in commands:
        if command.sha not in loaded:
            client.script_load(command.script)
            loaded.add(command.sha)
        pipe = client.pipeline()
        for key, *cells in zip(*(column.to_pylist() for column in command.columns), strict=True):
            pipe.execute_command("EVALSHA", command.sha, 1, key, *cells)
        _count(command, pipe.execute(raise_on_error=False), done)


def _send(
    connection: Any, command: Commands, wire: pa.BinaryArray, loaded: set[str], done: Done
) -> None:
    if command.sha not in loaded:
        connection.send_command("SCRIPT", "LOAD", command.script)
        connection.read_response()
        loaded.add(command.sha)
    replies: list[Any] = []
    try:
        _exchange(connection, wire, replies)
    finally:
        _count(command, replies, done)


def _count(command: Commands, replies: Sequence[Any], done: Done) -> None:
    """Takes the answers into account; raises the first refusal."""
    refused = [reply for reply in replies if isinstance(reply, Exception)]
    if command.counted:
        done.rows += len(replies) - len(refused)
        done.written += sum(reply for reply in replies if isinstance(reply, int))
    if refused:
        raise ResponseError(f"{len(refused)} refused; first {refused[0]}")


def _exchange(connection: Any, commands: pa.BinaryArray, replies: list[Any]) -> None:
    """Sends the commands and puts a reply of each into `replies`; a refusal is a reply.

    Raises OSError where the server goes away, or takes longer than the connection's timeout, 60 s where
    it has none.
    """
    socket = connection._sock
    timeout = socket.gettimeout()
    socket.settimeout(_PATIENCE_S if timeout is None else timeout)
    ends = np.frombuffer(commands.buffers()[1], np.int32)[: len(commands) + 1]
    data = memoryview(commands.buffers()[2])[: ends[-1]]
    for start in range(0, len(data), _PIECE):
        socket.sendall(data[start : start + _PIECE])
    reader = hiredis.Reader()
    while len(replies) < len(commands):
        received = socket.recv(1 << 16)
        if not received:
            raise ConnectionResetError("the server closed the connection")
        reader.feed(received)
        while (reply := reader.gets()) is not False:
            replies.append(reply)
    socket.settimeout(timeout)


def _literal(text: bytes) -> str:
    return '"' + "".join(f"\\{byte:03d}" for byte in text) + '"'
