"""Whether a bundle has earned a place in the registry: the reason against it, or none."""

import math
from typing import Any

REQUIRED = (
    "rows", "auc", "auc_low", "auc_high", "auc_persistence", "gain", "gain_low", "gain_high",
    "brier", "ece",
)  # fmt: skip
REQUIRED_OF_BAND = ("band_coverage", "pinball")


def refusal(
    manifest: dict[str, Any],
    metrics: dict[str, Any],
    tasks: tuple[str, ...] = (),
    *,
    require_gain: bool,
) -> str | None:
    """Why the bundle may not be registered, or None if its evidence is whole.

    tasks: those that must have evidence, all of the bundle if empty. Evidence is missing where a
    task was not judged, was judged with another bundle, or a required metric is null; with
    `require_gain` the interval of each gain over persistence must lie above zero.
    """
    reasons = []
    for task in tasks or sorted(manifest["tasks"]):
        found = metrics.get(task)
        if task not in manifest["tasks"]:
            reasons.append(f"{task}: not in the bundle, which has {sorted(manifest['tasks'])}")
        elif not isinstance(found, dict):
            reasons.append(f"{task}: not judged")
        elif found.get("bundle") != manifest["digest"]:
            reasons.append(f"{task}: judged with another bundle")
        elif missing := _missing(found, band=manifest["tasks"][task]["band"]):
            first = found.get("reasons", {}).get(missing[0])
            why = f" ({missing[0]}: {first})" if first else ""
            reasons.append(f"{task}: no {', '.join(missing)}{why}")
        elif require_gain and found["gain_low"] <= 0:
            reasons.append(
                f"{task}: gain over persistence {found['gain']:+.4f}, 95 % interval "
                f"{found['gain_low']:+.4f} to {found['gain_high']:+.4f}, is not above zero"
            )
    return "; ".join(reasons) or None


def _missing(found: dict[str, Any], *, band: bool) -> list[str]:
    names = REQUIRED + (REQUIRED_OF_BAND if band else ())
    return [name for name in names if not _is_number(found.get(name))]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
