"""On-demand feature views at read time, on the columns that Feast would hand them."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from stores.answer import Block, Computed
from stores.compiled import BadRequest, Plan, title_of


def computed(
    plan: Plan, entities: Mapping[str, Sequence[Any]], rows: int, blocks: Sequence[Block]
) -> dict[str, Computed]:
    """The on-demand features by answered name, of the request and the features they declare.

    Raises BadRequest where a view gives another count of rows.
    """
    given = {name: list(entities[name]) for name in plan.asked}
    views = {c.name: view.name for view in plan.views for c in view.columns}
    stored = {name: blocks[block].values(place) for name, (block, place) in plan.homes.items()}
    found: dict[str, Computed] = {}
    for view in plan.transforms:
        declared = {str(p.name_to_use()) for p in view.source_feature_view_projections.values()}
        inputs = given | {n: values for n, values in stored.items() if views[n] in declared}
        if view.mode == "python":
            made: Any = view.transform_dict(inputs)
        else:
            made = view.transform_arrow(pa.table(inputs), plan.full_names).to_pydict()
        title = title_of(view)
        for field in view.features:
            name = f"{title}__{field.name}" if plan.full_names else field.name
            if name not in plan.names:
                continue
            column = made[name]
            values = column if isinstance(column, list) else [column]
            if len(values) != rows:
                raise BadRequest(f"{title}:{field.name}: {len(values)} values of {rows} rows")
            found[name] = Computed(values, field.dtype)
    return found
