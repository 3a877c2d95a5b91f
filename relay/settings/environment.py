"""The process's own settings, from the environment."""

import re
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, collapse_addresses
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from relay.errors import FieldError, SettingsError
from relay.events import Keys
from relay.settings.base import Model, Secret
from relay.settings.mistakes import CONTRADICTION, mistakes
from relay.settings.sources import Network, network, unmapped

SECRET_BYTES_MIN = 16
"""A deployment's secret shorter than this could be guessed, and with it every customer's hash."""

_HOST = re.compile(r"(?:[^:@\[\]\s]*|\[[^\[\]\s]+\])(?::([0-9]{1,5}))?")
"""What asyncpg can take apart; where it cannot, its error quotes what stands there, and that is half of a password."""

PORT_MAX = 65_535
Port = Annotated[int, Field(ge=0, le=PORT_MAX)]


def _lower(given: object) -> object:
    return given.lower() if isinstance(given, str) else given


def _whole(given: object) -> object:
    """Take the key as it is in the environment: a stray blank at its end has hashed customers from the first day on."""
    return Secret.whole(given) if isinstance(given, str) else given


def _split(given: object) -> object:
    """Take a list in one variable: networks with commas between."""
    if not isinstance(given, str):
        return given
    found, problems = [], []
    for number, entry in enumerate(map(str.strip, given.split(",")), 1):
        try:
            found.append(network(entry))
        except ValueError as error:
            problems.append(f"entry {number}: {error}" if entry else f"entry {number} is empty")
    if problems:
        raise ValueError(f"{'; '.join(problems)}; expected networks with commas between")
    return found


def _not_everywhere(networks: tuple[Network, ...]) -> tuple[Network, ...]:
    """Refuse to trust every address: the left-most in X-Forwarded-For, which the sender wrote, would be believed."""
    six = [one for one in networks if isinstance(one, IPv6Network)]
    four = [one for one in map(unmapped, networks) if isinstance(one, IPv4Network)]
    everywhere = IPv4Network("0.0.0.0/0"), IPv6Network("::/0")
    if everywhere[0] in collapse_addresses(four) or everywhere[1] in collapse_addresses(six):
        raise ValueError("trusts every address, and so what senders write into X-Forwarded-For; name the proxies alone")
    return networks


Role = Literal["receive", "flush"]
"""What a process does: take webhooks, or upload files. Each answers questions and serves the ops page."""


def _roles(given: object) -> object:
    """Take roles with commas between."""
    return [role.strip().lower() for role in given.split(",")] if isinstance(given, str) else given


Roles = Annotated[frozenset[Role], BeforeValidator(_roles), Field(min_length=1)]

RETENTION_DAYS_MIN = 7
"""Senders repeat for days, and a webhook's id is recognised only while its event is in the log."""


def _for_ever_or_long_enough(days: int) -> int:
    if 0 < days < RETENTION_DAYS_MIN:
        raise ValueError(
            f"should be 0 (for ever) or {RETENTION_DAYS_MIN} or more: senders repeat for days, and a webhook's id is "
            "recognised only while its event is in the log"
        )
    return days


Proxies = Annotated[tuple[Network, ...], BeforeValidator(_split), AfterValidator(_not_everywhere)]


class Database(Model):
    """Where the log is: all that `relay migrate` needs."""

    model_config = ConfigDict(alias_generator=lambda field: f"RELAY_{field.upper()}", validate_by_name=True)

    database_url: Secret

    @field_validator("database_url")
    @classmethod
    def _postgres(cls, url: Secret) -> Secret:
        if not url.value.startswith(("postgresql://", "postgres://")):
            raise ValueError("should begin with postgresql://")
        authority = re.split("[/?#]", url.value.partition("://")[2], maxsplit=1)[0]
        hosts = [_HOST.fullmatch(host) for host in authority.rpartition("@")[2].split(",")]
        if not all(host and int(host[1] or 0) <= PORT_MAX for host in hosts):
            raise ValueError("should name a host behind the @; in a password / ? # @ : and % must be percent-encoded")
        return url


class Process(Database):
    """What one process needs to know before it reads the TOML file. Each field is a variable: `port` is RELAY_PORT."""

    secret_key: Annotated[Secret, BeforeValidator(_whole)]
    config: Path = Path("relay.toml")
    roles: Roles = frozenset(("receive", "flush"))
    spool_dir: Path = Path("/var/spool/relay")
    host: str = "0.0.0.0"  # noqa: S104 - webhooks come from other machines
    port: Port = 8080
    ops_host: str = "0.0.0.0"  # noqa: S104 - so do Prometheus and the kubelet
    ops_port: Port = 9090
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)] = "info"
    round_s: float = Field(default=1.0, gt=0, le=60)
    lease_s: float = Field(default=60.0, ge=5, le=3600)
    uploads_max: int = Field(default=100, ge=1, le=1000)
    database_statement_cache: int = Field(default=100, ge=0, le=10_000)
    trusted_proxies: Proxies = ()
    connections_max: int = Field(default=1_000, ge=10, le=100_000)
    head_bytes_max: int = Field(default=16_384, ge=1_024, le=1_000_000)
    head_timeout_s: float = Field(default=10.0, gt=0, le=600)
    body_timeout_s: float = Field(default=30.0, gt=0, le=600)
    body_bytes_max: int = Field(default=10_000_000, ge=1_000, le=1_000_000_000)
    webhook_bytes_max: int = Field(default=1_000_000, ge=1_000, le=1_000_000_000)
    receiving_bytes_max: int = Field(default=50_000_000, ge=1_000, le=100_000_000_000, validate_default=True)
    webhooks_max: int = Field(default=1_000, ge=1, le=100_000)
    values_max: int = Field(default=200_000, ge=1_000, le=100_000_000)
    nesting_max: int = Field(default=64, ge=2, le=500)
    string_characters_max: int = Field(default=100_000, ge=1_000, le=100_000_000)
    waiting_events_max: int = Field(default=20_000, ge=100, le=10_000_000)
    metrics_accounts_max: int = Field(default=200, ge=0, le=10_000)
    retention_days: Annotated[int, AfterValidator(_for_ever_or_long_enough)] = Field(default=0, ge=0, le=3_650)

    @field_validator("secret_key")
    @classmethod
    def _long_enough(cls, key: Secret) -> Secret:
        if len(key.value.encode()) < SECRET_BYTES_MIN:
            raise ValueError(f"should have {SECRET_BYTES_MIN} bytes or more; {_MAKE_A_KEY}")
        return key

    @field_validator("webhook_bytes_max")
    @classmethod
    def _within_a_body(cls, most: int, info: ValidationInfo) -> int:
        """Refuse what has no effect; the default is simply lowered with the other."""
        if most > info.data.get("body_bytes_max", most):
            raise ValueError("is more than RELAY_BODY_BYTES_MAX, which holds for every body")
        return most

    @field_validator("receiving_bytes_max")
    @classmethod
    def _at_least_a_body(cls, most: int, info: ValidationInfo) -> int:
        if most < info.data.get("body_bytes_max", most):
            told = f"({most:,}) is less than RELAY_BODY_BYTES_MAX; should be at least five times as much"
            raise PydanticCustomError(CONTRADICTION, "{told}", {"told": told})
        return most

    @property
    def keys(self) -> Keys:
        """What customers and webhooks are hashed with."""
        return Keys(self.secret_key.value.encode())


_MAKE_A_KEY = "`openssl rand -hex 32` makes one"
_NOT_SET = {
    "RELAY_DATABASE_URL": "is not set: it is the URL of a Postgres 15 or newer, as in postgresql://relay@db.example.com/"
    "relay; `relay demo` needs none and shows relay at work",
    "RELAY_SECRET_KEY": f"is not set, nor RELAY_SECRET_KEY_FILE: {_MAKE_A_KEY}; it must never change afterwards",
}
_SERVICE_LINK = "looks like a link that Kubernetes adds for a service of this name: set `enableServiceLinks: false`"


def process(env: Mapping[str, str]) -> Process:
    """Read the process's settings; a variable that is empty counts as not set.

    RELAY_DATABASE_URL and RELAY_SECRET_KEY may also be in files, named by the same variables with _FILE at the end.
    Raises SettingsError with all mistakes, each with the variable's name and never with its value.
    """
    return _read(Process, env)


def database_url(env: Mapping[str, str]) -> Secret:
    """Read the one setting that `relay migrate` needs. Raises SettingsError as `process` does."""
    return _read(Database, env).database_url


_Read = TypeVar("_Read", bound=Database)


def _read(model: type[_Read], env: Mapping[str, str]) -> _Read:
    names = [f"RELAY_{field.upper()}" for field in model.model_fields]
    given: dict[str, object] = {name: env[name] for name in names if env.get(name)}
    problems: list[FieldError] = []
    for name in names:
        if name in _NOT_SET and env.get(f"{name}_FILE"):
            if name in given:
                problems.append(FieldError(name, f"is set, and so is {name}_FILE: one of them is enough"))
            given[name] = {"file": env[f"{name}_FILE"]}
    found: _Read | None = None
    try:
        found = model.model_validate(given)
    except ValidationError as error:
        problems += [_helpful(problem, given) for problem in mistakes(error, given, lambda _: names)]
    if found is None or problems:
        # Outside of `except`: pydantic's error, which quotes what was given, must not be chained to ours.
        raise SettingsError(problems)
    return found


def _helpful(problem: FieldError, given: Mapping[str, object]) -> FieldError:
    if problem.field in Process.model_fields:  # pydantic's name for a default that does not go with what was given
        return FieldError(f"RELAY_{problem.field.upper()}", problem.message)
    value = given.get(problem.field)
    if value is None:
        return FieldError(problem.field, _NOT_SET[problem.field])
    if isinstance(value, str) and value.startswith("tcp://"):
        return FieldError(problem.field, _SERVICE_LINK)
    return problem
