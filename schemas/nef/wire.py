"""What every wire message has: two dialects read, one written, and its field types (TS 29.571)."""

import ipaddress
from functools import cache
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from schemas.units import ratio_of_error_rate, standard_bit_rate


def _no_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("a truth value is no number")
    return value


def _text_of_int(value: object) -> object:
    """Emulators send references as integers; the standard's are text."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _ipv4(value: str) -> str:
    try:
        return str(ipaddress.IPv4Address(value))
    except ValueError:
        raise ValueError("no IPv4 address, such as 198.51.100.1") from None


def _ipv6(value: str) -> str:
    try:
        return str(ipaddress.IPv6Address(value))
    except ValueError:
        raise ValueError("no IPv6 address, such as 2001:db8::1") from None


def _error_rate(value: str) -> str:
    ratio_of_error_rate(value)
    return value


MAX_WHOLE = 2**53  # whole numbers above it differ between JSON readers (RFC 8259, 6)

Int = Annotated[int, BeforeValidator(_no_bool), Field(ge=-MAX_WHOLE, le=MAX_WHOLE)]
Uinteger = Annotated[Int, Field(ge=0)]
DurationSec = Annotated[Int, Field(ge=0)]
Volume = Annotated[Int, Field(ge=0)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=4096)]
Reference = Annotated[Text, BeforeValidator(_text_of_int)]
Link = Text
BitRate = Annotated[str, AfterValidator(standard_bit_rate)]
PacketErrRate = Annotated[str, AfterValidator(_error_rate)]
PacketDelBudget = Annotated[Int, Field(ge=1)]
ExtPacketDelBudget = Annotated[Int, Field(ge=1)]
PacketLossRate = Annotated[Int, Field(ge=0, le=1000)]
AverWindow = Annotated[Int, Field(ge=1, le=4095)]
MaxDataBurstVol = Annotated[Int, Field(ge=1, le=4095)]
ExtMaxDataBurstVol = Annotated[Int, Field(ge=4096, le=2_000_000)]
PriorityLevel = Annotated[Int, Field(ge=1, le=127)]
Ipv4Addr = Annotated[Text, AfterValidator(_ipv4)]
Ipv6Addr = Annotated[Text, AfterValidator(_ipv6)]
MacAddr48 = Annotated[str, StringConstraints(pattern=r"^([0-9a-fA-F]{2})((-[0-9a-fA-F]{2}){5})$")]
SupportedFeatures = Annotated[str, StringConstraints(pattern=r"^[A-Fa-f0-9]*$")]
Gpsi = Annotated[str, StringConstraints(pattern=r"^(msisdn-[0-9]{5,15}|extid-[^@]+@[^@]+|.+)$")]
Msisdn = Annotated[str, StringConstraints(pattern=r"^[0-9]{5,15}$")]
NrCellId = Annotated[str, StringConstraints(pattern=r"^[A-Fa-f0-9]{9}$")]


@cache
def _needed(kind: type[BaseModel]) -> frozenset[str]:
    """The fields that a message must have: a null there is a fault, or a value of its own."""
    fields = kind.model_fields.items()
    return frozenset(field.alias or name for name, field in fields if field.is_required())


class Wire(BaseModel):
    """A message: fields bear the standard's names; unknown fields are skipped, as TS 29.501 asks.

    `other_names` maps another dialect's field name to the standard's; both names with different
    values is a fault. A null stands for an absent field.
    """

    model_config = ConfigDict(
        extra="ignore", frozen=True, allow_inf_nan=False, hide_input_in_errors=True
    )
    other_names: ClassVar[dict[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _one_dialect(cls, content: Any) -> Any:
        if not isinstance(content, dict):
            return content
        needed = _needed(cls)
        found = {
            name: value
            for name, value in content.items()
            if name not in cls.other_names and (value is not None or name in needed)
        }
        for other, standard in cls.other_names.items():
            value = content.get(other)
            if value is None:
                continue
            if found.get(standard) is not None and found[standard] != value:
                raise ValueError(f"{other} and {standard} differ; they are two names of one field")
            found[standard] = value
        return found

    @classmethod
    def read(cls, content: object) -> Self:
        """The message of parsed JSON; raises pydantic's `ValidationError` with every fault."""
        return cls.model_validate(content)

    def wire(self) -> dict[str, Any]:
        """The message as JSON values, in the standard's dialect, without absent fields."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def faults_of(error: ValidationError) -> list[tuple[str, str]]:
    """(place, reason) of every fault, without the offending values: they may name a subscriber."""
    return [
        (".".join(str(part) for part in fault["loc"]) or "body", fault["msg"])
        for fault in error.errors(include_url=False, include_input=False, include_context=False)
    ]
