"""A thread's work is done once: in the loop while that runs, in the thread where it does not."""

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from serving.in_loop import Do, in_loop


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Runs in a thread of its own, named `loop`."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="loop")
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def where() -> str:
    return threading.current_thread().name


def test_the_loop_does_it(loop: asyncio.AbstractEventLoop) -> None:
    assert in_loop(loop)(where) == "loop"


def test_in_the_loops_own_thread_it_is_done_at_once(loop: asyncio.AbstractEventLoop) -> None:
    async def within() -> str:
        return in_loop(loop)(where)

    assert asyncio.run_coroutine_threadsafe(within(), loop).result(5) == "loop"


@pytest.mark.parametrize("kind", [ValueError, TimeoutError])
def test_what_it_raises_comes_back(loop: asyncio.AbstractEventLoop, kind: type[Exception]) -> None:
    times = []

    def broken() -> None:
        times.append(where())
        raise kind("no")

    with pytest.raises(kind, match="no"):
        in_loop(loop)(broken)
    assert times == ["loop"]


def test_a_loop_that_is_held_up_leaves_it_to_the_thread(loop: asyncio.AbstractEventLoop) -> None:
    free, times = threading.Event(), []

    def once() -> str:
        times.append(where())
        return where()

    loop.call_soon_threadsafe(free.wait, 10)
    begun = time.monotonic()
    assert in_loop(loop)(once) == where()
    assert 0.4 < time.monotonic() - begun < 5
    free.set()
    assert in_loop(loop)(where) == "loop"  # after what waited in it
    assert times == [where()]


def test_work_that_takes_long_in_the_loop_is_waited_for(loop: asyncio.AbstractEventLoop) -> None:
    def slow() -> str:
        time.sleep(0.8)
        return where()

    assert in_loop(loop)(slow) == "loop"


def test_a_loop_that_has_ended_leaves_it_to_the_thread() -> None:
    loop = asyncio.new_event_loop()
    do: Do = in_loop(loop)
    loop.close()
    assert do(where) == where()
