"""The search knows addresses as the door does: whoever could be received can be found, by any spelling."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from relay.columns import Plan
from relay.errors import Invalid
from relay.events import Keys
from relay.settings import Column
from relay.status.asked import CustomerSearch

KEYS = Keys(b"0123456789abcdef")
DOOR = Plan({"E-Mail": Column(path="email")}, "email")
PARTS = (
    "taro",
    "Taro",
    "ｔａｒｏ",
    "ı",
    "ß",
    "..",
    "+x",
    "@",
    "＠",
    "example.jp",
    "EXAMPLE.JP",
    "例え.jp",
    " ",
    "　",
    "\t",
    "\n",
    "\0",
)
ADDRESSES = st.lists(st.sampled_from(PARTS) | st.text(max_size=2), max_size=6).map("".join)


def received(email: str) -> bytes | None:
    """The customer as an event has it; None if the door refuses the address."""
    try:
        return KEYS.customer(DOOR.render({"email": email}, "replace").address)
    except Invalid:
        return None


def asked(email: str) -> bytes | None:
    """The customer who is looked for; None if the search refuses the address."""
    try:
        return KEYS.customer(CustomerSearch.model_validate_json(json.dumps({"email": email}), strict=True).email)
    except ValidationError:
        return None


@given(ADDRESSES)
@example("taro@example.jp")
@example(" Taro@Example.JP\t")
@example("ｔａｒｏ＠ｅｘａｍｐｌｅ．ｊｐ")
@example("　taro@example.jp　")
def test_who_can_be_received_can_be_found(email: str) -> None:
    """Both take the same addresses, and take them for the same customer."""
    assert asked(email) == received(email)


@pytest.mark.parametrize("spelling", ["TARO@EXAMPLE.JP", "Taro@example.jp", "  taro@example.jp\n", "　taro@example.jp"])
def test_any_spelling_finds_the_customer(spelling: str) -> None:
    """Upper and lower case and white space around it, full-width too, make no difference."""
    assert asked(spelling) == received("taro@example.jp")


@pytest.mark.parametrize("email", ["ｔａｒｏ@example.jp", "taro＠example.jp", "太郎@example.jp"])
def test_full_width_addresses_are_nobodys(email: str) -> None:
    """Neither is an event received under one, nor is anybody looked for: the caller is told."""
    assert received(email) is None
    assert asked(email) is None
