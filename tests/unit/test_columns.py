"""What relay.columns promises: each `data` becomes one line's cells or a refusal that names every field at fault."""

import inspect
import sys
import time
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import csvline
from relay.columns import CELL_CHARS_MAX, NAMED_CHARACTERS_MAX, Plan, Rendered, Warning_, check
from relay.errors import FieldError, Invalid, SettingsError
from relay.settings import Account, Column, Settings

EMAIL = "taro@example.jp"


def plan(**columns: Column) -> Plan:
    """Make a plan of the address and other columns, whose headers do not matter here."""
    return Plan({"E-Mail": Column(path="email"), **columns}, "email")


def cell(column: Column, data: dict[str, Any]) -> str:
    """Render one column's cell."""
    return plan(c=column).render({"email": EMAIL, **data}, "reject").cells[1]


def problems(rendering: Plan, data: dict[str, Any]) -> tuple[FieldError, ...]:
    """Render what has to be refused and return the problems."""
    with pytest.raises(Invalid) as refused:
        rendering.render(data, "reject")
    return refused.value.problems


@pytest.mark.parametrize(
    ("column", "place"),
    [
        ({"type": "constant", "constant": "🍣"}, "constant"),
        ({"path": "plan", "type": "choice", "values": {"free": "無料", "paid": "𠮷"}}, "values.paid"),
        ({"path": "birthday", "type": "date", "format": "%Y🎂"}, "format"),
    ],
)
def test_what_the_settings_could_not_write_is_told_with_its_account(column: dict[str, Any], place: str) -> None:
    """Text in a column that has no Shift_JIS form is a mistake of the settings, not found out by the first customer."""
    account = Account.model_validate({"name": "news", "login": "b", "columns": {"mail": "email", "x": column}})
    settings = Settings.model_construct(accounts={"news": account})
    (problem,) = check(settings)
    assert problem.field == f"accounts.news.columns.x.{place}"
    assert "Shift_JIS" in problem.message
    assert check(Settings.model_construct(accounts={})) == []


# -- reading ---------------------------------------------------------------------------------------------------------


def test_cells_come_in_the_order_of_the_columns() -> None:
    """The cells stand as the columns do, wherever the address is among them."""
    columns = {"氏名": Column(path="name"), "E-Mail": Column(path="email"), "点": Column(path="points")}
    rendered = Plan(columns, "email").render({"points": 3, "email": EMAIL, "name": "山田"}, "replace")
    assert rendered == Rendered(("山田", EMAIL, "3"), EMAIL)


def test_a_dotted_path_goes_through_objects() -> None:
    """A plain dotted path is followed key by key; dashes and underscores belong to a key."""
    data = {"home-address": {"zip_code": {"first": "100"}}}
    assert cell(Column(path="home-address.zip_code.first"), data) == "100"


@pytest.mark.parametrize("name", [{}, {"first": {}}, "山田", ["first"], 3, None])
def test_a_path_that_leads_nowhere_is_empty(name: object) -> None:
    """A missing key, or something on the way that is no object, makes an empty cell without a warning."""
    rendered = plan(c=Column(path="name.first.kana")).render({"email": EMAIL, "name": name}, "reject")
    assert rendered == Rendered((EMAIL, ""), EMAIL)


def test_jmespath_reads_what_a_path_cannot() -> None:
    """Anything but a plain path is a JMESPath expression."""
    data = {"last": "山田", "first": "太郎", "tags": [{"n": "a"}, {"n": "b"}], "氏名": "高橋"}
    assert cell(Column(path="join(' ', [last, first])"), data) == "山田 太郎"
    assert cell(Column(path="tags[1].n"), data) == "b"
    assert cell(Column(path='"氏名"'), data) == "高橋"
    assert cell(Column(path="length(tags) > `1`"), data) == "true"
    assert cell(Column(path="nothing || ''"), data) == ""


def test_an_expression_that_does_not_apply_names_itself_not_the_value() -> None:
    """A JMESPath function that gets what it cannot take is a refusal, and the sender's values are not repeated."""
    (problem,) = problems(plan(c=Column(path="join(' ', [last, first])")), {"email": EMAIL, "last": "山田"})
    assert problem.field == "data.join(' ', [last, first])"
    assert "山田" not in problem.message


def test_an_expression_that_goes_too_deep_is_refused() -> None:
    """It compiled where there was room; a request that leaves it less is a refusal, not a failure."""
    rendering = plan(c=Column(path="!" * 250 + "name"))

    def below(frames: int) -> tuple[FieldError, ...]:
        return below(frames - 1) if frames else problems(rendering, {"email": EMAIL, "name": "山田"})

    room = sys.getrecursionlimit() - len(inspect.stack(0))
    (problem,) = below(room - 100)
    assert problem.message == "expected data that this expression can be applied to"


def test_all_problems_are_reported_together() -> None:
    """One refusal names every field at fault, each once."""
    rendering = plan(
        a=Column(path="points", type="number"),
        b=Column(path="birthday", type="date"),
        c=Column(path="name", required=True),
        d=Column(path="name", required=True),
    )
    data = {"email": "taro", "points": "many", "birthday": "31.5.1990"}
    assert [p.field for p in problems(rendering, data)] == ["data.email", "data.points", "data.birthday", "data.name"]


def test_refusals_hold_no_values() -> None:
    """No message repeats what the sender sent."""
    rendering = plan(
        a=Column(path="a", type="number"),
        b=Column(path="b", type="date"),
        c=Column(path="c", type="choice", values={"m": "男性"}),
        d=Column(path="d"),
    )
    data = {"email": "secretvalue", "a": "secretvalue", "b": "secretvalue", "c": "secretvalue", "d": ["secretvalue"]}
    with pytest.raises(Invalid) as refused:
        rendering.render(data, "reject")
    assert len(refused.value.problems) == 5
    assert "secretvalue" not in str(refused.value)


# -- the address -----------------------------------------------------------------------------------------------------


def test_the_address_is_sent_as_received() -> None:
    """The address keeps its case and loses the white space around it."""
    rendered = plan().render({"email": " Taro..Y@Docomo.NE.jp\u3000\n"}, "reject")
    assert rendered == Rendered(("Taro..Y@Docomo.NE.jp",), "Taro..Y@Docomo.NE.jp")


@pytest.mark.parametrize(
    ("email", "expected"),
    [
        (None, "expected a value"),
        ("", "expected a value"),
        (" \n", "expected a value"),
        (3, "expected an e-mail address as text"),
        ([EMAIL], "expected an e-mail address as text"),
        ("taro", "expected an e-mail address with one @"),
        ("ｔ@example.jp", "expected an e-mail address of ASCII"),
        ("ta\x00ro@example.jp", "NUL"),
        ("ta\ud800ro@example.jp", "surrogate"),
        ("t" * 5000 + "@example.jp", "characters"),
    ],
)
def test_a_bad_address_is_named_with_what_was_expected(email: object, expected: str) -> None:
    """The address is needed whatever the column says, and a bad one is refused as `data.email`."""
    (problem,) = problems(plan(), {"email": email})
    assert problem.field == "data.email"
    assert expected in problem.message


def test_a_missing_address_is_refused_under_its_path() -> None:
    """The address is named by where it should be."""
    (problem,) = problems(Plan({"E-Mail": Column(path="contact.mail")}, "contact.mail"), {"contact": "x"})
    assert problem.field == "data.contact.mail"


def test_an_opt_out_reads_nothing_but_the_address() -> None:
    """With the address and constants only, nothing else in `data` can be refused, replaced or warned of."""
    rendering = plan(状態=Column(type="constant", constant="配信停止"))
    data = {"email": EMAIL, "name": "\x00\ud800𠮷👍" * 5000, "birthday": "never", "状態": "", "x": float("nan")}
    assert rendering.render(data, "reject") == Rendered((EMAIL, "配信停止"), EMAIL)


# -- types -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("山田\r\n太郎", "山田 太郎"),
        (" 山田 ", " 山田 "),
        (0, "0"),
        (-12, "-12"),
        (True, "true"),
        (False, "false"),
        (1.5, "1.5"),
        (5.0, "5"),
        (1e22, "10000000000000000000000"),
        (1e-7, "0.0000001"),
        (Decimal("5.00"), "5.00"),
        (Decimal("1E+3"), "1000"),
    ],
)
def test_text_takes_what_can_be_written(value: object, text: str) -> None:
    """Text is folded; numbers are written without exponent, booleans as JSON writes them."""
    assert cell(Column(path="v"), {"v": value}) == text


@pytest.mark.parametrize("kind", ["text", "number"])
@pytest.mark.parametrize(
    "value",
    [[], {}, ["a"], {"a": 1}, float("nan"), float("-inf"), Decimal("NaN"), Decimal("sNaN"), Decimal("Infinity")],
)
def test_what_is_no_scalar_is_refused(kind: Any, value: object) -> None:  # noqa: ANN401 - a Column's Literal
    """Objects, lists, NaN and infinity have no cell."""
    (problem,) = problems(plan(c=Column(path="v", type=kind)), {"email": EMAIL, "v": value})
    assert problem.field == "data.v"
    assert "expected" in problem.message


@pytest.mark.parametrize(
    "value", [10**5000, -(10**5000), Decimal("1E+999999999"), Decimal("1E-999999999")], ids=["int", "-int", "E+", "E-"]
)
def test_endless_numbers_are_refused(value: object) -> None:
    """A number that is short to send and huge to write is refused before it is written."""
    (problem,) = problems(plan(c=Column(path="v", type="number")), {"email": EMAIL, "v": value})
    assert str(CELL_CHARS_MAX) in problem.message


@pytest.mark.parametrize(
    ("value", "text"),
    [("1200", "1200"), (" -0.50 ", "-0.50"), ("007", "007"), (1200, "1200"), (5.0, "5"), (1e21, "1" + "0" * 21)],
)
def test_numbers_are_written_with_digits_only(value: object, text: str) -> None:
    """Numbers and numeric strings are taken; strings keep their digits."""
    assert cell(Column(path="v", type="number"), {"v": value}) == text


@pytest.mark.parametrize(
    "value", ["1e3", "NaN", "inf", "1,200", "0x10", "１２", "1_000", ".5", "5.", "+5", "--5", True]
)
def test_other_strings_are_no_numbers(value: object) -> None:
    """Exponents, separators, full-width digits and booleans are refused rather than guessed at."""
    (problem,) = problems(plan(c=Column(path="v", type="number")), {"email": EMAIL, "v": value})
    assert "1200" in problem.message


@pytest.mark.parametrize(
    ("value", "form", "text"),
    [
        ("1990-05-31", "%Y%m%d", "19900531"),
        ("19900531", "%Y%m%d", "19900531"),
        (" 1990-05-31 ", "%Y年%m月%d日", "1990年05月31日"),
        ("1990-05-31T23:59:59", "%Y%m%d", "19900531"),
        ("1990-05-31 23:59", "%Y/%m/%d %H:%M", "1990/05/31 23:59"),
        ("1990-05-30T15:00:00Z", "%Y%m%d", "19900531"),
        ("1990-05-30T15:00:00.000Z", "%Y/%m/%d %H:%M", "1990/05/31 00:00"),
        ("1990-05-31T00:00:00+09:00", "%Y%m%d", "19900531"),
        ("2024-02-29", "%Y%m%d", "20240229"),
    ],
)
def test_dates_are_days_in_japan(value: str, form: str, text: str) -> None:
    """ISO 8601 in, the column's format out; a moment with an offset counts as the day it was in Japan."""
    assert cell(Column(path="v", type="date", format=form), {"v": value}) == text


@pytest.mark.parametrize(
    "value",
    [
        "1990/05/31",
        "31.5.1990",
        "1990-5-31",
        "1990-05",
        "1990-W22-4",
        "1990-02-30",
        "1990-05-31T25:00",
        "1990-05-31Tnoon",
        "1990-05-31x10:00",
        "0001-01-01T00:00:00",
        "9999-12-31T23:00:00Z",
        "0001-01-01T00:00:00+10:00",
        "1990-05-31\nx",
        19900531,
        True,
        {"year": 1990},
    ],
)
def test_other_values_are_no_dates(value: object) -> None:
    """Other spellings, days that do not exist, numbers and years that mean "none" are refused."""
    (problem,) = problems(plan(c=Column(path="v", type="date")), {"email": EMAIL, "v": value})
    assert problem.field == "data.v"
    assert problem.message.startswith("expected")


CHOICE = Column(path="v", type="choice", values={"m": "男性", "1": "一", "true": "〜", "none": "", "a b": "c"})


@pytest.mark.parametrize(
    ("value", "text"), [("m", "男性"), (" m ", "男性"), (1, "一"), (True, "～"), ("none", ""), ("", ""), (None, "")]
)
def test_a_choice_is_looked_up(value: object, text: str) -> None:
    """A choice's value is found by its text, numbers and booleans by theirs, and is folded."""
    assert cell(CHOICE, {"v": value}) == text


def test_an_unknown_choice_is_refused_naming_the_known() -> None:
    """The refusal lists what the settings allow."""
    (problem,) = problems(plan(c=CHOICE), {"email": EMAIL, "v": "M"})
    assert problem == FieldError("data.v", "expected one of m, 1, true, none, a b")


def test_a_blank_choice_may_have_a_value() -> None:
    """An empty string is a key like any other, where the settings name it."""
    assert cell(Column(path="v", type="choice", values={"": "不明"}), {"v": ""}) == "不明"


@pytest.mark.parametrize(
    "column",
    [
        Column(path="v", required=True),
        Column(path="v", required=True, type="number"),
        Column(path="v", required=True, type="date"),
        Column(path="v", required=True, type="choice", values={"none": ""}),
        Column(path="v || ''", required=True),
    ],
)
@pytest.mark.parametrize("data", [{}, {"v": None}, {"v": ""}, {"v": " \u3000\n"}])
def test_required_refuses_missing_and_empty(column: Column, data: dict[str, Any]) -> None:
    """A required column needs a value: missing, null, empty and blank are refused alike, whatever its type."""
    (problem,) = problems(plan(c=column), {"email": EMAIL, **data})
    assert problem == FieldError(f"data.{column.path}", "expected a value, but it is missing or empty")


def test_required_is_about_what_would_be_written() -> None:
    """A choice that maps to nothing and text of which folding leaves nothing are empty too."""
    choice = Column(path="v", type="choice", values={"none": ""}, required=True)
    assert len(problems(plan(c=choice), {"email": EMAIL, "v": "none"})) == 1
    assert len(problems(plan(c=Column(path="v", required=True)), {"email": EMAIL, "v": "\u200b\x07"})) == 1


# -- what cannot be written, or not as it came -----------------------------------------------------------------------


def test_a_value_that_became_empty_is_warned_of() -> None:
    """A field that is there but empty gets a warning, because the vendor may keep the old value; a missing one none."""
    columns = {name: Column(path=name) for name in ("a", "b", "c", "d")}
    rendered = plan(**columns).render({"email": EMAIL, "a": "", "b": None, "c": " \u200b"}, "reject")
    assert rendered.cells == (EMAIL, "", "", "", "")
    assert [w.field for w in rendered.warnings] == ["data.a", "data.b", "data.c"]
    assert {w.message for w in rendered.warnings} == {"is empty: an empty cell may leave the vendor's old value"}


def test_an_expression_without_a_result_is_not_warned_of() -> None:
    """JMESPath does not tell null from missing, so its null is taken for missing."""
    rendered = plan(c=Column(path="names[0]")).render({"email": EMAIL, "names": [None]}, "reject")
    assert rendered == Rendered((EMAIL, ""), EMAIL)


def test_unencodable_characters_become_geta_with_a_warning() -> None:
    """With `replace`, each character is named once under its field and every replacement is counted."""
    columns = {"a": Column(path="name"), "b": Column(path="note"), "c": Column(path="name")}
    data = {"email": EMAIL, "name": "𠮷田𠮷〓", "note": "é\ue000〜髙"}
    rendered = plan(**columns).render(data, "replace")
    assert rendered.cells == (EMAIL, "〓田〓〓", "〓〓～髙", "〓田〓〓")
    assert rendered.warnings == (
        Warning_("data.name", "𠮷 replaced by 〓"),
        Warning_("data.note", "é, U+E000 replaced by 〓"),
    )
    assert rendered.replaced == 6


def test_unencodable_characters_are_refused_where_the_account_says_so() -> None:
    """With `reject`, the field and its characters are named; what folding saves is no reason."""
    rendering = plan(a=Column(path="name"), b=Column(path="note"))
    assert problems(rendering, {"email": EMAIL, "name": "𠮷田\u3099", "note": "¥〜が"}) == (
        FieldError("data.name", "has characters without a Shift_JIS (CP932) form: 𠮷, U+3099"),
    )


def test_only_a_few_characters_are_named() -> None:
    """A text in another script is not repeated in the message, character by character."""
    text = "".join(chr(0xAC00 + n) for n in range(NAMED_CHARACTERS_MAX + 3))
    (problem,) = problems(plan(a=Column(path="name")), {"email": EMAIL, "name": text})
    assert problem.message.endswith(f"{text[NAMED_CHARACTERS_MAX - 1]} and 3 more")


@pytest.mark.parametrize("kind", ["text", "number", "date", "choice"])
@pytest.mark.parametrize("value", ["山\x00田", "山\ud842", "\udfb7"])
def test_broken_text_is_refused_not_replaced(kind: Any, value: str) -> None:  # noqa: ANN401 - a Column's Literal
    """NUL and lone surrogates are a sender's mistake in any column, even where the account replaces."""
    column = Column(path="v", type=kind, values={"m": "男性"} if kind == "choice" else {})
    with pytest.raises(Invalid, match=r"data\.v: holds NUL"):
        plan(c=column).render({"email": EMAIL, "v": value}, "replace")


def test_too_long_values_are_refused() -> None:
    """A value may have CELL_CHARS_MAX characters and not one more."""
    rendering = plan(c=Column(path="v"))
    assert rendering.render({"email": EMAIL, "v": "表" * CELL_CHARS_MAX}, "reject").cells[1] == "表" * CELL_CHARS_MAX
    (problem,) = problems(rendering, {"email": EMAIL, "v": "表" * (CELL_CHARS_MAX + 1)})
    assert problem == FieldError("data.v", f"expected at most {CELL_CHARS_MAX} characters")


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.text("髙𠮷か\u3099\x00\ud800〜\r\n")
)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab"), inner, max_size=3)
)


@pytest.mark.parametrize(
    "column",
    [
        Column(path="v"),
        Column(path="v.a.b"),
        Column(path="v", type="number"),
        Column(path="v", type="date"),
        Column(path="v", type="choice", values={"a": "一", "true": "真"}),
        Column(path="join(',', v)"),
        Column(path="to_string(v)"),
        Column(path="sum(v)", type="number"),
    ],
    ids=lambda column: f"{column.type} {column.path}",
)
@given(v=JSON)
def test_anything_is_rendered_or_refused(column: Column, v: object) -> None:
    """Whatever JSON holds, it becomes cells that make one line as they are, or a refusal naming the field at fault."""
    rendered, fields = None, set()
    try:
        rendered = plan(c=column).render({"email": EMAIL, "v": v}, "replace")
    except Invalid as refused:
        fields = {problem.field for problem in refused.problems}
    if rendered is None:
        assert fields == {f"data.{column.path}"}
    else:
        assert csvline.split(csvline.record(rendered.cells)) == rendered.cells
        assert rendered.cells[0] == rendered.address == EMAIL


# -- compiling -------------------------------------------------------------------------------------------------------


def test_settings_that_cannot_be_written_are_refused_at_once() -> None:
    """A constant, a choice's value or a date's format without a CP932 form is the operator's mistake, named."""
    columns = {
        "E-Mail": Column(path="email"),
        "a": Column(type="constant", constant="👍"),
        "b": Column(path="v", type="choice", values={"m": "𠮷", "f": "〜"}),
        "c": Column(path="v", type="date", format="%Yé"),
    }
    with pytest.raises(SettingsError) as refused:
        Plan(columns, "mail")
    assert [p.field for p in refused.value.problems] == [
        "columns.a.constant",
        "columns.b.values.m",
        "columns.c.format",
        "columns",
    ]


def test_constants_are_folded() -> None:
    """A constant is written in the form that its line decodes to, and needs nothing of `data`."""
    rendered = plan(c=Column(type="constant", constant="〜か\u3099")).render({"email": EMAIL}, "reject")
    assert rendered == Rendered((EMAIL, "～が"), EMAIL)


def test_rendering_keeps_up_with_the_door() -> None:
    """A line of eight columns takes far less than the 200 µs that thousands of webhooks a second would leave."""
    rendering = plan(**{f"c{n}": Column(path=f"home.line{n}") for n in range(7)})
    data = {"email": EMAIL, "home": {f"line{n}": "東京都千代田区丸の内1-2-3 髙層ビル" for n in range(7)}}
    runs = []
    for _ in range(50):
        started = time.perf_counter()
        csvline.record(rendering.render(data, "replace").cells)
        runs.append(time.perf_counter() - started)
    assert min(runs) < 200e-6
