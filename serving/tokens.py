"""JSON Web Tokens of the service: HS256 only, short-lived, refreshed once each."""

import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import jwt

Kind = Literal["access", "refresh"]
ALGORITHM = "HS256"
ISSUER = "qos-decision-service"
MOST_CHARACTERS = 4096
_MOST_CHECKED = 10_000
_NEEDED = ["sub", "exp", "iat", "iss", "jti"]


class WrongToken(Exception):
    """A token that is none of ours, or of another kind."""


class ExpiredToken(WrongToken):
    """It was one."""


@dataclass
class Tokens:
    """secret: at least 32 bytes; access_s, refresh_s: their lives [s]. Tokens name who they are of,
    never what one may do: that is looked up when they are used."""

    secret: str
    access_s: int = 1800
    refresh_s: int = 7 * 86400
    clock: Callable[[], float] = time.time
    _used: dict[str, float] = field(default_factory=dict, repr=False)
    _checked: dict[bytes, tuple[str, int]] = field(default_factory=dict, repr=False)

    def give(self, name: str, kind: Kind) -> str:
        """A new token of a user."""
        now = int(self.clock())
        life = self.access_s if kind == "access" else self.refresh_s
        claims = {
            "sub": name, "iss": ISSUER, "typ": kind, "jti": secrets.token_hex(16), "iat": now,
            "exp": now + life,
        }  # fmt: skip
        return jwt.encode(claims, self.secret, algorithm=ALGORITHM)

    def owner_of(self, token: str, kind: Kind = "access") -> str:
        """Whose it is; a refresh token is taken, and is wrong the second time.

        Raises ExpiredToken, WrongToken.
        """
        if len(token) > MOST_CHARACTERS:
            raise WrongToken("too long")
        now = self.clock()
        if kind == "refresh":
            claims = self._claims(token, kind)
            name, until = str(claims["sub"]), int(claims["exp"])
        else:
            name, until = self._access(token)
        if until <= now:
            raise ExpiredToken("over")
        if kind == "refresh":
            self._take(str(claims["jti"]), until, now)
        return name

    def _access(self, token: str) -> tuple[str, int]:
        """Whose an access token is and when it ends; its signature is looked at once."""
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        found = self._checked.get(digest)
        if found is None:
            claims = self._claims(token, "access")
            found = str(claims["sub"]), int(claims["exp"])
            if len(self._checked) >= _MOST_CHECKED:
                self._checked.clear()
            self._checked[digest] = found
        return found

    def _claims(self, token: str, kind: Kind) -> dict[str, Any]:
        """What a token says, whose signature, issuer and kind are right; it may be over."""
        options: jwt.types.Options = {
            "require": _NEEDED, "verify_exp": False, "verify_iat": False
        }  # fmt: skip
        try:
            claims: dict[str, Any] = jwt.decode(
                token, self.secret, algorithms=[ALGORITHM], issuer=ISSUER, options=options
            )
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            raise WrongToken(type(error).__name__) from None
        if claims.get("typ") != kind or type(claims["exp"]) is not int:
            raise WrongToken("of another kind")
        return claims

    def _take(self, number: str, until: float, now: float) -> None:
        self._used = {one: end for one, end in self._used.items() if end > now}
        if number in self._used:
            raise WrongToken("used before")
        self._used[number] = until
