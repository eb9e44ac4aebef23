"""What the stores raise of their own."""


class StoreError(Exception):
    """A store could not do as asked; the message names the server, the view and the rows."""
