"""docs/features.md, written from the declarations: what a reader needs to choose a feature.

`python -m feature_repo.docs` writes it; the text holds no clock and no path, so equal declarations
give equal bytes.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from feature_repo.services import SERVICES, Service
from feature_repo.views import VIEWS, WINDOWED
from feature_repo.windows import AnyView, Feature, OnDemandView, StaticView, View, spelled
from schemas.five_qi import DEFAULT_FIVE_QI, FIVE_QIS, FiveQi

PAGE = Path(__file__).parents[1] / "docs" / "features.md"

_HEAD = """\
# Features

Written by `python -m feature_repo.docs` (part of `make catalog`) from `feature_repo/views/`; do not
edit it by hand. How to add a feature: [add-a-feature.md](add-a-feature.md).

- A name reads `<entity>_<column>_<operation>_<span>`: `ue_rsrp_dbm_mean_10s` is the mean of
  `rsrp_dbm` over the 10 s up to the row's `event_timestamp`, that instant included.
- A window counts only rows that had arrived by then. Every feature is a Float64; null means that the
  window held too few values.
- The range is inclusive; `-` is no bound on that side. Unit `1` is a plain ratio or count.
- ttl: how old a row may be when it is served or joined. Computed: at each arrival of a row of the
  clock's table, or at the end of each tick in which one arrived.
"""


def text() -> str:
    """The whole page."""
    parts = [
        _HEAD,
        _services(SERVICES),
        _overview(VIEWS),
        *(_view(view) for view in VIEWS),
        _five_qis(FIVE_QIS.values()),
    ]
    return "\n".join(parts)


def write(page: Path = PAGE) -> None:
    """Writes the page where it differs."""
    wanted = text()
    if not page.exists() or page.read_text(encoding="utf-8") != wanted:
        page.parent.mkdir(exist_ok=True)
        page.write_text(wanted, encoding="utf-8")


def _services(services: Sequence[Service]) -> str:
    rows = [
        (
            f"`{service.name}`",
            service.description,
            str(len(service.features())),
            str(sum(f.view in service.radio_views for f in service.features())),
            ", ".join(f"[{name}](#{name})" for name in service.views),
        )
        for service in services
    ]
    head = ("service", "answers", "features", "of these radio only", "views, in order")
    return _section("## Services", _table(head, rows))


def _overview(views: Sequence[AnyView]) -> str:
    stored = sum(len(view.features()) for view in WINDOWED)
    total = sum(len(view.features()) for view in views)
    says = (
        f"{total} features in {len(views)} views; {stored} of them are windows over measurements."
    )
    rows = [
        (
            f"[{view.name}](#{view.name})",
            ", ".join(f"`{key}`" for key in _keys(view)),
            _ttl(view),
            _computed(view),
            str(len(view.features())),
        )
        for view in views
    ]
    return _section("## Views", says, _table(("view", "keys", "ttl", "computed", "features"), rows))


def _view(view: AnyView) -> str:
    facts = [
        f"- keys: {', '.join(f'`{key}`' for key in _keys(view))}",
        f"- ttl: {_ttl(view)}",
        f"- computed: {_computed(view)}",
    ]
    if isinstance(view, View):
        facts.append(f"- from: `{view.table}`")
        facts += [f"- `{name}`: {known.description}" for name, known in view.derived.items()]
    elif isinstance(view, OnDemandView):
        facts.append(f"- the request gives: {', '.join(f'`{name}`' for name in view.request)}")
        facts.append(f"- reads: {', '.join(f'[{v.name}](#{v.name})' for v in view.views)}")
    rows = [(f"`{f.name}`", f.description, f.unit, _range(f), f.source) for f in view.features()]
    head = ("feature", "what it says", "unit", "range", "source")
    return _section(
        f"## {view.name}", f"{_sentence(view.description)}", "\n".join(facts), _table(head, rows)
    )


def _five_qis(table: Iterable[FiveQi]) -> str:
    says = (
        "3GPP TS 23.501, table 5.7.4-1, as `schemas/five_qi.csv` holds it; "
        f"{DEFAULT_FIVE_QI} is taken where a source names none."
    )
    rows = [
        (
            str(row.value),
            row.resource_type,
            str(row.priority_level),
            f"{row.packet_delay_budget_ms:g}",
            f"{row.packet_error_rate:g}",
            _or_dash(row.maximum_burst_bytes),
            _or_dash(row.averaging_window_ms),
            row.example_services,
        )
        for row in table
    ]
    head = (
        "5QI", "resource type", "priority", "delay budget (ms)", "error rate", "burst (bytes)",
        "averaging (ms)", "for example",
    )  # fmt: skip
    return _section("## 5QI table", says, _table(head, rows))


def _keys(view: AnyView) -> tuple[str, ...]:
    if not isinstance(view, OnDemandView):
        return view.keys
    return tuple(dict.fromkeys(key for source in view.views for key in source.keys))


def _ttl(view: AnyView) -> str:
    if isinstance(view, View):
        return spelled(view.ttl)
    return "never ages" if isinstance(view, StaticView) else "that of what it reads"


def _computed(view: AnyView) -> str:
    if isinstance(view, StaticView):
        return "once"
    if isinstance(view, OnDemandView):
        return "at the request"
    if view.tick is not None:
        return f"every {spelled(view.tick)} with a row of `{view.clock_table}`"
    return f"at each row of `{view.clock_table}`"


def _range(feature: Feature) -> str:
    if feature.low is None and feature.high is None:
        return "unbounded"
    return f"{_or_dash(feature.low)} … {_or_dash(feature.high)}"


def _or_dash(number: float | None) -> str:
    return "-" if number is None else f"{number:g}" if isinstance(number, float) else str(number)


def _sentence(says: str) -> str:
    return f"{says[0].upper()}{says[1:]}."


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def _section(*blocks: str) -> str:
    return "\n\n".join(blocks) + "\n"


if __name__ == "__main__":
    write()
