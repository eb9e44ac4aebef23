"""What the stores raise of their own."""


class StoreError(Exception):
    """A store could not do as asked; the message names the server or the view, and how far it came."""

    @classmethod
    def at(cls, view: str, column: str, problem: str) -> "StoreError":
        """What is wrong with a column of the rows for a view."""
        return cls(f"view {view}: column {column}: {problem}")

    @classmethod
    def halted(cls, server: str, view: str, done: int, of: int, why: object) -> "StoreError":
        """What stopped a write, and where."""
        return cls(f"{server}: view {view}: stopped after {done} of {of} rows: {why}")
