"""What outlives a restart: users and tokens, both only as hashes, the inventory, subscriptions."""

import hashlib
import json
import secrets
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import StaticPool

from schemas.errors import QosError

_META = sa.MetaData()
USERS = sa.Table(
    "nef_users", _META,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("salt", sa.LargeBinary, nullable=False),
    sa.Column("hash", sa.LargeBinary, nullable=False),
)  # fmt: skip
TOKENS = sa.Table(
    "nef_tokens", _META,
    sa.Column("hash", sa.LargeBinary, primary_key=True),
    sa.Column("user", sa.String(64), nullable=False),
    sa.Column("kind", sa.String(8), nullable=False),
    sa.Column("expires_at", sa.Float, nullable=False),
)  # fmt: skip
DOCUMENTS = sa.Table(
    "nef_documents", _META,
    sa.Column("kind", sa.String(16), primary_key=True),
    sa.Column("key", sa.String(200), primary_key=True),
    sa.Column("body", sa.Text, nullable=False),
)  # fmt: skip


def connect(url: str) -> sa.Engine:
    """An engine whose tables exist; `QosError` for a URL that leads to none."""
    try:
        parsed = sa.make_url(url)
        if parsed.drivername in ("postgres", "postgresql"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        options: dict[str, Any] = {"pool_pre_ping": True}
        if parsed.get_backend_name() == "sqlite":
            options["connect_args"] = {"check_same_thread": False}
            if parsed.database in (None, "", ":memory:"):
                options["poolclass"] = StaticPool
            else:
                Path(str(parsed.database)).parent.mkdir(parents=True, exist_ok=True)
        engine = sa.create_engine(parsed, **options)
        _META.create_all(engine)
    except (sa.exc.SQLAlchemyError, ImportError, OSError) as error:
        told = str(error) if isinstance(error, ImportError) else type(error).__name__
        raise QosError(f"NEF_SERVER_DATABASE_URL: no database can be used: {told}") from None
    return engine


def _scrypt(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=1)


def set_user(engine: sa.Engine, name: str, password: str) -> None:
    """Creates a user, or gives it this password."""
    salt = secrets.token_bytes(16)
    row = {"name": name, "salt": salt, "hash": _scrypt(password, salt)}
    with engine.begin() as connection:
        connection.execute(sa.delete(USERS).where(USERS.c.name == name))
        connection.execute(sa.insert(USERS).values(row))


def kept_password(engine: sa.Engine, name: str) -> tuple[bytes, bytes] | None:
    """Salt and hash of a user's password; None: no such user."""
    with engine.connect() as connection:
        row = connection.execute(sa.select(USERS).where(USERS.c.name == name)).first()
    return None if row is None else (bytes(row.salt), bytes(row.hash))


def password_is_right(kept: tuple[bytes, bytes] | None, password: str) -> bool:
    """As slow for an unknown user as for a wrong password."""
    salt, right = kept or (bytes(16), secrets.token_bytes(64))
    return secrets.compare_digest(_scrypt(password, salt), right)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def give_token(engine: sa.Engine, user: str, kind: str, lasts_s: float) -> str:
    """A random token; what is over goes."""
    token, now = secrets.token_urlsafe(32), time.time()
    row = {"hash": _digest(token), "user": user, "kind": kind, "expires_at": now + lasts_s}
    with engine.begin() as connection:
        connection.execute(sa.delete(TOKENS).where(TOKENS.c.expires_at < now))
        connection.execute(sa.insert(TOKENS).values(row))
    return token


def owner_of(engine: sa.Engine, token: str, kind: str, take: bool = False) -> str | None:
    """Whose token it is; None: nobody's, or over. take: it is good for once."""
    wanted = (TOKENS.c.hash == _digest(token)) & (TOKENS.c.kind == kind)
    with engine.begin() as connection:
        row = connection.execute(sa.select(TOKENS).where(wanted)).first()
        if row is None or row.expires_at < time.time():
            return None
        if take and connection.execute(sa.delete(TOKENS).where(wanted)).rowcount != 1:
            return None
    return str(row.user)


def documents(engine: sa.Engine, kind: str) -> dict[str, Any]:
    """All of a kind by key, in the order of keys."""
    with engine.connect() as connection:
        wanted = sa.select(DOCUMENTS).where(DOCUMENTS.c.kind == kind).order_by(DOCUMENTS.c.key)
        return {row.key: json.loads(row.body) for row in connection.execute(wanted)}


def save(engine: sa.Engine, kind: str, key: str, body: object) -> None:
    """Puts a document down, in the place of what was there."""
    with engine.begin() as connection:
        _drop(connection, kind, key)
        row = {"kind": kind, "key": key, "body": json.dumps(body)}
        connection.execute(sa.insert(DOCUMENTS).values(row))


def drop(engine: sa.Engine, kind: str, key: str) -> None:
    """Removes a document."""
    with engine.begin() as connection:
        _drop(connection, kind, key)


def _drop(connection: sa.Connection, kind: str, key: str) -> None:
    connection.execute(
        sa.delete(DOCUMENTS).where((DOCUMENTS.c.kind == kind) & (DOCUMENTS.c.key == key))
    )


def replace_all(engine: sa.Engine, parts: dict[str, Iterable[tuple[str, object]]]) -> None:
    """All documents of these kinds become these, or none does."""
    with engine.begin() as connection:
        for kind, rows in parts.items():
            connection.execute(sa.delete(DOCUMENTS).where(DOCUMENTS.c.kind == kind))
            values = [{"kind": kind, "key": k, "body": json.dumps(body)} for k, body in rows]
            if values:
                connection.execute(sa.insert(DOCUMENTS), values)
