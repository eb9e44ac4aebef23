"""Making: one pure function a DVC stage. May import every room but serving."""

import sys

if "sqlalchemy" not in sys.modules and "dataframely" not in sys.modules:
    # The contracts' library imports SQLAlchemy where it finds it, to write contracts as SQL columns, which
    # nobody here asks for: more than a third of what most stages take to start.
    sys.modules["sqlalchemy"] = None  # type: ignore[assignment]
    try:
        import dataframely  # noqa: F401
    finally:
        del sys.modules["sqlalchemy"]
