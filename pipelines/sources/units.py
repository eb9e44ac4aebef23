"""Units that a mapping may name, each as (canonical unit, scale, offset): value * scale + offset."""

import difflib

from schemas.errors import QosError

_SAME = ("dBm", "dB", "deg", "1", "ms", "Mbps", "m/s", "-")
_CONVERTED: dict[str, tuple[str, float, float]] = {
    "s": ("ms", 1e3, 0.0),
    "us": ("ms", 1e-3, 0.0),
    "bps": ("Mbps", 1e-6, 0.0),
    "kbps": ("Mbps", 1e-3, 0.0),
    "Kbps": ("Mbps", 1e-3, 0.0),
    "Gbps": ("Mbps", 1e3, 0.0),
    "B/s": ("Mbps", 8e-6, 0.0),
    "kB/s": ("Mbps", 8e-3, 0.0),
    "MB/s": ("Mbps", 8.0, 0.0),
    "km/h": ("m/s", 1 / 3.6, 0.0),
    "mph": ("m/s", 0.44704, 0.0),
    "kn": ("m/s", 1852 / 3600, 0.0),
    "percent": ("1", 1e-2, 0.0),
    "%": ("1", 1e-2, 0.0),
    "permille": ("1", 1e-3, 0.0),
    "tenths of a percent": ("1", 1e-3, 0.0),
    "dB/10": ("dB", 0.1, 0.0),
    "dBm/10": ("dBm", 0.1, 0.0),
    "ratio": ("1", 1.0, 0.0),
}
UNITS = {unit: (unit, 1.0, 0.0) for unit in _SAME} | _CONVERTED


def conversion(unit: str, wanted: str, where: str) -> tuple[float, float]:
    """scale and offset from `unit` to the contract's `wanted`; raises `QosError` naming the known."""
    known = sorted(name for name, (target, _, _) in UNITS.items() if target == wanted)
    if unit not in UNITS:
        guess = difflib.get_close_matches(unit, UNITS, n=1)
        hint = f"; did you mean {guess[0]!r}?" if guess else ""
        raise QosError(f"{where}: unknown unit {unit!r}; for [{wanted}] there are {known}{hint}")
    target, scale, offset = UNITS[unit]
    if target != wanted:
        raise QosError(f"{where}: unit {unit!r} is no [{wanted}]; allowed: {known}")
    return scale, offset
