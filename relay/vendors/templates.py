"""Templates: the columns that a vendor says it takes, and how an account's columns fit them."""

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Final, Literal

from relay.csvline import fold
from relay.events import TYPES, Operation
from relay.settings import Account, Column

TemplateKind = Literal["register", "delete"]
"""Which file a template is for: one that registers, changes, stops or allows, or one that deletes."""

_ALIKE: Final = 0.6
"""How much of two names has to be the same for one to be taken for the other, misspelt (difflib's own default)."""

ALIKE_NAMES_MAX: Final = 300
"""No guesses among more names: comparing takes about as long as there are names, and a contract has some hundred."""

ALIKE_CHARS_MAX: Final = 40
"""No guesses with longer names: comparing two takes as long as their lengths multiplied, and items are a few words."""

ALIKE_HEADERS_MAX: Final = 20
"""No guesses for more headers of an account: so many unknown ones are no misspelling."""


@dataclass(frozen=True, slots=True)
class Template:
    """What a vendor takes: the columns' names in its order, exactly as it writes them, and the encoding it wrote in."""

    headers: tuple[str, ...]
    encoding: str


@dataclass(frozen=True, slots=True)
class Fit:
    """How an account's columns fit the vendor's templates, by their headers.

    `known` and `unknown` are the mapped ones, `not_mapped` are the vendor's that nothing fills. `required` is what
    relay's own operations cannot do without, `missing` what of that the vendor does not have; `opt_outs_fit` says that
    opt-outs miss nothing. `meant` names for a header what of the vendor's it may have been meant to be.
    """

    known: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    not_mapped: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    opt_outs_fit: bool = True
    meant: Mapping[str, str] = field(default_factory=dict)

    @property
    def fits(self) -> bool:
        """Whether the vendor takes every file of the account's."""
        return not self.unknown and not self.missing

    def told(self) -> str:
        """Say what does not fit, in one line; nothing where all does."""
        parts = []
        if self.unknown:
            parts.append(f"the vendor has no column {', '.join(map(self._named, self.unknown))}")
        if needed := [header for header in self.missing if header not in self.unknown]:
            parts.append(f"the vendor lacks the column {', '.join(map(self._named, needed))}, which relay needs")
        return "; ".join(parts)

    def _named(self, header: str) -> str:
        """Name a header in quotes, since a space at its end may be all that is wrong."""
        return f'"{header}" (did you mean "{self.meant[header]}"?)' if header in self.meant else f'"{header}"'


def fit(
    account: Account, columns: Mapping[Operation, Mapping[str, Column]], templates: Mapping[TemplateKind, Template]
) -> Fit | None:
    """Compare an account's `columns`, by operation, with the vendor's templates; `register` has to be among them.

    Names are compared as they arrive at the vendor: folded as in a file, and then exactly. None where the template has
    none of the names that relay knows: then it is some text that looks like a CSV file, and so is a template for
    deleting, which is left out, where it has none of the names of the other.
    """
    register = _sent(templates["register"].headers)
    deleting = _sent(templates["delete"].headers) if "delete" in templates else {}
    taken = {"register": register, "delete": deleting if deleting.keys() & register.keys() else register}
    mapped, needs = _sent(account.columns), _needs(account, columns)
    needed = {sent: header for headers in needs.values() for sent, header in headers.items()}
    if not register.keys() & (mapped.keys() | needed.keys()):
        return None
    lacking = {
        operation: headers.keys() - taken["delete" if operation is Operation.DELETE else "register"].keys()
        for operation, headers in needs.items()
    }
    unknown = tuple(header for sent, header in mapped.items() if sent not in register)
    missing = tuple(header for sent, header in needed.items() if any(sent in lacks for lacks in lacking.values()))
    return Fit(
        known=tuple(header for sent, header in mapped.items() if sent in register),
        unknown=unknown,
        missing=missing,
        not_mapped=tuple(name for sent, name in register.items() if sent not in mapped and sent not in needed),
        required=tuple(needed.values()),
        opt_outs_fit=not any(lacks for operation, lacks in lacking.items() if operation.opt_out),
        meant=_meant((*unknown, *missing), register.values()),
    )


def _sent(headers: Iterable[str]) -> dict[str, str]:
    """Fold headers as a file does, with what each was before."""
    return {fold(header): header for header in headers}


def _needs(account: Account, columns: Mapping[Operation, Mapping[str, Column]]) -> dict[Operation, dict[str, str]]:
    """Name for each operation that the account's types become the headers that its file cannot do without."""
    asked = {account.operation(event_type) for event_type in TYPES}
    return {
        operation: _sent([account.address_header] if operation is Operation.UPSERT else headers)
        for operation, headers in columns.items()
        if operation in asked
    }


# -- what may have been meant ----------------------------------------------------------------------------------------


def _meant(headers: Iterable[str], names: Iterable[str]) -> dict[str, str]:
    """Find for each header the vendor's name that differs least, if any is near."""
    by_plain: dict[str, str] = {}
    for name in names:
        by_plain.setdefault(_plain(name), name)
    comparable = [plain for plain in by_plain if len(plain) <= ALIKE_CHARS_MAX]
    if len(by_plain) > ALIKE_NAMES_MAX:
        comparable = []
    found = {}
    for number, header in enumerate(dict.fromkeys(headers)):
        plain = _plain(header)
        guessed = number < ALIKE_HEADERS_MAX and len(plain) <= ALIKE_CHARS_MAX
        among = [plain] if plain in by_plain else comparable if guessed else []
        if near := get_close_matches(plain, among, n=1, cutoff=_ALIKE):
            found[header] = by_plain[near[0]]
    return found


def _plain(name: str) -> str:
    """Take from a name what people overlook: spaces, full and half width, upper and lower case."""
    return "".join(unicodedata.normalize("NFKC", name).casefold().split())
