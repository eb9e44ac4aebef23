"""What is seen of the demo: a live table in a terminal, a line a second elsewhere, and a summary."""

import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from demo.course import OUTCOME_S, Asked, Course
from serving.messages.decisions import DecisionReply

STYLE = {"apply": "bold green", "stay": "cyan", "fallback_a3": "yellow", "no answer": "red"}
_WIDE = 128  # columns; below, the table leaves out the features' ages
_LEAST_ROWS, _OTHER_LINES = 5, 15


class Screen:
    """Shows in a terminal what is going on; elsewhere says it. Leaving it gives the terminal back."""

    def __init__(self, console: Console, seconds: float) -> None:
        self._console, self._seconds, self._left = console, seconds, seconds
        self._ready: dict[str, float | None] = {}
        self._course: Course | None = None
        self._began = time.monotonic()
        self._spinner = Spinner("dots", style="cyan")
        self._live = Live(
            console=console, refresh_per_second=8, transient=True, get_renderable=self._now
        )

    def __enter__(self) -> Self:
        """Takes the terminal, if it is one."""
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Gives it back."""
        self._live.stop()

    def part(self, name: str, ready_s: float | None) -> None:
        """A part starts, or is ready after so many seconds."""
        self._ready[name] = ready_s
        if not self._console.is_terminal:
            self.say(f"{name}: " + ("starts" if ready_s is None else f"ready in {ready_s:.1f} s"))

    def second(self, course: Course, left: float) -> None:
        """How things stand, once a second."""
        self._course, self._left = course, left
        if not self._console.is_terminal:
            self.say(f"{self._seconds - left:3.0f} s  {line(course)}")

    def say(self, text: str) -> None:
        """A line."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _now(self) -> RenderableType:
        return self._starting() if self._course is None else self._minute(self._course)

    def _starting(self) -> RenderableType:
        rows = Table.grid(padding=(0, 1))
        for name, ready_s in self._ready.items():
            mark = self._spinner if ready_s is None else Text("✓", "green")
            told = "starting" if ready_s is None else f"ready in {ready_s:.1f} s"
            rows.add_row(mark, name, Text(told, "dim"))
        waited = time.monotonic() - self._began
        return Panel(rows, title=f"{waited:.0f} s", title_align="left", width=48)

    def _minute(self, course: Course) -> RenderableType:
        most = max(_LEAST_ROWS, self._console.height - _OTHER_LINES)
        bar = Table.grid(padding=(0, 1), expand=True)
        bar.add_column(ratio=1)
        bar.add_row(
            ProgressBar(total=self._seconds, completed=self._seconds - self._left),
            Text(f"{self._left:3.0f} s left", "dim"),
        )
        below = Table.grid(expand=True)
        for _ in range(4):
            below.add_column(ratio=1)
        below.add_row(
            _panel("decisions", _decided(course)),
            _panel("fallbacks to A3, by reason", _fallen(course)),
            _panel(f"its outcomes, {OUTCOME_S:.0f} s on", _outcomes(course)),
            _panel("stream", _streamed(course)),
        )
        wide = self._console.width >= _WIDE
        return Group(bar, decisions(list(course.latest)[:most], wide), below)


def decisions(latest: Sequence[Asked], wide: bool) -> Table:
    """The latest decisions, the newest first. wide: with the age of each feature view."""
    table = Table(expand=True, box=None, header_style="dim", padding=(0, 1))
    for name, justify in (
        ("UE", "left"), ("cell", "left"), ("P(met)", "right"), ("confidence", "right"),
        ("decision", "left"), ("reason", "left"), ("then", "left"), ("ms", "right"),
    ):  # fmt: skip
        table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    if wide:
        table.add_column("feature views, ages", no_wrap=True, ratio=1)
    for one in latest:
        table.add_row(*_row(one, wide))
    return table


def _row(one: Asked, wide: bool) -> list[RenderableType]:
    answer = one.passed.reply if one.passed is not None else None
    did = f"→ {_cell(one.told['to'])}" if one.told["applied"] else "stays"
    if one.told["by"] == "a3":
        did = f"A3: {did}"
    if answer is None or one.passed is None:
        fault = "not asked" if one.passed is None else one.passed.fault
        none: list[RenderableType] = ["", "", "", "", Text("no answer", "red"), str(fault), did, ""]
        return [*none, ""] if wide else none
    chosen = next((c for c in answer.candidates if c.cell_id == answer.predicted_antenna), None)
    chance = None if chance_of(chosen) is None else f"{chance_of(chosen):.2f}"
    told: list[RenderableType] = [
        answer.ue_id[:11],
        f"{_cell(answer.connected_to)} → {_cell(answer.predicted_antenna)}",
        chance or "–",
        Text(f"{answer.confidence:.2f} / {answer.required_confidence:.2f}",
             "green" if answer.qos_compliance.service_priority_ok else "dim"),
        Text(answer.decision, STYLE[answer.decision]),
        answer.reason,
        Text(did, "dim" if did == "stays" else ""),
        f"{one.passed.ms:.0f}",
    ]  # fmt: skip
    return [*told, Text(ages(answer), "dim")] if wide else told


def chance_of(scored: object) -> float | None:
    """The probability of a candidate; None where it was not scored, or is none."""
    found: float | None = getattr(scored, "probability", None)
    return found


def ages(answer: DecisionReply) -> str:
    """How many feature views were there, the age of the youngest and the oldest, and who was not."""
    read = {name: view for name, view in answer.features.items() if name != "qos_class"}
    if not read:
        return "none read"
    there = [view.age_s for view in read.values() if view.status == "present"]
    known = sorted(age for age in there if age is not None)
    span = f"  {known[0]:.1f} to {known[-1]:.1f} s" if known else ""
    absent = [name for name, view in read.items() if view.status != "present"]
    return f"{len(there)}/{len(read)}{span}" + (f", no {', '.join(absent)}" if absent else "")


def line(course: Course) -> str:
    """The state of things in one line."""
    parts = [f"{course.asked} decisions"]
    parts += [f"{count} {name}" for name, count in sorted(course.decisions.items())]
    parts += [f"({reason} {count})" for reason, count in course.reasons.most_common(3)]
    share = f"{course.present / course.views:.0%}" if course.views else "none"
    parts.append(f"views present {share}")
    parts += [f"{name} {count}" for name, count in sorted(course.outcomes.items())]
    lag = "?" if course.lag_s is None else f"{course.lag_s:.1f} s"
    parts.append(f"stream {course.rows:,} rows, lag {lag}")
    return "  ".join(parts)


def summary(course: Course, seconds: float, model: str) -> Table:
    """The whole run, plainly."""
    table = Table(title=f"{seconds:.0f} s with model {model}", title_justify="left", box=None,
                  show_header=False, padding=(0, 2, 0, 0))  # fmt: skip
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    fallen = ", ".join(f"{count} {why}" for why, count in course.reasons.most_common())
    kinds = ", ".join(f"{n} {kind}" for kind, n in course.decisions.most_common())
    table.add_row("decisions", f"{course.asked:,}: {kinds or 'none'}")
    table.add_row("fallbacks", fallen or "none")
    a3 = ", ".join(f"{count} {why}" for why, count in course.by_a3.most_common())
    table.add_row(
        "handovers", f"{course.handovers:,}; decided by A3 in the network: {a3 or 'none'}"
    )
    told = ", ".join(f"{count} {what}" for what, count in course.outcomes.most_common())
    table.add_row(
        "outcomes", f"{told or 'none yet'} (of what it stood by, {OUTCOME_S:.0f} s later)"
    )
    share = f"{course.present / course.views:.0%} of {course.views:,}" if course.views else "none"
    table.add_row("feature views", f"{share} were there when read")
    table.add_row(
        "stream", "; ".join(f"{name} {value}" for name, value in _streamed(course).items())
    )
    if len(course.ms) > 1:
        p95 = statistics.quantiles(course.ms, n=20)[-1]
        middle = statistics.median(course.ms)
        table.add_row("service", f"answers in {middle:.0f} ms (median), {p95:.0f} ms (p95)")
    return table


def _cell(cell: str | None) -> str:
    """The last figures of a cell id, by which those of one city differ."""
    return "–" if cell is None else cell[-5:].lstrip("0")


def _decided(course: Course) -> Mapping[str, str]:
    found = {name: f"{course.decisions[name]:,}" for name in ("apply", "stay", "fallback_a3")}
    if course.decisions["no answer"]:
        found["no answer"] = f"{course.decisions['no answer']:,}"
    return found | {"handovers": f"{course.handovers:,}"}


def _fallen(course: Course) -> Mapping[str, str]:
    return {why: f"{count:,}" for why, count in course.reasons.most_common(4)} or {"none": ""}


def _outcomes(course: Course) -> Mapping[str, str]:
    names = ("met", "missed", *(n for n in course.outcomes if n not in ("met", "missed")))
    return {name: f"{course.outcomes[name]:,}" for name in names}


def _streamed(course: Course) -> Mapping[str, str]:
    found = {"rows in": f"{course.rows:,}", "feature rows out": f"{course.feature_rows:,}"}
    if course.refused_rows:
        found["rows refused"] = f"{course.refused_rows:,}"
    if course.lag_s is not None:
        found["lag"] = f"{course.lag_s:.2f} s"
    if course.event_to_feature_s is not None:
        found["event to feature"] = f"{course.event_to_feature_s:.2f} s"
    return found


def _panel(title: str, facts: Mapping[str, str]) -> Panel:
    rows = Table.grid(padding=(0, 1), expand=True)
    rows.add_column(ratio=1)
    rows.add_column(justify="right")
    for name, value in facts.items():
        rows.add_row(Text(name, STYLE.get(name, "")), value)
    return Panel(rows, title=title, title_align="left", border_style="dim", height=6)
