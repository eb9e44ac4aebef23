"""Looks after the feature store while its breaker is open, so that no request has to."""

import asyncio
import logging
from typing import Any

from serving.breakers import Breakers
from serving.budget import within
from serving.live import Live
from serving.state import Service
from stores.answer import Answer

STORE = "store"
_LOOK_S = 0.05
_MOST_CELLS = 16  # of those that training saw, whose features are read
log = logging.getLogger(__name__)


async def read_sample(live: Live) -> Answer:
    """The features of some cells that training saw, and of nobody; raises what the reader does."""
    cells = list(live.cells[:_MOST_CELLS]) or ["-"]
    known: dict[str, list[Any]] = {"cell_id": cells, "five_qi": [9] * len(cells)}
    nobody = ["-"] * len(cells)
    return await live.reader.read_async({n: known.get(n, nobody) for n in live.reader.plan.asked})


async def watch_store(service: Service, breakers: Breakers) -> None:
    """Closes the store's breaker when it answers again; goes on until it is cancelled."""
    while True:
        await asyncio.sleep(_LOOK_S)
        if not breakers.probe_due(STORE):
            continue
        try:
            await within(service.settings.store_s, read_sample(service.live))
        except Exception as error:  # whatever it is, the store gave no features
            log.info("the store is still away: %s", type(error).__name__)
            breakers.failed(STORE)
        else:
            log.info("the store is back")
            breakers.succeeded(STORE)
