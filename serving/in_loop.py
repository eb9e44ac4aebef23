"""Work of a thread that is done in the event loop, a little at a time.

Two threads that both run Python wait for each other at every call into the system: beside a busy thread a
request takes many times its time. What the loop does itself in short turns delays it by these alone.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol, TypeVar

T = TypeVar("T")
_PATIENCE_S = 0.5  # then a loop is held up, and the thread does the work itself


class Do(Protocol):
    """Does a piece of work and returns what it returns, or raises what it raises."""

    def __call__(self, work: Callable[[], T]) -> T:
        """Blocks until it is done."""
        ...


def here(work: Callable[[], T]) -> T:
    """In the calling thread."""
    return work()


def in_loop(loop: asyncio.AbstractEventLoop) -> Do:
    """In the loop; in the calling thread where the loop has ended, is that thread's own or is held up."""

    def do(work: Callable[[], T]) -> T:
        if _running() is loop:
            return work()
        claim, done = threading.Lock(), Future[T]()

        def there() -> None:
            if claim.acquire(blocking=False):
                try:
                    done.set_result(work())
                except BaseException as error:
                    done.set_exception(error)

        try:
            loop.call_soon_threadsafe(there)
        except RuntimeError:
            return work()
        try:
            return done.result(_PATIENCE_S)
        except TimeoutError:
            return work() if claim.acquire(blocking=False) else done.result()

    return do


def _running() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
