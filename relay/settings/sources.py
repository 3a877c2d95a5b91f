"""Sources: who sends webhooks, how they prove it, what they may ask for, and where what they say is in their bodies."""

from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from relay.events import TYPES, Operation
from relay.settings.base import Model, Secret
from relay.settings.columns import compiles

HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$")]
Network = IPv4Network | IPv6Network


class BodySignature(Model):
    """An HMAC of the body alone in a header of the sender's own, as shop systems send it.

    It holds no time and no id: who has recorded such a request can send it again, and what stands in other headers is
    not covered. Where the sender knows Standard Webhooks, those are better.
    """

    header: HeaderName
    secrets: tuple[Secret, ...] = Field(min_length=1)
    algorithm: Literal["sha256", "sha512"] = "sha256"
    encoding: Literal["base64", "hex"] = "base64"
    prefix: str = ""


class Place(Model):
    """Where a value is: in the body by a path (plain or JMESPath), or in a header."""

    path: str | None = None
    header: HeaderName | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.path is None) == (self.header is None):
            raise ValueError('expected a path into the body, or { header = "Name" }')
        if self.path is not None:
            compiles(self.path)
        return self


def _place(given: object) -> object:
    return {"path": given} if isinstance(given, str) else given


PlaceOrPath = Annotated[Place, BeforeValidator(_place)]


class Plain(Model):
    """Where an arbitrary JSON body has what a webhook needs. Without `time` it happened when it arrived."""

    id: PlaceOrPath
    type: PlaceOrPath
    time: PlaceOrPath | None = None
    time_format: Literal["iso8601", "unix", "unix_ms"] = "iso8601"
    data: str = "@"

    @field_validator("data")
    @classmethod
    def _data_compiles(cls, data: str) -> str:
        compiles(data)
        return data


class Source(Model):
    """An internal system that sends webhooks: signed (Standard Webhooks, or over the body alone) or with a token.

    `types` translates the sender's own names to relay's. `operations` are what it may ask for, `networks` where it may
    send from (empty: anywhere). `customer_id` and `previous_address` are where `data` names the customer beside the
    address. `webhooks_per_s` and `webhooks_burst` limit it in each process.
    """

    name: str = ""
    signing_secrets: tuple[Secret, ...] = ()
    bearer_tokens: tuple[Secret, ...] = ()
    body_signature: BodySignature | None = None
    accounts: tuple[str, ...] = Field(min_length=1)
    operations: frozenset[Operation] = frozenset(Operation)
    networks: tuple[Network, ...] = ()
    webhooks_per_s: Annotated[float, Field(gt=0, le=1_000_000)] | None = None
    webhooks_burst: Annotated[int, Field(ge=1, le=1_000_000)] = 1_000
    order_by: Literal["occurred", "arrival"] = "occurred"
    types: Mapping[str, str] = Field(default_factory=dict)
    plain: Plain | None = None
    customer_id: str | None = None
    previous_address: str | None = None
    without_address: Literal["refuse", "skip"] = "refuse"

    @field_validator("types")
    @classmethod
    def _known_types(cls, types: Mapping[str, str]) -> Mapping[str, str]:
        unknown = sorted(set(types.values()) - set(TYPES))
        if unknown:
            raise ValueError(f"unknown types {unknown}; known are {sorted(TYPES)}")
        return types

    @field_validator("customer_id", "previous_address")
    @classmethod
    def _path_compiles(cls, path: str | None) -> str | None:
        if path is not None:
            compiles(path)
        return path

    @model_validator(mode="after")
    def _has_a_key(self) -> Self:
        if not self.signing_secrets and not self.bearer_tokens and self.body_signature is None:
            raise ValueError("needs `signing_secrets`, `bearer_tokens` or `body_signature`")
        return self

    @property
    def tracks(self) -> bool:
        """Whether customers of this source are followed when their address changes."""
        return self.customer_id is not None or self.previous_address is not None
