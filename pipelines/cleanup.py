"""Removes from a profile's online store what nobody can ask for; without --apply it only says so."""

import sys
from datetime import timedelta
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.table import Table

from feature_repo.store import open_store, quiet
from schemas.errors import QosError

if TYPE_CHECKING:
    from stores.cleanup import Finding


def main(
    profile: str = typer.Option("embedded", help="online store: embedded (SQLite) or redis."),
    apply: bool = typer.Option(False, "--apply", help="remove what is found."),
    grace_hours: float = typer.Option(24.0, min=0.0, help="kept so long after a row's ttl."),
) -> None:
    """Prints rows past their ttl and values that are no longer registered, by kind and view."""
    from stores.cleanup import cleanup

    try:
        with quiet():
            found = cleanup(open_store(profile), apply, timedelta(hours=grace_hours))
    except (QosError, TypeError, ValueError, OSError) as error:
        sys.exit(f"cleanup: {error}")
    console = Console()
    if found:
        console.print(table(found, profile, applied=apply))
    else:
        console.print(f"nothing to remove from the online store of the {profile} profile")


def table(found: "list[Finding]", profile: str, *, applied: bool) -> Table:
    """A line a kind and view."""
    said = "removed from" if applied else "to be removed with --apply from"
    shown = Table(title=f"{said} the online store of the {profile} profile")
    for name in ("what", "view", "keys", "fields"):
        shown.add_column(name, justify="right" if name in ("keys", "fields") else "left")
    for one in found:
        shown.add_row(one.kind, one.view, f"{one.keys:,}", f"{one.fields:,}")
    return shown


if __name__ == "__main__":
    typer.run(main)
