"""Logins for settings in tests of what comes before any vendor is asked."""

from collections.abc import Mapping
from typing import Any

LOGINS: Mapping[str, Mapping[str, Any]] = {
    "blast": {"vendor": "blastmail", "username": "u", "password": "p", "api_key": "k"},
    "haihai": {
        "vendor": "haihai",
        "base_url": "https://haihai.example.jp",
        "aid": 1,
        "login_id": "l",
        "transport_password": "p",
    },
}
"""One that has columns by name and no ban, and one that has everything."""
