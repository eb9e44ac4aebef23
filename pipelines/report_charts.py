"""Small SVG charts as escaped text: colours come from the page's CSS, widths follow their place.

A strip (bar, interval, axis) places everything in percent of its width, so that it stretches while
strokes and letters keep their size; a square (ROC, reliability) scales as a whole.
"""

import math
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

SIDE, EDGE = 300, 38  # of a square chart and its left and lower margin, in its own units
_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5, 1.0)

Span = tuple[float, float]


def bar(share: float | None, kind: str = "model", says: str = "") -> Markup:
    """A horizontal bar that fills `share` (0 to 1) of its place; empty where unknown."""
    filled = min(max(share or 0.0, 0.0), 1.0)
    return Markup(
        '<svg class="bar" role="img" aria-label="{}"><rect class="track" width="100%" height="100%"/>'
        '<rect class="fill {}" width="{:.2f}%" height="100%"/></svg>'
    ).format(says or ("unknown" if share is None else f"{100 * share:.1f} %"), kind, 100 * filled)


def stacked(parts: Sequence[tuple[str, float, str]]) -> Markup:
    """Parts (kind, amount, text) side by side; a non-zero part stays at least a hair wide."""
    total = sum(amount for _, amount, _ in parts) or 1.0
    pieces, start = Markup(), 0.0
    for kind, amount, says in parts:
        width = 100 * amount / total
        if amount:
            pieces += Markup(
                '<rect class="fill {}" x="{:.3f}%" width="{:.3f}%" height="100%"><title>{}</title></rect>'
            ).format(kind, min(start, 99.6), max(width, 0.4), says)
        start += width
    says = ", ".join(says for _, _, says in parts)
    return Markup('<svg class="bar" role="img" aria-label="{}">{}</svg>').format(says, pieces)


def ticks(span: Span, most: int = 8) -> list[float]:
    """Round numbers inside the span, at most `most` of them."""
    low, high = span
    step = next((s for s in _STEPS if (high - low) / s <= most - 1), high - low)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(number * step, 10) for number in range(first, last + 1)]


def around(values: Sequence[float], least: Span) -> Span:
    """The least span, widened to hold all values and rounded outwards to 0.05."""
    low, high = min([least[0], *values]), max([least[1], *values])
    return math.floor(low / 0.05 + 1e-9) * 0.05, math.ceil(high / 0.05 - 1e-9) * 0.05


def interval(
    point: float | None,
    low: float | None,
    high: float | None,
    span: Span,
    kind: str,
    mark: float | None = None,
) -> Markup:
    """A dot with its interval on a strip over `span`, and a line at `mark`."""
    body = Markup()
    for tick in ticks(span):
        body += _upright(tick, span, "grid")
    if mark is not None:
        body += _upright(mark, span, "mark")
    if low is not None and high is not None:
        body += Markup(
            '<line class="whisker {}" x1="{:.2f}%" x2="{:.2f}%" y1="50%" y2="50%"/>'
        ).format(kind, _percent(low, span), _percent(high, span))
    if point is not None:
        body += Markup('<circle class="dot {}" cx="{:.2f}%" cy="50%" r="4.5"/>').format(
            kind, _percent(point, span)
        )
    says = "unknown" if point is None else _said(point, low, high)
    return Markup('<svg class="strip" role="img" aria-label="{}">{}</svg>').format(says, body)


def axis(span: Span, signed: bool = False) -> Markup:
    """The numbers below strips over `span`."""
    body = Markup()
    for tick in ticks(span):
        body += Markup('<text x="{:.2f}%" y="12" text-anchor="middle">{}</text>').format(
            _percent(tick, span), f"{tick:+.2f}" if signed and tick else f"{tick:.2f}"
        )
    return Markup('<svg class="strip axis" aria-hidden="true">{}</svg>').format(body)


def roc(curves: dict[str, list[tuple[float, float]]], kinds: dict[str, str]) -> Markup:
    """True over false positive rate, one line a score, above the diagonal of chance."""
    body = _frame("false positive rate", "true positive rate") + _diagonal()
    for name, points in curves.items():
        places = " ".join(f"{_x(x):.1f},{_y(y):.1f}" for x, y in _thinned(points))
        body += Markup(
            '<polyline class="curve {}" points="{}"><title>{}</title></polyline>'
        ).format(kinds.get(name, "quiet"), places, name)
    return _square(body, "ROC of " + ", ".join(curves))


def reliability(bins: list[dict[str, Any]], share: float) -> Markup:
    """Observed share over forecast probability; the area of a dot is its share of the rows."""
    body = _frame("forecast probability", "observed share") + _diagonal()
    body += Markup('<line class="rate" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(
        _x(0), _x(1), _y(share), _y(share)
    )
    places = " ".join(f"{_x(one['forecast']):.1f},{_y(one['observed']):.1f}" for one in bins)
    body += Markup('<polyline class="curve model thin" points="{}"/>').format(places)
    most = max((one["rows"] for one in bins), default=1)
    for one in bins:
        body += Markup(
            '<circle class="dot model" cx="{:.1f}" cy="{:.1f}" r="{:.1f}"><title>{}</title></circle>'
        ).format(
            _x(one["forecast"]),
            _y(one["observed"]),
            2.5 + 6.5 * math.sqrt(one["rows"] / most),
            f"forecast {one['forecast']:.2f}, observed {one['observed']:.2f}, {one['rows']:,} rows",
        )
    return _square(body, f"reliability in {len(bins)} bins")


def _percent(value: float, span: Span) -> float:
    """Place on a strip; 3 % at both ends are kept free for dots and letters."""
    low, high = span
    share = (value - low) / ((high - low) or 1.0)
    return 3 + 94 * min(max(share, 0.0), 1.0)


def _upright(value: float, span: Span, kind: str) -> Markup:
    place = _percent(value, span)
    return Markup('<line class="{}" x1="{:.2f}%" x2="{:.2f}%" y1="0" y2="100%"/>').format(
        kind, place, place
    )


def _said(point: float, low: float | None, high: float | None) -> str:
    return f"{point:.3f}" + ("" if low is None or high is None else f", {low:.3f} to {high:.3f}")


def _x(value: float) -> float:
    return EDGE + value * (SIDE - EDGE - 8)


def _y(value: float) -> float:
    return 8 + (1 - value) * (SIDE - EDGE - 8)


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Without the points that lie on one spot of the picture."""
    kept: list[tuple[float, float]] = []
    for x, y in points:
        if not kept or abs(x - kept[-1][0]) + abs(y - kept[-1][1]) > 0.002 or (x, y) == points[-1]:
            kept.append((x, y))
    return kept


def _frame(across: str, up: str) -> Markup:
    body = Markup()
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        body += Markup(
            '<line class="grid" x1="{0}" x2="{1}" y1="{2}" y2="{2}"/>'
            '<line class="grid" x1="{3}" x2="{3}" y1="{4}" y2="{5}"/>'
        ).format(_x(0), _x(1), _y(tick), _x(tick), _y(0), _y(1))
        if tick in (0.0, 0.5, 1.0):
            body += Markup(
                '<text x="{}" y="{}" text-anchor="{}">{:g}</text>'
                '<text x="{}" y="{}" text-anchor="end">{:g}</text>'
            ).format(
                _x(tick), _y(0) + 14, "end" if tick == 1 else "middle", tick,
                _x(0) - 6, _y(tick) + 4, tick,
            )  # fmt: skip
    middle = (_x(0) + _x(1)) / 2
    return body + Markup(
        '<text class="name" x="{0}" y="{1}" text-anchor="middle">{2}</text>'
        '<text class="name" x="12" y="{3}" text-anchor="middle" '
        'transform="rotate(-90 12 {3})">{4}</text>'
    ).format(middle, SIDE - 4, across, (_y(0) + _y(1)) / 2, up)


def _diagonal() -> Markup:
    return Markup('<line class="chance" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(
        _x(0), _y(0), _x(1), _y(1)
    )


def _square(body: Markup, says: str) -> Markup:
    return Markup(
        '<svg class="square" viewBox="0 0 {0} {0}" role="img" aria-label="{1}">{2}</svg>'
    ).format(SIDE, says, body)
