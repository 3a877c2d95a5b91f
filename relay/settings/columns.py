"""One column at the vendor: where its value is in `data`, and what it is."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

import jmespath
from jmespath.exceptions import JMESPathError, LexerError
from jmespath.functions import Functions
from pydantic import BeforeValidator, Field, field_validator, model_validator

from relay.settings.base import Model

_PLAIN_PATH = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z_][A-Za-z0-9_-]*)*")


def plain_path(expression: str) -> tuple[str, ...] | None:
    """Split a plain dotted path into its keys; None for anything else, which is JMESPath."""
    return tuple(expression.split(".")) if _PLAIN_PATH.fullmatch(expression) else None


def compiles(path: str) -> None:
    """Raise ValueError for what is neither a plain dotted path nor JMESPath of functions that there are.

    JMESPath itself finds out about an unknown function only with the first webhook, and then with every one.
    """
    if plain_path(path) is not None:
        return
    try:
        unknown = sorted(set(_functions(jmespath.compile(path).parsed)) - Functions.FUNCTION_TABLE.keys())
    except JMESPathError as error:
        raise ValueError(f"neither a dotted path nor JMESPath: {_in_one_line(error)}") from None
    except RecursionError:
        raise ValueError("neither a dotted path nor JMESPath: nested too deeply") from None
    if unknown:
        raise ValueError(f"JMESPath has no function {unknown[0]}")


def _in_one_line(error: JMESPathError) -> str:
    """Say what is wrong without the drawing of it that JMESPath adds."""
    told = str(error).partition("\n")[0].removesuffix(", for expression:").rstrip(":")
    at = f" at column {error.lexer_position}" if isinstance(error, LexerError) else ""
    return (told.partition("expression: ")[2] or told) + at


def _functions(node: Mapping[str, Any]) -> Iterator[str]:
    """Name all functions that a parsed expression calls."""
    if node["type"] == "function_expression":
        yield node["value"]
    for inner in node["children"]:
        if isinstance(inner, Mapping):
            yield from _functions(inner)


class Column(Model):
    """One column at the vendor: where its value is in `data` and what it is.

    `path` is a plain dotted path or a JMESPath expression. `type` `date` takes ISO 8601 and writes `format` (strftime,
    default `%Y%m%d`); `choice` looks the value up in `values`; `constant` always writes the same and has no path.
    """

    path: str = ""
    type: Literal["text", "number", "date", "choice", "constant"] = "text"
    format: str = "%Y%m%d"
    values: dict[str, str] = Field(default_factory=dict)
    constant: str | None = None
    required: bool = False

    @field_validator("path")
    @classmethod
    def _compiles(cls, path: str) -> str:
        if path:
            compiles(path)
        return path

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.type == "constant":
            if self.constant is None or self.path:
                raise ValueError('a column of type "constant" needs `constant` and no `path`')
        elif not self.path:
            raise ValueError("a column needs a `path`")
        if (self.type == "choice") != bool(self.values):
            raise ValueError('`values` and type "choice" go together')
        return self

    def identity(self) -> dict[str, Any]:
        """What makes lines rendered with this column differ from others': all but the header."""
        return self.model_dump(exclude_defaults=True)


def _column(given: object) -> object:
    return {"path": given} if isinstance(given, str) else given


ColumnOrPath = Annotated[Column, BeforeValidator(_column)]
