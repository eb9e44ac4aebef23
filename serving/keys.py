"""API keys and passwords as they are kept: hashed. `python -m serving.keys --help` makes new ones."""

import hashlib
import hmac
import secrets
import sys
from collections.abc import Mapping
from typing import Annotated, get_args

import orjson
import typer

from schemas.errors import QosError
from serving.settings import ROLES, ApiKey, Role, User

PREFIX = "qosk_"
MIN_PASSWORD = 10
_MOST_CHARACTERS = 1024
_ABSENT = "scrypt:" + "0" * 32 + ":" + "0" * 128


def new_key() -> str:
    """256 random bits behind a prefix that logs know and leave out."""
    return PREFIX + secrets.token_urlsafe(32)


def key_hash(key: str) -> str:
    """SHA-256 in hex: enough for a random key, and fast."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def owner_of(key: str, keys: Mapping[str, ApiKey]) -> str | None:
    """Whose key it is; takes as long for every key, known or not."""
    digest, owner = key_hash(key), None
    for name, kept in keys.items():
        if hmac.compare_digest(digest, kept.sha256):
            owner = name
    return owner


def password_hash(password: str, salt: bytes | None = None) -> str:
    """scrypt (n 2^14, r 8, p 1) with its salt."""
    salt = secrets.token_bytes(16) if salt is None else salt
    made = hashlib.scrypt(
        password.encode("utf-8", "surrogatepass"), salt=salt, n=2**14, r=8, p=1, dklen=64
    )
    return f"scrypt:{salt.hex()}:{made.hex()}"


def password_is_right(name: str, password: str, users: Mapping[str, User]) -> bool:
    """As slow for an unknown name as for a wrong password."""
    user = users.get(name)
    kept = user.password if user else _ABSENT
    found = password_hash(password[:_MOST_CHARACTERS], bytes.fromhex(kept.split(":")[1]))
    return hmac.compare_digest(found, kept) and user is not None


app = typer.Typer(help="Keys and users of the decision service.", add_completion=False)
_Roles = Annotated[list[str], typer.Argument(help=f"any of {', '.join(get_args(Role))}")]


def _entry(name: str, roles: list[str], secret: str, value: str) -> str:
    wrong = [role for role in roles if role not in ROLES]
    if wrong:
        raise QosError(f"role {wrong[0]!r}: there is no such; known: {', '.join(ROLES)}")
    return orjson.dumps({name: {"roles": roles, secret: value}}).decode()


@app.command()
def key(name: str, roles: _Roles) -> None:
    """A new API key: printed once, to standard error; the entry for ML_API_KEYS to standard output."""
    made = new_key()
    typer.echo(_entry(name, roles, "sha256", key_hash(made)))
    typer.echo(f"key of {name}, kept nowhere: {made}", err=True)


@app.command()
def user(name: str, roles: _Roles) -> None:
    """The entry for ML_USERS; the password is read from standard input, or asked for."""
    if sys.stdin.isatty():
        password = typer.prompt("password", hide_input=True, confirmation_prompt=True)
    else:
        password = sys.stdin.readline().rstrip("\n")
    if not MIN_PASSWORD <= len(password) <= _MOST_CHARACTERS:
        raise QosError(f"password: {MIN_PASSWORD} to {_MOST_CHARACTERS} characters")
    typer.echo(_entry(name, roles, "password", password_hash(password)))


def main() -> None:
    """The command; a fault in what was given is one line."""
    try:
        app()
    except QosError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
