"""Settings, read once at the edge: the process's from the environment, sources, logins and accounts from one TOML file.

Everything here is frozen and checked; who gets it trusts it. All mistakes are reported together as `SettingsError`,
each with its path. What a vendor can do at all stands on its login model (`operations`, `file_bytes_max`), so that an
account which asks for more is refused at start and never at night.
"""

from relay.settings.base import Model, Name, Seconds, Secret
from relay.settings.columns import Column, ColumnOrPath, plain_path
from relay.settings.environment import SECRET_BYTES_MIN, Process, database_url, process
from relay.settings.file import Account, Api, ApiToken, Scope, Settings
from relay.settings.loading import load
from relay.settings.logins import (
    LOGIN_FAILURES_PER_HOUR_MAX,
    LOGIN_MODELS,
    STATUS_HEADER,
    BmeLogin,
    HaihaiLogin,
    Login,
    LoginBase,
    LoginModel,
)
from relay.settings.secret_files import secret_files
from relay.settings.sources import BodySignature, Network, Place, Plain, Source, unmapped

__all__ = [
    "LOGIN_FAILURES_PER_HOUR_MAX",
    "LOGIN_MODELS",
    "SECRET_BYTES_MIN",
    "STATUS_HEADER",
    "Account",
    "Api",
    "ApiToken",
    "BmeLogin",
    "BodySignature",
    "Column",
    "ColumnOrPath",
    "HaihaiLogin",
    "Login",
    "LoginBase",
    "LoginModel",
    "Model",
    "Name",
    "Network",
    "Place",
    "Plain",
    "Process",
    "Scope",
    "Seconds",
    "Secret",
    "Settings",
    "Source",
    "database_url",
    "load",
    "plain_path",
    "process",
    "secret_files",
    "unmapped",
]
