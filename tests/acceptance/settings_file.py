"""relay's settings as tests write them: logins at simulated vendors, and accounts for generated customers."""

import json
from collections.abc import Mapping

from relay.demo.customers import PLANS
from relay.demo.sim_readers import NOT_THERE

PASSWORD = "the vendors' password"


def toml(value: object) -> str:
    """Write a value as TOML, tables inline."""
    match value:
        case Mapping():
            return "{ " + ", ".join(f"{toml(key)} = {toml(inner)}" for key, inner in value.items()) + " }"
        case list() | tuple():
            return f"[{', '.join(map(toml, value))}]"
        case _:
            return json.dumps(value, ensure_ascii=False)


def bme(sim_url: str, username: str, **more: object) -> dict[str, object]:
    """Make the settings of a login at a simulated blastmail; `sim_url` is the API's base URL."""
    return {
        "vendor": "blastmail",
        "base_url": sim_url,
        "username": username,
        "password": {"env": "VENDOR_PASSWORD"},
        "api_key": {"env": "VENDOR_PASSWORD"},
        "unknown_address_messages": [NOT_THERE],
        **more,
    }


def haihai(sim_url: str, aid: int, **more: object) -> dict[str, object]:
    """Make the settings of a login at a simulated 配配メール."""
    return {
        "vendor": "haihai",
        "base_url": sim_url,
        "aid": aid,
        "login_id": "user",
        "transport_password": {"env": "VENDOR_PASSWORD"},
        "settle_wait_s": 0.5,
        "calls_per_day_limit": 100_000,
        **more,
    }


HEADERS: Mapping[str, str] = {
    "氏名": "name",
    "フリガナ": "kana",
    "生年月日": "birthday",
    "都道府県": "prefecture",
    "会員種別": "plan",
}
"""The vendors' columns for generated customers, but for the address, and the field that each holds."""


def account(login: str, address_header: str = "E-Mail", **more: object) -> dict[str, object]:
    """Make the settings of an account for generated customers that is flushed quickly."""
    columns: dict[str, object] = {address_header: "email", **HEADERS}
    columns["生年月日"] = {"path": "birthday", "type": "date"}
    columns["会員種別"] = {"path": "plan", "type": "choice", "values": dict(PLANS)}
    return {
        "login": login,
        "flush_after_s": 0.5,
        "flush_opt_outs_after_s": 0.3,
        "operations": {"customer.banned": "stop"},
        "columns": columns,
        **more,
    }
