"""On-demand feature views at read time, on the columns that Feast would hand them."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from feast.type_map import python_values_to_proto_values

from stores.answer import Computed, Source, column_values
from stores.compiled import Plan


def computed(
    plan: Plan,
    entities: Mapping[str, Sequence[Any]],
    rows: int,
    stored: Mapping[str, Source],
) -> dict[str, Source]:
    """The on-demand views' features, from the request and the stored features they declare."""
    given = {name: list(entities[name]) for name in plan.asked}
    for name, dtype in plan.request:
        python_values_to_proto_values(given[name], dtype.to_value_type())
    values = given | {
        name: column_values(*source)
        for name, source in stored.items()
        if not isinstance(source, Computed)
    }
    found: dict[str, Source] = {}
    for view in plan.transforms:
        title = view.projection.name_to_use()
        declared = {p.name for p in view.source_feature_view_projections.values()}
        inputs = {
            name: column
            for name, column in values.items()
            if name in given or _view_of(stored[name]) in declared
        }
        if view.mode == "python":
            made: Any = view.transform_dict(inputs)
        else:
            made = view.transform_arrow(pa.table(inputs), plan.full_names).to_pydict()
        for feature in view.features:
            name = f"{title}__{feature.name}" if plan.full_names else feature.name
            if name in plan.names:
                column = made[name]
                found[name] = Computed(
                    list(column) if isinstance(column, list) else [column] * rows, feature.dtype
                )
    return found


def _view_of(source: Source) -> str:
    return "" if isinstance(source, Computed) else source[0].columns[source[1]].view
