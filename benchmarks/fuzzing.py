"""Payloads of known worth, and the command that counts what became of them."""

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.results_file import RESULTS, write_result

GOOD, BAD, NOISE = "good", "bad", "noise"
Draw = random.Random
Body = dict[str, Any]
Spoil = Callable[[Draw, Body], Any]
Kinds = Mapping[str, tuple[Callable[[Draw], Body], list[Spoil]]]


def command(name: str, fuzz: Callable[[int, int], dict[str, Any]]) -> Callable[..., None]:
    """The command that runs `fuzz(payloads, seed)` and writes `<name>.json`."""

    def main(
        payloads: Annotated[int, typer.Option(help="how many")] = 100_000,
        seed: Annotated[int, typer.Option(help="equal seeds give equal payloads")] = 0,
        out: Annotated[Path, typer.Option(help="folder of the result")] = RESULTS,
    ) -> None:
        """Counts crashes, answers of 500 and more, refusals, and what was judged wrongly."""
        result = fuzz(payloads, seed)
        print(json.dumps(result))
        write_result(name, result, out)

    return main


def made(
    draw: Draw, kinds: Kinds, weights: Mapping[str, int] | None = None
) -> Iterator[tuple[str, str, bytes]]:
    """(kind, worth, body) without end: good ones a third, bad ones a half, noise the rest.

    A kind that nothing spoils is never bad. weights: of kinds, default 1.
    """
    names = list(kinds)
    share = None if weights is None else [weights.get(name, 1) for name in names]
    while True:
        kind = draw.choice(names) if share is None else draw.choices(names, share)[0]
        good, spoils = kinds[kind]
        content: Any = good(draw)
        worth = draw.choices((GOOD, BAD, NOISE), (2, 3, 1))[0]
        if worth == BAD and not spoils:
            worth = NOISE
        if worth == BAD:
            content = draw.choice(spoils)(draw, content)
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        yield kind, worth, noisy(draw, body) if worth == NOISE else body


def judge(counts: Counter[str], worth: str, accepted: bool, status: int) -> bool:
    """Counts an answer; whether it is one that must not be."""
    counts["server_errors"] += status >= 500
    counts["refused"] += not accepted
    counts["accepted_invalid"] += (taken := worth == BAD and accepted)
    counts["refused_valid"] += (lost := worth == GOOD and not accepted)
    return status >= 500 or taken or lost


def noisy(draw: Draw, body: bytes) -> bytes:
    """The body with a few bytes changed, gone or doubled."""
    changed = bytearray(body)
    for _ in range(draw.randint(1, 4)):
        place = draw.randrange(len(changed) + 1)
        match draw.randrange(4):
            case 0:
                changed[place : place + 1] = bytes([draw.randrange(256)])
            case 1:
                del changed[place : place + draw.randint(1, 20)]
            case 2:
                changed[place:place] = draw.choice(
                    (b'"', b"{", b"[", b"1e999", b"null", b"\\ud800")
                )
            case _:
                start = draw.randrange(len(changed) + 1)
                changed[place:place] = changed[start : start + 20]
    return bytes(changed)


def put(*path: str | int, to: tuple[Any, ...]) -> Spoil:
    """The payload with one of `to` at `path`."""

    def spoil(draw: Draw, content: Body) -> Body:
        place: Any = content
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = draw.choice(to)
        return content

    return spoil


def without(*names: str) -> Spoil:
    """The payload without some of its fields."""
    return lambda _, content: {key: value for key, value in content.items() if key not in names}


def cut(draw: Draw, content: Body) -> bytes:
    """The payload cut short."""
    body = json.dumps(content).encode()
    return body[: draw.randrange(len(body))]


def literal(draw: Draw, content: Body) -> bytes:
    """The payload with a value that JSON does not have, or no number has."""
    name = draw.choice(list(content))
    wrong = draw.choice(("NaN", "Infinity", "-Infinity", "undefined", "1e999", "'x'"))
    return json.dumps(content | {name: "@@"}).replace('"@@"', wrong).encode()
