"""What pydantic found wrong, said so that it helps: with the path as the operator wrote it, and never with a value."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from relay.errors import FieldError

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_PATTERNS = {
    "[key]": "a name has up to 63 lower-case letters, digits, `-` and `_`, and begins with a letter or digit",
    "base_url": "should be an http:// or https:// URL without a query",
    "sha256": "should be the SHA-256 of a token as 64 lower-case hex digits",
    "header": "should be the name of a header: up to 100 letters, digits and !#$%&'*+.^_`|~-",
}
"""What a pattern means, by the last part of the place that it stands at."""

CONTRADICTION = "contradiction"
"""The type of a mistake about a default that does not go with what was given."""

_OF_WHAT_IS_NOT_THERE = frozenset({"missing", CONTRADICTION})

KnownKeys = Callable[[tuple[str | int, ...]], Iterable[str]]


def dotted(path: Sequence[str | int]) -> str:
    """Write a path as in TOML: `sources.crm.signing_secrets[0]`, `accounts.news.columns."氏名"`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _BARE_KEY.fullmatch(part) else f'"{part}"')
    return text


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Say what a misspelt name may have been meant to be, else which there are."""
    names = sorted(known)
    close = get_close_matches(given, names, n=1, cutoff=0.5)
    if close:
        return f"did you mean `{close[0]}`?"
    return f"there are {', '.join(f'`{name}`' for name in names)}" if names else "there are none"


def mistakes(error: ValidationError, given: object, known_keys: KnownKeys) -> list[FieldError]:
    """Say each mistake once. `given` is what was validated, `known_keys` names the keys that a table may have."""
    told: dict[str, list[str]] = {}
    for detail in error.errors(include_url=False, include_input=False):
        path = _path(detail, given)
        message = _message(detail, path, known_keys)
        if detail["type"] in ("union_tag_invalid", "union_tag_not_found"):
            path = (*path, "vendor")
        messages = told.setdefault(dotted(path), [])
        if message not in messages:
            messages.append(message)
    return [FieldError(path, "; or ".join(messages)) for path, messages in told.items()]


def _path(detail: ErrorDetails, given: Any) -> tuple[str | int, ...]:  # noqa: ANN401 - whatever TOML can hold
    """Reduce pydantic's place to what was written: it also names branches of unions and fields of short forms."""
    path: list[str | int] = []
    node = given
    for number, part in enumerate(detail["loc"], 1):
        written = part in node if isinstance(node, Mapping) else isinstance(node, list) and isinstance(part, int)
        if written:
            node = node[part]
        if written or (detail["type"] in _OF_WHAT_IS_NOT_THERE and number == len(detail["loc"])):
            path.append(part)
    return tuple(path)


def _message(detail: ErrorDetails, path: tuple[str | int, ...], known_keys: KnownKeys) -> str:
    context = detail.get("ctx", {})
    match detail["type"]:
        case "missing" | "union_tag_not_found":
            message = "is missing"
        case "extra_forbidden":
            message = f"is unknown; {did_you_mean(str(path[-1]), known_keys(path[:-1]))}"
        case "union_tag_invalid":
            message = f"should be one of {context['expected_tags']}"
        case "too_short":
            message = "needs at least one"
        case "string_pattern_mismatch":
            message = _PATTERNS.get(str(detail["loc"][-1]), "is not written as it should be")
        case "value_error":
            message = str(context["error"])
        case "tuple_type" | "frozen_set_type" | "list_type":
            message = 'should be a list, as in ["…"]'
        case "dict_type" | "model_type" | "model_attributes_type" | "mapping_type":
            message = "should be a table, as in { … = … }"
        case _:
            message = detail["msg"].removeprefix("Input ")
    return message
