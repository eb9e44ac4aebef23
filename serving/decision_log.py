"""Where decisions and their outcomes go: Parquet folders that Feast can read as offline sources.

    <folder>/decisions/day=2026-01-31/<first id>_<last id>_<chance>.parquet
    <folder>/outcomes/<kind>/day=2026-01-31/…      by the day of the decision

One process writes a folder.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow.parquet as pq

from serving import outcome, record
from serving.in_loop import Do
from serving.outcome import KINDS, Kind, Outcome
from serving.parquet_log import ParquetLog, files_of, read_ids
from serving.record import DecisionRecord
from serving.recorded import record_of

if TYPE_CHECKING:
    from serving.predict import Decided

DECISIONS, OUTCOMES = "decisions", "outcomes"


class DecisionLog:
    """Decisions and outcomes. `append` never blocks and raises nothing; the rest may read files."""

    def __init__(
        self,
        folder: Path,
        dropped: Callable[[str, int], None] = lambda what, count: None,
        flush_s: float = 5.0,
        rows_a_file: int = 4096,
        most_waiting: int = 65_536,
        appended: Callable[["Decided"], None] = lambda decided: None,
        recorded: Callable[[DecisionRecord], None] = lambda record: None,
    ) -> None:
        """dropped: told what (decision, outcome) was lost, and how many; flush_s: seconds between two
        writes; most_waiting: rows in memory, past which they are lost; appended: told every decision at
        once, recorded: as it is written, in a thread of its own; both raise nothing."""
        self.folder, self._telling, self._appended = folder, threading.Lock(), appended
        self._decisions: ParquetLog[Any, DecisionRecord] = ParquetLog(
            folder / DECISIONS, _record, record.SCHEMA, record.columns, lambda n: dropped("decision", n),
            flush_s, rows_a_file, most_waiting, recorded,
        )  # fmt: skip
        self._outcomes: dict[Kind, ParquetLog[Outcome, Outcome]] = {
            kind: ParquetLog(
                folder / OUTCOMES / kind, _same, outcome.SCHEMA, outcome.columns,
                lambda n: dropped("outcome", n), flush_s, rows_a_file, most_waiting,
            )
            for kind in KINDS
        }  # fmt: skip

    def work(self, do: Do) -> None:
        """Where decisions are made into rows and columns from now on."""
        self._decisions.do = do

    def append(self, decided: "Decided | DecisionRecord") -> None:
        """Keeps a decision."""
        self._decisions.append(decided.decision_id, decided)
        if not isinstance(decided, DecisionRecord):
            self._appended(decided)

    def find(self, decision_ids: Sequence[str]) -> dict[str, DecisionRecord]:
        """The records of these decisions; what is unknown is left out."""
        found: dict[str, DecisionRecord] = {}
        for one in decision_ids:
            if (waiting := self._decisions.look(one)) is not None:
                found[one] = _record(waiting)
        rest = [one for one in decision_ids if one not in found]
        return found | read_decisions(self.folder, rest)

    def tell(self, told: Outcome) -> Literal["accepted", "duplicate", "lost"]:
        """Keeps an outcome, if it is the first of its kind; reads files."""
        log = self._outcomes[told.kind]
        with self._telling:
            if log.look(told.decision_id) is not None or log.read([told.decision_id]) is not None:
                return "duplicate"
            return "accepted" if log.append(told.decision_id, told) else "lost"

    def outcomes_of(self, decision_ids: Sequence[str]) -> dict[str, dict[Kind, Outcome]]:
        """By decision and kind; decisions without outcomes are left out."""
        found: dict[str, dict[Kind, Outcome]] = {}
        for kind, log in self._outcomes.items():
            waiting = {one: log.look(one) for one in decision_ids}
            rest = [one for one, told in waiting.items() if told is None]
            table = log.read(rest) if rest else None
            kept = outcome.from_table(table) if table is not None else []
            for told in (*waiting.values(), *kept):
                if told is not None:
                    found.setdefault(told.decision_id, {})[kind] = told
        return found

    def flush(self) -> None:
        """Blocks until all that was appended before is in files."""
        self._decisions.flush()
        for log in self._outcomes.values():
            log.flush()

    def close(self) -> None:
        """Flushes and ends; what is appended later is lost, and counted."""
        self._decisions.close()
        for log in self._outcomes.values():
            log.close()


def read_decisions(folder: Path, decision_ids: Sequence[str]) -> dict[str, DecisionRecord]:
    """The records in the files of a log's folder; what is unknown is left out."""
    table = read_ids(folder / DECISIONS, decision_ids)
    found = record.from_table(table) if table is not None else []
    return {one.decision_id: one for one in found}


def all_decisions(folder: Path) -> Iterator[DecisionRecord]:
    """Every record in the files of a log's folder, file by file."""
    for path in files_of(folder / DECISIONS):
        yield from record.from_table(pq.read_table(path, partitioning=None))


def _record(given: Any) -> DecisionRecord:
    return given if isinstance(given, DecisionRecord) else record_of(given)


def _same(told: Outcome) -> Outcome:
    return told
