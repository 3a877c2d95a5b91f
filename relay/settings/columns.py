"""One column at the vendor: where its value is in `data`, and what it is."""

import re
from typing import Annotated, Any, Literal, Self

import jmespath
from jmespath.exceptions import JMESPathError
from pydantic import BeforeValidator, Field, field_validator, model_validator

from relay.settings.base import Model

_PLAIN_PATH = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z_][A-Za-z0-9_-]*)*")


def plain_path(expression: str) -> tuple[str, ...] | None:
    """Split a plain dotted path into its keys; None for anything else, which is JMESPath."""
    return tuple(expression.split(".")) if _PLAIN_PATH.fullmatch(expression) else None


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
        if path and plain_path(path) is None:
            try:
                jmespath.compile(path)
            except JMESPathError as error:
                raise ValueError(f"neither a dotted path nor JMESPath: {error}") from None
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
