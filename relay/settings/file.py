"""The TOML file: sources, logins, accounts and who may use the status API."""

import json
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from relay import csvline
from relay.events import TYPES, Keys, Operation
from relay.settings.base import Model, Name, Seconds, Secret
from relay.settings.columns import Column, ColumnOrPath, plain_path
from relay.settings.logins import Login, LoginModel
from relay.settings.sources import Source

Scope = Literal["read", "operate", "pii"]


class ApiToken(Model):
    """Who may use the status API: the SHA-256 of the token (`relay token new` makes both) and what it may do."""

    name: str = ""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    scopes: frozenset[Scope] = frozenset({"read"})


class Account(Model):
    """One destination under a login. `columns` maps the vendor's headers to where the values are in `data`."""

    name: str = ""
    login: str
    mode: Literal["all", "create", "update"] = "all"
    address: str = "email"
    columns: dict[str, ColumnOrPath]
    flush_after_s: Seconds | None = None
    flush_opt_outs_after_s: Seconds | None = None
    unencodable: Literal["replace", "reject"] = "replace"
    operations: dict[str, Operation | Literal["ignore"]] = Field(default_factory=dict)
    group_id: int | None = Field(default=None, ge=1)
    step_plan_id: int | None = Field(default=None, ge=1)
    delete_error_records: bool = False

    @field_validator("operations")
    @classmethod
    def _known_types(cls, operations: dict[str, Any]) -> dict[str, Any]:
        unknown = sorted(set(operations) - set(TYPES))
        if unknown:
            raise ValueError(f"unknown types {unknown}; known are {sorted(TYPES)}")
        return operations

    @field_validator("columns")
    @classmethod
    def _encodable_headers(cls, columns: dict[str, Column]) -> dict[str, Column]:
        for header in columns:
            if not header or csvline.unencodable(header):
                raise ValueError(f"the header {header!r} is empty or has no Shift_JIS (CP932) form")
        return columns

    @model_validator(mode="after")
    def _one_address_column(self) -> Self:
        if self.address == "" or plain_path(self.address) is None:
            raise ValueError("`address` must be a plain dotted path into `data`")
        if len([1 for column in self.columns.values() if column.path == self.address]) != 1:
            raise ValueError(f"exactly one column must have the path of the address, {self.address!r}")
        return self

    @property
    def address_header(self) -> str:
        """The header of the column that carries the customer's address."""
        return next(header for header, column in self.columns.items() if column.path == self.address)

    def operation(self, event_type: str) -> Operation | None:
        """What a type becomes at this account; None means that it is ignored here."""
        chosen = self.operations.get(event_type, TYPES[event_type])
        return chosen if isinstance(chosen, Operation) else None


# -- the whole file --------------------------------------------------------------------------------------------------


def _named(tables: object) -> object:
    """Tell each table its name, which is its key."""
    if not isinstance(tables, dict):
        return tables
    return {key: {**value, "name": key} if isinstance(value, dict) else value for key, value in tables.items()}


class Api(Model):
    """Who may use the status API."""

    tokens: Annotated[dict[Name, ApiToken], BeforeValidator(_named)] = Field(default_factory=dict)


class Settings(Model):
    """The TOML file, whole and consistent."""

    sources: Annotated[dict[Name, Source], BeforeValidator(_named)] = Field(min_length=1)
    logins: Annotated[dict[Name, LoginModel], BeforeValidator(_named)] = Field(min_length=1)
    accounts: Annotated[dict[Name, Account], BeforeValidator(_named)] = Field(min_length=1)
    api: Api = Api()

    def login_of(self, account: Account) -> Login:
        """The login that an account belongs to."""
        return self.logins[account.login]

    def accounts_of(self, login: str) -> tuple[Account, ...]:
        """The accounts under a login, in the order of the file."""
        return tuple(a for a in self.accounts.values() if a.login == login)

    def login_fingerprint(self, login: str, keys: Keys) -> str:
        """Fingerprint a login's and its accounts' settings: a paused lane goes on by itself where it differs.

        Defaults do not count, so that the same file has the same fingerprint in a relay that knows more settings.
        """
        parts = [self.logins[login], *self.accounts_of(login)]
        text = json.dumps([part.model_dump(exclude_defaults=True) for part in parts], default=_plain, sort_keys=True)
        return keys.settings(text.encode("utf-8"))


def _plain(value: object) -> object:
    return value.value if isinstance(value, Secret) else str(value)
