"""What the demo's parts, its settings and its command agree on: names, ports and passwords, all of them public."""

from collections.abc import Mapping
from typing import Literal

Part = Literal["vendors", "traffic"]
"""What of the demo can run by itself."""

PORTS: Mapping[str, int] = {"haihai": 9101, "blastmail": 9102, "blaynmail": 9103}
"""Where `--part vendors` serves each vendor, unless told otherwise."""

USER = "demo"
"""The login at 配配メール, and the contract's user at blastmail and blaynmail."""

AID = 1
PASSWORD = "demo-password"  # noqa: S105 - the demo's own
SIGNING_SECRET = "whsec_ZGVtbyBzZWNyZXQgb2YgdGhlIGNybSBzb3VyY2U="  # noqa: S105 - the demo's own
COLUMNS: Mapping[str, str] = {
    "氏名": "name",
    "フリガナ": "kana",
    "生年月日": "birthday",
    "都道府県": "prefecture",
    "会員種別": "plan",
}
"""The vendors' headers, but for the address, and the field of a customer that each holds."""

CUSTOMERS = 500
RATE = 5
"""Webhooks a second of `--part traffic`, unless told otherwise: enough to fill a chart, little for a laptop."""

RATE_MAX = 200
"""More is a load test, for which one sender in Python is the wrong tool."""
