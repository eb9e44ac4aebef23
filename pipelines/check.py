"""Holds the admitted tables and the features against their suites; leaves readable data docs."""

import contextlib
import html
import logging
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")

from feature_repo.views import STORED
from pipelines.features import read_view
from pipelines.stage import read_table, run
from pipelines.suites import (
    EVENT,
    REQUIRED,
    Params,
    Suite,
    as_declared,
    dtype_suite,
    table_suites,
    view_suites,
)
from schemas.errors import QosError
from schemas.tables import TABLES

if TYPE_CHECKING:
    from great_expectations.data_context import EphemeralDataContext

FAILED_DOCS = Path(".qos/check_failed")
STYLE = Path(__file__).with_name("check.css")
_OUTSIDE = (
    re.compile(r"<link[^>]*https?://[^>]*>"),
    re.compile(r"<script[^>]*src=\"https?://[^>]*></script>"),
    re.compile(r"<img[^>]*https?://[^>]*>"),
    re.compile(r"url\(['\"]?https?://[^)]*\)"),
)
_RUN_TIME = re.compile(r"\d{8}T\d{6}\.\d{6}Z")
_RUN_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Docs:
    """A data docs site in memory: path to content."""

    files: dict[str, bytes]

    def write(self, folder: Path) -> None:
        """The site; it opens at index.html."""
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


class Result(NamedTuple):
    """docs: the site; metrics: {expectations, failed, tables: {name: {rows, expectations}}}."""

    docs: Docs
    metrics: dict[str, object]


@dataclass(frozen=True)
class Failure:
    """One expectation that the data do not meet."""

    table: str
    column: str
    expectation: str
    observed: str
    expected: str

    def __str__(self) -> str:
        return (
            f"{self.table}.{self.column}: {self.expectation}: observed {self.observed}, "
            f"expected {self.expected}"
        )


def check(admitted: Path, features: Path, params: Params) -> Result:
    """Data docs and counts; raises `QosError` naming what fails.

    The docs of a run that failed are left in `.qos/check_failed/`. A table without rows is not
    expected to have any (a source need not measure everything), but ue_radio or ue_flow must.
    """
    tables = {name: read_table(admitted / f"{name}.parquet") for name in TABLES}
    if not any(len(tables[name]) for name in REQUIRED):
        raise QosError(f"{admitted}: {' and '.join(REQUIRED)} have no row, one of them must")
    views = {view.name: read_view(features, view) for view in STORED}
    suites = [dtype_suite(tables)]
    if as_declared(tables):
        suites += table_suites(tables, params) + view_suites(views)
    docs, failures = validate(suites)
    if failures:
        shutil.rmtree(FAILED_DOCS, ignore_errors=True)
        docs.write(FAILED_DOCS)
        raise QosError(
            f"{len(failures)} of {sum(len(s.expectations) for s in suites)} expectations are not met; "
            f"first: {failures[0]}; all: {FAILED_DOCS}/index.html"
        )
    empty = [name for name, rows in tables.items() if not len(rows)]
    empty += [f"features_{name}" for name, rows in views.items() if not len(rows)]
    return Result(docs, _metrics(suites, empty))


def _metrics(suites: list[Suite], empty: list[str]) -> dict[str, object]:
    return {
        "expectations": sum(len(suite.expectations) for suite in suites),
        "failed": 0,
        "tables": {
            suite.name: {"rows": len(suite.batch), "expectations": len(suite.expectations)}
            for suite in suites
        },
        "empty": empty,
    }


def validate(suites: list[Suite]) -> tuple[Docs, list[Failure]]:
    """Runs every suite; the data docs of all of them and what failed, in the suites' order.

    Equal data leave equal docs: the newest event's time stands for the run's.
    """
    with _quiet(), tempfile.TemporaryDirectory() as folder:
        import great_expectations as gx

        context = gx.get_context(mode="ephemeral")
        for name in list(context.get_site_names()):
            context.delete_data_docs_site(name)
        context.add_data_docs_site("local_site", _site(folder))  # type: ignore[arg-type]
        context.variables.progress_bars = {"globally": False, "metric_calculations": False}  # type: ignore[assignment]
        source = context.data_sources.add_pandas("data")
        as_of = _newest(suites)
        failed = {suite.name: list(_run(context, source, suite, as_of)) for suite in suites}
        context.build_data_docs()
        site = Path(folder)
        files = {
            str(path.relative_to(site)): path.read_bytes()
            for path in sorted(site.rglob("*"))
            if path.is_file()
        }
    style = STYLE.read_text(encoding="utf-8")
    pages = {
        _flat(name): self_contained(content, name, style)
        for name, content in files.items()
        if name.endswith(".html")
    }
    pages["index.html"] = _index(suites, failed, style)
    return Docs(pages), [failure for found in failed.values() for failure in found]


def _site(folder: str) -> dict[str, Any]:
    return {
        "class_name": "SiteBuilder",
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        "store_backend": {
            "class_name": "TupleFilesystemStoreBackend",
            "base_directory": folder,
        },
    }


def _newest(suites: list[Suite]) -> datetime:
    """The newest event of all batches; 1970 where none has a time."""
    times = [suite.batch[EVENT].max() for suite in suites if EVENT in suite.batch.columns]
    return max(
        (t for t in times if isinstance(t, datetime)), default=datetime.fromtimestamp(0, UTC)
    )


def _flat(name: str) -> str:
    """validations/<suite>/<run>/<time>/data-<suite>.html: without the folders that bear the time."""
    return name.rsplit("/", 1)[-1] if name.startswith("validations/") else name


def _index(suites: list[Suite], failed: dict[str, list[Failure]], style: str) -> bytes:
    """The first page: a row a suite. (The library's own is drawn by scripts of other hosts.)"""
    rows = []
    for suite in suites:
        page = f"data-{suite.name}.html"
        bad = len(failed[suite.name])
        verdict = (
            f'<span class="text-danger">{bad} not met</span>'
            if bad
            else '<span class="text-success">all met</span>'
        )
        rows.append(
            f'<tr><td><a href="{html.escape(page)}">{html.escape(suite.name)}</a></td>'
            f'<td class="number">{len(suite.batch):,}</td>'
            f'<td class="number">{len(suite.expectations)}</td><td>{verdict}</td></tr>'
        )
    worst = "".join(
        f"<li>{html.escape(str(failure))}</li>" for found in failed.values() for failure in found
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Data docs</title>'
        '<meta name="viewport" content="width=device-width">'
        f"<style>{style}</style></head><body><div class='container'><h1>Data docs</h1>"
        "<p>What the admitted tables and the feature views are expected to be, and are. "
        "Ranges, value sets and keys come from the contracts and the declared features.</p>"
        f"<ul class='text-danger'>{worst}</ul><table><tr><th>table</th><th class='number'>rows</th>"
        "<th class='number'>expectations</th><th>result</th></tr>"
        f"{''.join(rows)}</table></div></body></html>"
    ).encode()


def _run(
    context: "EphemeralDataContext", source: Any, suite: Suite, as_of: datetime
) -> Iterator[Failure]:
    import great_expectations as gx
    from great_expectations.core.run_identifier import RunIdentifier

    batch = source.add_dataframe_asset(suite.name).add_batch_definition_whole_dataframe("all rows")
    expected = gx.ExpectationSuite(name=suite.name, expectations=suite.expectations)
    definition = context.validation_definitions.add(
        gx.ValidationDefinition(name=suite.name, data=batch, suite=context.suites.add(expected))
    )
    frame = suite.batch.to_pandas()
    run_id = RunIdentifier(run_name="check", run_time=as_of)
    for result in definition.run(batch_parameters={"dataframe": frame}, run_id=run_id).results:
        if not result.success:
            yield _failure(suite.name, result)


def _failure(table: str, result: Any) -> Failure:
    config = result.expectation_config
    given = {
        key: value
        for key, value in config.kwargs.items()
        if key not in ("batch_id", "column", "column_list") and value is not None
    }
    found = result.result
    raised = [info for info in (result.exception_info or {}).values() if isinstance(info, dict)]
    if raised:
        observed = str(raised[0].get("exception_message", "an error")).splitlines()[0]
    elif "unexpected_count" in found:
        observed = (
            f"{found['unexpected_count']} of {found['element_count']} values "
            f"{found.get('partial_unexpected_list', [])[:1]}"
        )
    else:
        observed = str(found.get("observed_value"))
    columns = config.kwargs.get("column") or ", ".join(config.kwargs.get("column_list", ["rows"]))
    return Failure(
        table,
        columns,
        config.type.removeprefix("expect_").replace("_", " "),
        observed,
        ", ".join(f"{key} {_plain(value)}" for key, value in given.items()) or "none such",
    )


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def self_contained(content: bytes, name: str, style: str) -> bytes:
    """A page that loads nothing from elsewhere and is the same for the same data.

    Scripts, fonts and pictures of other hosts go out, and so do the times of the run.
    """
    page = content.decode("utf-8")
    for outside in (*_OUTSIDE, _RUN_TIME, _RUN_ID):
        page = outside.sub("", page)
    if name.startswith("validations/"):
        page = page.replace("../" * name.count("/"), "")
    return page.replace("</head>", f"<style>{style}</style></head>", 1).encode()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the bars, notes and warnings of the library."""
    logger = logging.getLogger("great_expectations")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logger.setLevel(level)


if __name__ == "__main__":
    run(check)
