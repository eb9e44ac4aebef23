"""A budget of time: what comes in time is taken, however late the loop looks; what does not, is not."""

import asyncio
import socket
import threading
import time

import pytest

from serving.budget import within


async def answered(seconds: float, hold_s: float, budget_s: float) -> bytes:
    """What a peer says after `seconds`, in a loop that is held up for `hold_s` first."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    speaker = threading.Timer(seconds, theirs.sendall, (b"x",))
    speaker.start()
    loop = asyncio.get_running_loop()
    loop.call_later(0.01, time.sleep, hold_s)
    try:
        return await within(budget_s, loop.sock_recv(ours, 1))
    finally:
        speaker.join()
        ours.close()
        theirs.close()


def test_what_came_while_the_loop_was_held_up_is_taken() -> None:
    assert asyncio.run(answered(0.05, hold_s=0.5, budget_s=0.2)) == b"x"


def test_what_comes_too_late_is_not() -> None:
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        asyncio.run(answered(0.6, hold_s=0.0, budget_s=0.1))
    assert time.monotonic() - began >= 0.1


def test_a_fault_is_a_fault_and_no_timer_stays() -> None:
    async def fails() -> None:
        raise OSError("away")

    async def tried() -> None:
        with pytest.raises(OSError, match="away"):
            await within(0.01, fails())
        await asyncio.sleep(0.05)  # a timer that stayed would cancel this

    asyncio.run(tried())
