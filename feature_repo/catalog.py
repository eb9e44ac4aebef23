"""The catalog: every declared feature as sorted JSON without a clock, one file a view.

`python -m feature_repo.catalog` writes `feature_repo/catalog/`. It is in git and cuts the stages off
from the definitions: a stage re-runs when what a feature *is* changes, not when a file does.
"""

import hashlib
import inspect
import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

from feature_repo.services import SERVICES
from feature_repo.views import VIEWS
from feature_repo.windows import AnyView, OnDemandView, StaticView, View

FOLDER = Path(__file__).with_name("catalog")


def described(view: AnyView) -> dict[str, Any]:
    """Everything that decides a view's values, as JSON-able data."""
    content: dict[str, Any] = {
        "view": view.name,
        "description": view.description,
        "features": [asdict(feature) for feature in view.features()],
    }
    if isinstance(view, View):
        content |= {
            "keys": list(view.keys),
            "table": view.table,
            "clock": view.clock_table,
            "tick_s": _seconds(view.tick),
            "ttl_s": _seconds(view.ttl),
            "where": None if view.where is None else str(view.where),
            "derived": {name: str(d.expression) for name, d in view.derived.items()},
        }
    elif isinstance(view, StaticView):
        rows = view.rows().select(view.keys[0], *(f.name for f in view.features()))
        content |= {"keys": list(view.keys), "ttl_s": None, "rows": rows.to_dicts()}
    elif isinstance(view, OnDemandView):
        content |= {
            "request": list(view.request),
            "computes": inspect.getsource(view.compute),
        }
    return content


def _seconds(duration: timedelta | None) -> float | None:
    return None if duration is None else duration.total_seconds()


def catalog_hash(view_names: tuple[str, ...]) -> str:
    """16 hex digits that change when any feature of these views does."""
    content = [described(view) for view in VIEWS if view.name in view_names]
    text = json.dumps(content, sort_keys=True).encode()
    return hashlib.sha256(text).hexdigest()[:16]


def files() -> Mapping[str, str]:
    """File name to content of the whole catalog."""
    contents: dict[str, Any] = {f"{view.name}.json": described(view) for view in VIEWS}
    contents["services.json"] = {
        service.name: {
            "description": service.description,
            "views": list(service.views),
            "features": [feature.name for feature in service.features()],
            "radio": [f.name for f in service.features() if f.view in service.radio_views],
            "catalog_hash": catalog_hash(service.views),
        }
        for service in SERVICES
    }
    return {
        name: json.dumps(content, indent=1, sort_keys=True) + "\n"
        for name, content in contents.items()
    }


def write(folder: Path = FOLDER) -> None:
    """Writes the catalog, removing files of views that are no more."""
    folder.mkdir(exist_ok=True)
    wanted = files()
    for old in folder.glob("*.json"):
        if old.name not in wanted:
            old.unlink()
    for name, text in wanted.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
