"""Stage `report`: one self-contained page on what came in, what was learned and what it is worth."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lifecycle.bundles import load
from pipelines import report_charts as charts
from pipelines import report_facts as facts
from pipelines.stage import run
from schemas.five_qi import FIVE_QIS

TEMPLATE = "report.html.j2"
NEEDED = ("admit", "label", "truncation", "evaluate")
OPTIONAL = ("register", "publish", "check")
SCORES = (  # of the forest plot: what it is called, its keys in evaluate.json, its colour
    ("model", "auc", "model"),
    ("radio only", "auc_radio_only", "radio"),
    ("persistence", "auc_persistence", "naive"),
)
CURVES = {name: colour for name, _, colour in SCORES}


@dataclass(frozen=True)
class Page:
    """The page; `write` leaves it as `index.html` in a folder."""

    html: str

    def write(self, folder: Path) -> None:
        """`folder/index.html`."""
        folder.mkdir(parents=True)
        (folder / "index.html").write_text(self.html, encoding="utf-8")


def report(
    metrics: Path,
    features: Path,
    plots: Path,
    frame: pl.DataFrame,
    bundle: Path,
    version: Path | None = None,
) -> Page:
    """The report of one run; equal inputs give equal bytes.

    metrics: the stages' JSON files, of which register, publish and check may be absent; features: a
    folder a view; plots: what `evaluate` drew; version: what `register` left of this machine's
    registry, without which the page names no number and is the same everywhere. Raises
    `QosError` where a needed file is absent.
    """
    content = gathered(metrics, features, plots, frame, bundle)
    found = facts.read_optional(version.parent, version.stem) if version else None
    same = found is not None and found.get("bundle") == content["manifest"]["digest"]
    return Page(render(content | {"version": found if same else None}))


def gathered(
    metrics: Path, features: Path, plots: Path, frame: pl.DataFrame, bundle: Path
) -> dict[str, Any]:
    """Everything that the template names."""
    read = {name: facts.read_metrics(metrics, name) for name in NEEDED}
    known = read | {name: facts.read_optional(metrics, name) for name in OPTIONAL}
    loaded = load(bundle)
    tasks = facts.tasks(frame, known, loaded, plots)
    views = facts.views(features, frame, known["publish"])
    used = set(loaded.features)
    return known | {
        "headline": facts.headline(read["evaluate"]),
        "cautions": facts.cautions(known, loaded.manifest),
        "views": views,
        "views_used": sum(any(f["name"] in used for f in view["features"]) for view in views),
        "tasks": tasks,
        "judged": [task for task in tasks if task["judged"]],
        "examples": facts.examples(frame, loaded),
        "manifest": loaded.manifest,
        "spans": _spans(read["evaluate"]),
        "frame_rows": len(frame),
    }


def render(content: dict[str, Any]) -> str:
    """The page; every text is escaped on its way in."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": _count, "share": _share, "score": _score, "signed": _signed, "brief": _brief,
    }  # fmt: skip
    environment.globals |= {"charts": charts, "SCORES": SCORES, "CURVES": CURVES, "QI": FIVE_QIS}
    return environment.get_template(TEMPLATE).render(content)


def _spans(evaluate: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """The common scales of the forest plots, so that tasks can be compared by eye."""

    def known(*names: str) -> list[float]:
        return [
            value
            for judged in evaluate.values()
            for name in names
            for end in ("", "_low", "_high")
            if (value := judged.get(f"{name}{end}")) is not None
        ]

    scores = known(*(key for _, key, _ in SCORES))
    return {
        "auc": charts.around(scores, (0.45, 1.0)),
        "gain": charts.around(known("gain"), (-0.05, 0.05)),
    }


def _count(number: float | None) -> str:
    return "–" if number is None else f"{number:,.0f}"


def _share(number: float | None, digits: int = 1) -> str:
    return "–" if number is None else f"{100 * number:.{digits}f}\u00a0%"


def _score(number: float | None, digits: int = 3) -> str:
    return "–" if number is None else f"{number:,.{digits}f}"


def _signed(number: float | None) -> str:
    return "–" if number is None else f"{number:+.3f}".replace("-", "−")


def _brief(number: float | None) -> str:
    """Four significant digits: a value in its unit."""
    return "–" if number is None else f"{number:,.4g}"


if __name__ == "__main__":
    run(report)
