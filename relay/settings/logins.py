"""Logins: one contract at a vendor each, with its credentials and limits, and what the vendor can do at all."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field

from relay.events import Operation
from relay.settings.base import Model, Seconds, Secret

STATUS_HEADER = "状態"
"""bme's permission column. Never mapped: an empty cell in it subscribes people again who left."""


LIMIT_MAX = 1_000_000_000_000
"""No limit of a contract is near this, and Postgres still counts so far."""


LOGIN_FAILURES_PER_HOUR_MAX = 5
"""So many refused logins within an hour, in all replicas together, and nobody tries again before the hour is over. No
vendor here tells after how many it locks a contract; elsewhere it is often ten."""


class LoginBase(Model):
    """What every contract at a vendor has. `name` is the key in the TOML file."""

    operations: ClassVar[frozenset[Operation]]
    modes: ClassVar[frozenset[str]]

    name: str = ""
    base_url: str = Field(pattern=r"^https?://[^\s?#]+$")
    connect_timeout_s: Seconds = 10
    upload_timeout_s: Annotated[float, Field(gt=0, le=3600)] = 600
    attempts_max: Annotated[int, Field(ge=1, le=1000)] = 10
    login_failures_per_hour_max: Annotated[int, Field(ge=1, le=60)] = LOGIN_FAILURES_PER_HOUR_MAX
    rows_max: Annotated[int, Field(ge=1, le=LIMIT_MAX)] | None = None
    unknown_address_messages: tuple[str, ...] = ()

    @property
    def file_bytes_max(self) -> int:
        """The largest file this contract takes, in bytes."""
        raise NotImplementedError

    @property
    def flush_after_s(self) -> float:
        """How long data waits to share a file where the account says nothing."""
        return 60

    @property
    def flush_opt_outs_after_s(self) -> float:
        """The same for opt-outs."""
        return 10

    @property
    def token_lasts_s(self) -> float:
        """After how long a token is renewed, where the vendor has any."""
        return 0

    @property
    def calls_per_day(self) -> int | None:
        """The contract's calls a day, or None where the vendor counts none."""
        return None

    @property
    def settle_after_s(self) -> float:
        """How long the vendor may still be importing after it has taken a file."""
        return 0

    @property
    def pauses_for_columns(self) -> bool:
        """Whether data waits where the vendor's template lacks a column; else that is only told."""
        return True


class HaihaiLogin(LoginBase):
    """One contract at 配配メール: `base_url` is the host of the contract."""

    operations: ClassVar[frozenset[Operation]] = frozenset(Operation)
    modes: ClassVar[frozenset[str]] = frozenset({"all", "create"})

    vendor: Literal["haihai"]
    aid: int = Field(ge=1)
    login_id: str = Field(min_length=1)
    transport_password: Secret
    password_field: str = "transport_passwd"  # noqa: S105 - the name of a form field
    server: Literal["shared", "dedicated"] = "shared"
    file_bytes_limit: Annotated[int, Field(ge=1_000, le=LIMIT_MAX)] | None = None
    calls_per_day_limit: Annotated[int, Field(ge=1, le=LIMIT_MAX)] | None = None
    settle_wait_s: Seconds = 60
    report_option: Literal[0, 1, 2] = 1
    extra_fields: dict[str, Secret] = Field(default_factory=dict)

    @property
    def file_bytes_max(self) -> int:
        """10 MB on a shared server, 30 MB on a dedicated one (its API document), read as powers of ten to be safe."""
        return self.file_bytes_limit or (10_000_000 if self.server == "shared" else 30_000_000)

    @property
    def calls_per_day(self) -> int | None:
        """240 on a shared server, 86,400 on a dedicated one, reset at 00:00 Japan time."""
        return self.calls_per_day_limit or (240 if self.server == "shared" else 86_400)

    @property
    def flush_after_s(self) -> float:
        """240 calls a day (seen) leave one every 6 minutes on a shared server, for all accounts and opt-outs."""
        return 900 if self.server == "shared" else super().flush_after_s

    @property
    def flush_opt_outs_after_s(self) -> float:
        """For one account with one kind of opt-out, 144 files of those and 96 of data make a shared server's day.

        Were it shorter, a busy day's calls would be spent by noon.
        """
        return 600 if self.server == "shared" else super().flush_opt_outs_after_s

    @property
    def settle_after_s(self) -> float:
        """Whether accepted files are imported in their order is not known, so relay waits between files."""
        return self.settle_wait_s


class BmeLogin(LoginBase):
    """One contract at blastmail or blaynmail: the same REST API under two brands."""

    operations: ClassVar[frozenset[Operation]] = frozenset(Operation) - {Operation.BAN}
    modes: ClassVar[frozenset[str]] = frozenset({"all", "create", "update"})

    vendor: Literal["blastmail", "blaynmail"]
    base_url: str = Field(default="https://api.bme.jp/rest/1.0", pattern=r"^https?://[^\s?#]+$")
    username: str = Field(min_length=1)
    password: Secret
    api_key: Secret
    file_field: str = "import"
    file_bytes_limit: Annotated[int, Field(ge=1_000, le=LIMIT_MAX)] = 10_000_000
    token_renew_after_s: Annotated[float, Field(gt=0, le=3600)] = 3000
    status_header: str = STATUS_HEADER
    template_check: Literal["pause", "tell", "off"] = "pause"

    @property
    def file_bytes_max(self) -> int:
        """No limit is documented; a file of 10 MB takes the vendor over a minute already."""
        return self.file_bytes_limit

    @property
    def token_lasts_s(self) -> float:
        """Tokens live an hour at least (seen); they are renewed ahead of time."""
        return self.token_renew_after_s

    @property
    def pauses_for_columns(self) -> bool:
        """Unless the settings say otherwise: where a template and what an import takes differ, that is the way out."""
        return self.template_check == "pause"


Login = HaihaiLogin | BmeLogin
LoginModel = Annotated[Login, Field(discriminator="vendor")]

LOGIN_MODELS: Mapping[str, type[Login]] = {
    vendor: model for model in get_args(Login) for vendor in get_args(model.model_fields["vendor"].annotation)
}
"""The model by the value of `vendor`."""
