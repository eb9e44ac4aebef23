"""Waits for a server that is away, for so long and no longer."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from redis.exceptions import ConnectionError as NoConnectionError
from redis.exceptions import RedisError, TimeoutError

from stores.errors import StoreError

T = TypeVar("T")

_FIRST_S, _LONGEST_S = 0.05, 2.0
_AWAY = (
    NoConnectionError,
    TimeoutError,
    OSError,
)  # a server that loads its data is a ConnectionError


@dataclass
class Patience:
    """seconds: an outage that lasts longer is raised; failed: called at each failed try; stopped: asked
    between tries, as nobody shall wait for a server in order to end."""

    seconds: float = 60.0
    failed: Callable[[], None] = lambda: None
    stopped: Callable[[], bool] = lambda: False

    def call(self, work: Callable[[], T]) -> T:
        """What the work returns, which is tried again while a server is away.

        Raises what it raised: at once what is no outage, else after `seconds`, or when stopped.
        """
        began, pause = time.monotonic(), _FIRST_S
        said = False
        while True:
            try:
                found = work()
            except (RedisError, OSError, StoreError) as error:
                if not away(error):
                    raise
                self.failed()
                waited = time.monotonic() - began
                if waited + pause > self.seconds or self.stopped():
                    raise
                if not said:
                    _say(f"no server, trying for {self.seconds:g} s: {_text(error)}")
                    said = True
            else:
                if said:
                    _say(f"the server is back after {time.monotonic() - began:.1f} s")
                return found
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_S)


def away(error: BaseException) -> bool:
    """The server did not answer, now or yet; else it answered, and trying again is no use."""
    if isinstance(error, StoreError):
        return error.__cause__ is not None and away(error.__cause__)
    return isinstance(error, _AWAY)


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
