"""Engines: Feast plug-ins for offline and online stores.

May import feast, polars, duckdb, redis; nothing of ours.
"""

from typing import Any

import typeguard

_checked = typeguard.typechecked


def _checked_but_feast(target: Any = None, **options: Any) -> Any:
    """Feast's classes as they are: to compile them a second time is most of what its import takes.

    What is lost are Feast's checks of its own arguments' types, as under `python -O`.
    """
    if getattr(target, "__module__", "").partition(".")[0] == "feast":
        return target
    return _checked(target, **options)


typeguard.typechecked = _checked_but_feast
