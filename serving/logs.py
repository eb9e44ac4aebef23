"""Logs as JSON lines without subscriber ids, positions, keys or tokens; writing blocks no request."""

import contextlib
import logging
import queue
import re
import sys
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener
from typing import Any, TextIO

import orjson

from lifecycle.pseudonym import redacted

REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
QUEUE = 10_000
_LAST_WORDS_S = 2.0
_LONGEST, _LONGEST_ID = 2_000, 256  # characters of a line, of an id or token
_MOST_LINES = 200
_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {
    "message",
    "asctime",
    "request_id",
    "taskName",
}
_SECRET_NAMES = re.compile(
    r"pass(word|wd)|secret|token|authori[sz]ation|api.?key|cookie|credential", re.IGNORECASE
)
_POSITION_NAMES = re.compile(r"(latitude|longitude|altitude|position)(_deg|_m)?$", re.IGNORECASE)
_SUBSCRIBER_NAMES = re.compile(r"(ue_?id|ue|imsi|supi|msisdn|gpsi|subscriber)$", re.IGNORECASE)
_SECRETS = re.compile(
    r"qosk_[\w-]+"  # a key
    r"|eyJ[\w-]*(?:\.[\w-]*){1,2}"  # a token
    r"|(?<=://)[^\s/@]+(?=@)"  # user and password of a URL
    r"|(?:(?<=Bearer )|(?<=Basic ))[^\s\"',]+",
    re.IGNORECASE,
)
_OURS = re.compile(  # what names no subscriber
    r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"  # a UUID
    r"|\bue-(?=[0-9]*[a-f])[0-9a-f]{20}\b"  # a pseudonym that bears a hex letter
    r"|(?<![\w.:-])(?:127(?:\.[0-9]{1,3}){3}|0\.0\.0\.0)(?![\w-]|\.[0-9])"  # this machine
)


def clean(text: str) -> str:
    """A text without what looks like a subscriber id, a position, a key, a token or a password.

    Of long texts the first _MOST_LINES lines and _LONGEST characters of each are left.
    """
    lines = text.splitlines()
    if len(lines) > _MOST_LINES:
        lines = [*lines[:_MOST_LINES], "…"]
    return "\n".join(map(_clean_line, lines))


def _clean_line(line: str) -> str:
    cut = len(line) > _LONGEST
    line = _SECRETS.sub("<secret>", line[:_LONGEST])
    kept = [*_OURS.findall(line), ""]
    parts = zip(_OURS.split(line), kept, strict=True)
    cleaned = "".join(redacted(part) + ours for part, ours in parts)
    return cleaned[:-_LONGEST_ID] + "…" if cut else cleaned  # an id may have been cut in two


def _cleaned(value: Any, depth: int = 0) -> Any:
    """The same of anything that is logged; numbers of ten digits or more are ids too."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) < 10**9 else clean(str(value))
    if isinstance(value, float):
        return value if abs(value) < 10**9 else clean(f"{value:.0f}")
    if isinstance(value, Mapping) and depth < 4:
        return {clean(str(k)): _named(str(k), v, depth + 1) for k, v in list(value.items())[:100]}
    if isinstance(value, list | tuple | set | frozenset) and depth < 4:
        return [_cleaned(one, depth + 1) for one in list(value)[:100]]
    return clean(str(value))


def _named(name: str, value: Any, depth: int = 0) -> Any:
    if _SECRET_NAMES.search(name):
        return "<secret>"
    if _POSITION_NAMES.search(name):
        return "<position>"
    if _SUBSCRIBER_NAMES.search(name) and not _OURS.fullmatch(str(value)):
        return "<subscriber id>"
    return _cleaned(value, depth)


class JsonLines(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, request_id, what `extra` gave, error."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        told: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": clean(record.getMessage()),
        }
        request_id = getattr(record, "request_id", None)
        if request_id is not None:
            told["request_id"] = request_id
        for name, value in vars(record).items():
            if name not in _PLAIN and name not in told:
                told[name] = _named(name, value)
        if record.exc_info:
            told["error"] = clean(self.formatException(record.exc_info))
        return orjson.dumps(told, default=str).decode()


class _Queued(QueueHandler):
    """Puts records into a bounded queue; counts those that do not fit."""

    def __init__(self, records: "queue.Queue[Any]", lost: Callable[[], None]) -> None:
        super().__init__(records)
        self._lost = lost

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        record.msg, record.args = record.getMessage(), None
        record.request_id = REQUEST_ID.get()
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self._lost()


class _Writer(QueueListener):
    """Ends within seconds even where the queue is full and its stream stuck."""

    def __init__(self, records: "queue.Queue[Any]", writer: logging.Handler) -> None:
        super().__init__(records, writer)
        self._records = records

    def enqueue_sentinel(self) -> None:
        with contextlib.suppress(queue.Full):
            self._records.put(None, timeout=_LAST_WORDS_S)  # None ends a listener

    def stop(self) -> None:
        if self._thread is not None:
            self.enqueue_sentinel()
            self._thread.join(_LAST_WORDS_S)
            self._thread = None


class Logs:
    """Where the root logger writes from `begin` to `end`; what was there before comes back."""

    def __init__(
        self, level: str = "info", stream: TextIO | None = None,
        lost: Callable[[], None] = lambda: None, most: int = QUEUE,
    ) -> None:  # fmt: skip
        """stream: standard error if None; lost: called for each line that did not fit the queue."""
        self._level = level.upper()
        writer = logging.StreamHandler(stream or sys.stderr)
        writer.setFormatter(JsonLines())
        records: queue.Queue[Any] = queue.Queue(most)
        self._handler = _Queued(records, lost)
        self._listener = _Writer(records, writer)
        self._before: tuple[list[logging.Handler], int] = ([], logging.WARNING)

    def begin(self) -> None:
        """Takes over the root logger and uvicorn's; its access log is left out."""
        root = logging.getLogger()
        self._before = (root.handlers[:], root.level)
        root.handlers[:] = [self._handler]
        root.setLevel(self._level)
        for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
            one = logging.getLogger(name)
            one.handlers.clear()
            one.propagate = name != "uvicorn.access"
        logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs whole URLs
        self._listener.start()

    def end(self) -> None:
        """Writes what is queued."""
        root = logging.getLogger()
        root.handlers[:], level = self._before[0], self._before[1]
        root.setLevel(level)
        self._listener.stop()
