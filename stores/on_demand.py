"""On-demand feature views at read time, on the columns that Feast would hand them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from stores.answer import Block, Computed
from stores.compiled import Plan, title_of
from stores.decode import NUMERIC, arrow_type_of, kind_of
from stores.keys import BadRequest


def computed(
    plan: Plan, entities: Mapping[str, Sequence[Any]], rows: int, blocks: Sequence[Block]
) -> dict[str, Computed]:
    """The on-demand features by answered name, of the request and the features they declare.

    Raises BadRequest where a view gives another count of rows, ValueError where it leaves a feature
    out or gives one of another type.
    """
    given = {name: listed(entities[name]) for name in plan.asked}
    found: dict[str, Computed] = {}
    for view in plan.transforms:
        declared = {title_of(p) for p in view.source_feature_view_projections.values()}
        inputs = given | {
            home.column.name: blocks[home.entity].values(home.place)
            for home in plan.stored.values()
            if home.column.view in declared
        }
        if view.mode == "python":
            made: Any = view.transform_dict(inputs)
        else:
            made = view.transform_arrow(pa.table(inputs), plan.full_names).to_pydict()
        title = title_of(view.projection)
        for field in view.features:
            name = f"{title}__{field.name}" if plan.full_names else field.name
            if f"{title}:{field.name}" not in plan.refs:
                continue
            column = made.get(name, made.get(field.name))
            if column is None:
                raise ValueError(f"{title}: gave no {field.name}; gave: {', '.join(made)}")
            values = column if isinstance(column, list) else [column]
            if len(values) != rows:
                raise BadRequest(f"{title}:{field.name}: {len(values)} values of {rows} rows")
            found[name] = Computed(plain(values, field.dtype), field.dtype)
    return found


def plain(values: list[Any], dtype: Any) -> list[Any]:
    """The values as their type has them: an integer of a Float64 is a float."""
    kind = arrow_type_of(dtype)
    if kind is None or kind_of(dtype) not in NUMERIC:
        return values
    items = [value.item() if isinstance(value, np.generic) else value for value in values]
    return list(pa.array(items, kind, from_pandas=True).to_pylist())


def listed(values: Sequence[Any]) -> list[Any]:
    """Plain Python values."""
    return values.tolist() if isinstance(values, np.ndarray) else list(values)
