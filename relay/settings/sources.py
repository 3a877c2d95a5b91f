"""Sources: who sends webhooks, how they prove it, what they may ask for, and where what they say is in their bodies."""

from collections.abc import Mapping
from contextlib import suppress
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, PlainValidator, ValidationInfo, field_validator, model_validator

from relay.events import TYPES, Operation
from relay.settings.base import Model, Secret
from relay.settings.columns import compiles

WEBHOOKS_PER_S_MIN = 0.001
"""Three or four an hour. With much less, how long to wait is no number any more."""

HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$")]
Network = IPv4Network | IPv6Network


def network(given: object) -> Network:
    """Read a network; raises ValueError. A number is none: the library would take it for a single address."""
    if isinstance(given, IPv4Network | IPv6Network):
        return given
    problem = 'is no network, as "10.0.0.0/8" and "2001:db8::/32" are'
    if isinstance(given, str) and "%" not in given:  # a zone means nothing on other machines
        with suppress(ValueError):
            return ip_network(given)
        with suppress(ValueError):
            meant = ip_network(given, strict=False)
            problem = f"{given} has host bits set; did you mean {meant}?"
    raise ValueError(problem)


_MAPPED = IPv6Network("::ffff:0:0/96")
"""IPv4 as sockets that speak IPv6 show it."""


def unmapped(network: Network) -> Network:
    """Give IPv4 in IPv6 (`::ffff:10.0.0.0/104`) as the IPv4 that it is, any other network as it is."""
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        mapped = network.network_address.ipv4_mapped
        return IPv4Network((int(mapped or 0), network.prefixlen - _MAPPED.prefixlen))
    return network


def _some_networks(given: object) -> object:
    if isinstance(given, list | tuple) and not given:  # as a template leaves it that had nothing to put in
        raise ValueError("needs at least one; leave it out to allow all")
    return given


Networks = Annotated[tuple[Annotated[Network, PlainValidator(network)], ...], BeforeValidator(_some_networks)]


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


_EXPECTED_PLACE = 'expected a path into the body, or { header = "Name" }'


class Place(Model):
    """Where a value is: in the body by a path (plain or JMESPath), or in a header."""

    path: str | None = None
    header: HeaderName | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.path is None) == (self.header is None):
            raise ValueError(_EXPECTED_PLACE)
        if self.path is not None:
            compiles(self.path)
        return self


def _place(given: object) -> object:
    if not isinstance(given, str | Mapping | Place):
        raise ValueError(_EXPECTED_PLACE)  # noqa: TRY004 - pydantic collects ValueErrors only
    return {"path": given} if isinstance(given, str) else given


PlaceOrPath = Annotated[Place, BeforeValidator(_place)]


class Plain(Model):
    """Where an arbitrary JSON body has what a webhook needs. Without `time` it happened when it arrived."""

    id: PlaceOrPath
    type: PlaceOrPath
    time: PlaceOrPath | None = None
    time_format: Literal["iso8601", "unix", "unix_ms"] = "iso8601"
    data: str = "@"

    @field_validator("time_format")
    @classmethod
    def _has_a_time(cls, time_format: str, info: ValidationInfo) -> str:
        if time_format != "iso8601" and info.data.get("time", time_format) is None:
            raise ValueError("has no effect without `time`")
        return time_format

    @field_validator("data")
    @classmethod
    def _data_compiles(cls, data: str) -> str:
        compiles(data)
        return data


class Source(Model):
    """An internal system that sends webhooks: signed (Standard Webhooks, or over the body alone) or with a token.

    `types` translates the sender's own names to relay's. `operations` are what it may ask for, `networks` where it may
    send from (left out: anywhere). `customer_id` and `previous_address` are where `data` names the customer beside the
    address. `webhooks_per_s` and `webhooks_burst` limit it in each process.
    """

    name: str = ""
    signing_secrets: tuple[Secret, ...] = ()
    bearer_tokens: tuple[Secret, ...] = ()
    body_signature: BodySignature | None = None
    accounts: tuple[str, ...] = Field(min_length=1)
    operations: Annotated[frozenset[Operation], Field(min_length=1)] = frozenset(Operation)
    networks: Networks = ()
    webhooks_per_s: Annotated[float, Field(ge=WEBHOOKS_PER_S_MIN, le=1_000_000, allow_inf_nan=False)] | None = None
    webhooks_burst: Annotated[int, Field(ge=1, le=1_000_000)] = 1_000
    order_by: Literal["occurred", "arrival"] = "occurred"
    types: Mapping[str, str] = Field(default_factory=dict)
    plain: Plain | None = None
    customer_id: str | None = None
    previous_address: str | None = None
    without_address: Literal["refuse", "skip"] = "refuse"

    @field_validator("webhooks_burst")
    @classmethod
    def _has_a_rate(cls, burst: int, info: ValidationInfo) -> int:
        if info.data.get("webhooks_per_s", burst) is None:
            raise ValueError("has no effect without `webhooks_per_s`")
        return burst

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
