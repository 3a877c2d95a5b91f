"""Properties of what makes lines: folding, encoding, CSV records, addresses, columns."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, Literal

from pydantic import ValidationError

from relay import csvline
from relay.columns import CELL_CHARS_MAX, Plan, Rendered
from relay.errors import FieldError, Invalid
from relay.settings import Column

SHOWN_CHARACTERS = 12
"""So many characters of a value in a row are no chance in a text that is about it."""


def text_is_folded_once(text: str) -> None:
    """Folding twice is folding once; what is then encodable comes back; the rest is replaced, and only that."""
    folded = csvline.fold(text)
    assert csvline.fold(folded) == folded
    assert not re.search("[\x00-\x1f\x7f]", folded)
    missing = csvline.unencodable(text)
    replaced = csvline.replace_unencodable(text)
    assert csvline.unencodable(replaced) == ()
    assert csvline.decode(csvline.encode(replaced)) == replaced
    assert len(set(missing)) == len(missing)
    assert len(replaced) == len(folded)
    different = [before for before, after in zip(folded, replaced, strict=True) if before != after]
    assert tuple(dict.fromkeys(different)) == missing
    if not missing:
        assert csvline.decode(csvline.encode(folded)) == folded
    assert csvline.broken(text) == any(c == "\x00" or unicodedata.category(c) == "Cs" for c in text)


def bytes_are_decoded_or_refused(data: bytes) -> None:
    """Bytes are CP932 or UnicodeDecodeError, a record or ValueError; what is decoded is encoded to the same text."""
    try:
        text = csvline.decode(data)
    except UnicodeDecodeError:
        return
    if not csvline.unencodable(text) and csvline.fold(text) == text:
        assert csvline.decode(csvline.encode(text)) == text
    told = ""
    try:
        csvline.split(data)
    except ValueError as error:
        told = str(error)
    assert len(told) < 200, "an error that repeats what it was given"


def cells_come_back(cells: Sequence[str], repeated: str) -> None:
    """A record is one physical line that splits into its cells; its repetition fits it, and other texts hardly do."""
    clean = tuple(csvline.replace_unencodable(cell) for cell in cells)
    line = csvline.record(clean)
    assert line.endswith(b"\r\n")
    assert not set(line[:-2]) & set(b"\r\n\x00")
    assert csvline.split(line) == (clean or ("",))
    assert csvline.split(line[:-2]) == (clean or ("",))
    assert csvline.same_record(line, csvline.decode(line))
    assert csvline.same_record(line, ",".join(clean)) or any('"' in cell or cell != cell.strip() for cell in clean)
    if csvline.same_record(line, repeated):
        assert _letters(repeated) == _letters("".join(clean)), "a repetition fits that says something else"


def _letters(text: str) -> str:
    """What a repetition of a record must have in common with it, however it is quoted."""
    kept = csvline.fold(text).replace("￥", "\\").replace("￣", "~")
    return "".join(c for c in kept if c not in '",' and not c.isspace())


def addresses_are_read_or_refused(text: str) -> None:
    """An address comes back stripped and is read again to the same; anything else is a ValueError that repeats none."""
    try:
        address = csvline.address(text)
    except ValueError as error:
        _tells_nothing_of(text, str(error))
        return
    assert address == text.strip()
    assert csvline.address(address) == address
    assert csvline.unencodable(address) == ()
    assert csvline.fold(address) == address
    assert address.count("@") == 1
    assert not set(address) & set(' ",\r\n\t')


# -- columns ---------------------------------------------------------------------------------------------------------

COLUMNS: Mapping[str, Mapping[str, Any]] = {
    "E-Mail": {"path": "contact.email"},
    "氏名": {"path": "name"},
    "番号": {"path": "number", "type": "number"},
    "生年月日": {"path": "birthday", "type": "date", "format": "%Y年%m月%d日"},
    "会員種別": {"path": "plan", "type": "choice", "values": {"free": "無料", "1": "有料", "true": "㈱"}},
    "状態": {"type": "constant", "constant": "配信中"},
    "住所": {"path": "not_null(address.street, address, addresses[0].street)"},
    "合計": {"path": "orders[].total | [0]"},
    "要": {"path": "must", "required": True},
}
FUNCTIONS: Mapping[str, Mapping[str, Any]] = {
    "E-Mail": {"path": "contact.email"},
    "姓名": {"path": "join(' ', [family, given])"},
    "最大": {"path": "max(orders[].total)", "type": "number"},
    "式": {"path": "length(@) || sum(orders[*].total) || sort_by(orders, &total)[0].id || to_number(name)"},
}


def _plan(columns: Mapping[str, Mapping[str, Any]]) -> Plan:
    return Plan({header: Column.model_validate(column) for header, column in columns.items()}, "contact.email")


PLANS = (_plan(COLUMNS), _plan(FUNCTIONS))
"""Functions of JMESPath refuse most of what they are given, so they have a plan of their own."""


def lines_are_rendered_or_refused(data: Mapping[str, object]) -> None:
    """Whatever a customer's data are, they become cells that can be encoded, or are refused by field, untold."""
    ways: tuple[Literal["replace", "reject"], ...] = ("replace", "reject")
    for plan, unencodable in product(PLANS, ways):
        try:
            rendered = plan.render(data, unencodable)
        except Invalid as error:
            problems = error.problems
        else:
            _is_whole(rendered)
            assert unencodable == "replace" or rendered.replaced == 0
            continue
        assert problems
        for problem in problems:
            assert problem.field.startswith("data.")
            for text in _texts(data):
                _tells_nothing_of(text, problem.message)


def expressions_are_applied_or_refused(path: str, data: Mapping[str, object]) -> None:
    """An expression is none, or is applied to whatever customers have; where it cannot be, the field is at fault."""
    try:
        column = Column.model_validate({"path": path})
    except ValidationError:
        return
    plan = Plan({"E-Mail": Column(path="contact.email"), "x": column}, "contact.email")
    problems: tuple[FieldError, ...] = ()
    try:
        plan.render({**data, "contact": {"email": "taro@example.jp"}}, "replace")
    except Invalid as error:
        problems = error.problems
    assert {problem.field for problem in problems} <= {f"data.{path}"}


def _is_whole(rendered: Rendered) -> None:
    assert len(rendered.cells) in (len(COLUMNS), len(FUNCTIONS))
    assert csvline.address(rendered.address) == rendered.address
    assert rendered.cells[0] == rendered.address
    assert csvline.split(csvline.record(rendered.cells)) == rendered.cells
    assert all(len(cell) <= 2 * CELL_CHARS_MAX for cell in rendered.cells)


def _texts(value: object) -> list[str]:
    if isinstance(value, Mapping):
        return [text for one in value.values() for text in _texts(one)]
    if isinstance(value, list):
        return [text for one in value for text in _texts(one)]
    return [value] if isinstance(value, str) else []


def _tells_nothing_of(text: str, told: str) -> None:
    """Fail where a text of some length stands in what is told, unless it is what relay itself says."""
    shown = text.strip()
    assert len(shown) < SHOWN_CHARACTERS or shown not in told or shown in _OWN_WORDS, "a value was repeated"


_OWN_WORDS = " ".join(
    [
        "expected an e-mail address as text expected text, a number or true or false expected a number such as 1200 or",
        "an e-mail address of ASCII characters with one @ and something on either side of at most 254 characters, 64",
        "before the @ letters, digits and domain such as example.jp after the @",
        *(column.get("path", "") for column in (*COLUMNS.values(), *FUNCTIONS.values())),
    ]
)
