"""What a record must lose before it is written: subscriber ids and exact positions."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from nef.client.read_json import NotJson, read_json

_IDENTITIES = frozenset(
    name.lower()
    for name in (
        "ue_id", "ueId", "supi", "gpsi", "imsi", "msisdn", "externalId", "external_identifier",
        "extGroupId", "externalGroupId", "addedExternalIds", "addedMsisdns", "cancelExternalIds",
        "cancelMsisdns", "ipv4Addr", "ipv6Addr", "ueIpv4Addr", "ueIpv6Addr", "macAddr",
        "ip_address_v4", "ip_address_v6", "mac_address", "phoneNumber", "networkAccessIdentifier",
        "publicAddress", "privateAddress", "ipv6Address", "ipv4Address", "name",
    )
)  # fmt: skip
_POSITIONS = frozenset(
    (
        "latitude", "longitude", "lat", "lon", "lng", "altitude", "point", "geographicarea",
        "civicaddress", "userlocation", "x", "y", "z",
    )
)  # fmt: skip
_SECRETS = frozenset(
    ("access_token", "refresh_token", "accesstoken", "refreshtoken", "password", "sinkcredential",
     "authorization")
)  # fmt: skip
MAX_TEXT = 4096


@dataclass(frozen=True)
class Protection:
    """pseudonym: of one subscriber id; scrub: a text with every subscriber id in it replaced;
    coarse: of latitude and longitude in degrees, None: positions are left out."""

    pseudonym: Callable[[str], str]
    scrub: Callable[[str], str]
    coarse: Callable[[float, float], tuple[float, float]] | None = None

    def position(
        self, latitude: float | None, longitude: float | None
    ) -> tuple[float, float] | tuple[None, None]:
        """What may be kept of a position; None for one that is not whole."""
        if self.coarse is None or latitude is None or longitude is None:
            return None, None
        return self.coarse(latitude, longitude)

    def text(self, body: bytes | str) -> str:
        """At most `MAX_TEXT` characters of a body, safe to keep: ids replaced, positions left out."""
        if isinstance(body, str):
            body = body.encode("utf-8", "replace")
        try:
            content = read_json(body)
        except NotJson:
            return self.scrub(body[: 4 * MAX_TEXT].decode("utf-8", "replace"))[:MAX_TEXT]
        return orjson.dumps(self.json(content)).decode()[:MAX_TEXT]

    def json(self, value: Any, name: str = "") -> Any:
        """Parsed JSON, safe to keep."""
        plain = name.lower()
        if plain in _SECRETS or plain in _POSITIONS:
            return None
        if isinstance(value, dict):
            return {self.scrub(key): self.json(item, key) for key, item in value.items()}
        if isinstance(value, list):
            return [self.json(item, name) for item in value]
        if plain in _IDENTITIES and isinstance(value, str | int) and not isinstance(value, bool):
            return self.pseudonym(str(value)) if value != "" else value
        if isinstance(value, str):
            return self.scrub(value)
        if isinstance(value, int | float) and abs(value) >= 1e9:  # as long as a subscriber id
            return self.scrub(str(value))
        return value
