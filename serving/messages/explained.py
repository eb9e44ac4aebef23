"""Why a decision was as it was."""

from pydantic import BaseModel


class FeaturePart(BaseModel):
    """A feature's part of the log-odds of being met, before calibration; value null: unknown."""

    feature: str
    value: float | None
    status: str
    contribution: float


class CellExplained(BaseModel):
    """A candidate as it was scored. scores: by name, what no model told is left out; statuses: how many
    features had each; base: the part of no feature; contributions: the 20 largest; age_s: of the views
    that were found, from their event to the store's clock."""

    cell_id: str
    chosen: bool
    serving: bool
    scores: dict[str, float]
    statuses: dict[str, int]
    age_s: dict[str, float]
    base: float
    contributions: list[FeaturePart]


class OutcomeTold(BaseModel):
    """What was told of the decision later; met null: too little was observed."""

    kind: str
    late: bool
    met: bool | None
    success: bool | None


class Explained(BaseModel):
    """A decision with what it rests on; cells is empty where nothing was scored (see reason)."""

    decision_id: str
    decided_at: str
    ue_id: str
    decision: str
    reason: str
    chosen_cell: str | None
    required_confidence: float
    observed_confidence: float | None
    requested: dict[str, float]
    overrides: dict[str, float]
    model_version: str
    service: str
    catalog_hash: str
    cells: list[CellExplained]
    outcomes: list[OutcomeTold]
