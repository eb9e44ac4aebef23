"""How the latest predictions of a model turned out: those whose decision was told a QoS outcome."""

import threading
from collections import deque
from dataclasses import dataclass

import numpy as np

from serving.record import SCORES, DecisionRecord

WINDOW = 1000
_MET = SCORES.index("met")


@dataclass(frozen=True)
class Judgement:
    """Of the latest predictions with a known outcome. error_rate: share whose probability lay on the
    wrong side of 0.5; brier: mean squared error of the probability; expected, met: mean probability and
    share that were met, which should be alike. All 0..1, None: nothing was judged."""

    count: int
    error_rate: float | None = None
    brier: float | None = None
    expected: float | None = None
    met: float | None = None


class Judged:
    """The window; safe from any thread."""

    def __init__(self) -> None:
        """Nothing judged."""
        self._pairs: deque[tuple[float, bool]] = deque(maxlen=WINDOW)
        self._digest, self._lock = "", threading.Lock()

    def take(self, record: DecisionRecord, met: bool | None, digest: str) -> None:
        """What the model said of the chosen cell, and whether the request was met there. Nothing is
        taken where no model or another one (by digest) spoke, or too little was observed."""
        if met is None or not record.scored or record.chosen_cell not in record.cells:
            return
        said = float(record.scores[record.cells.index(record.chosen_cell), _MET])
        if record.model_digest == digest and np.isfinite(said):
            with self._lock:
                if self._digest != digest:
                    self._pairs.clear()
                self._digest = digest
                self._pairs.append((said, met))

    def look(self, digest: str) -> Judgement:
        """How those of this model turned out."""
        with self._lock:
            known = self._pairs if self._digest == digest else ()
            pairs = np.array(known, dtype=np.float64).reshape(-1, 2)
        if not len(pairs):
            return Judgement(0)
        said, met = pairs.T
        return Judgement(
            count=len(pairs),
            error_rate=float(np.mean((said >= 0.5) != (met == 1.0))),
            brier=float(np.mean((said - met) ** 2)),
            expected=float(said.mean()),
            met=float(met.mean()),
        )
