"""JSON from outside, bounded in depth, so that nothing later runs out of stack."""

from typing import Any

import orjson

MAX_DEPTH = 32


class NotJson(ValueError):
    """The text is no JSON that can be used; says why in a few words, without the text."""


def read_json(body: bytes) -> Any:
    """The content; raises `NotJson` for other text, NaN and infinity included, and where it is nested
    deeper than `MAX_DEPTH`."""
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise NotJson(f"not JSON at character {error.pos}") from None
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH and _too_deep(content):
        raise NotJson(f"nested deeper than {MAX_DEPTH}")
    return content


def _too_deep(content: Any) -> bool:
    level = [content]
    for _ in range(MAX_DEPTH + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return bool(level)
