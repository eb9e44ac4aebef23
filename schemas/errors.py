"""The one family of errors that users see: a single line, without a traceback, and exit code 1."""


class QosError(Exception):
    """A fault in what the user gave: says what, where, how many, the first offender, what is allowed.

    Command lines print `str(error)` and exit with 1; everything else is a fault of ours and rises.
    """


def listed(names: object, limit: int = 5) -> str:
    """At most `limit` of the names, quoted and comma-separated, then how many more there are."""
    items = [repr(name) for name in names]  # type: ignore[attr-defined]
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(items[:limit]) + more
