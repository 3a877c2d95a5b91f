"""What all settings are made of: frozen models that know no unknown key, names, durations, and secrets."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

_SURROGATE = re.compile("[\ud800-\udfff]")
_VARIABLE = re.compile("[A-Z][A-Z0-9_]{0,100}")
_PATH = re.compile(r"\.{0,2}(?:/[a-z0-9._-]{1,100}){1,20}")
"""What the name of a variable or a file looks like; anything else is not repeated."""


class Secret:
    """A secret string: `value` is the text, its repr tells nothing. `path` is the file it was read from, if any."""

    __slots__ = ("path", "value")

    def __init__(self, value: str, path: Path | None = None) -> None:
        self.value = value
        self.path = path

    def __repr__(self) -> str:
        return "<secret>"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other.value == self.value

    def __hash__(self) -> int:
        return hash(self.value)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: type, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Take a string, `{ env = "NAME" }` or `{ file = "path" }`; the environment comes with the context.

        Line ends behind it do not count; other white space around it is a mistake.
        """
        return core_schema.with_info_plain_validator_function(cls._resolve)

    @classmethod
    def _resolve(cls, given: object, info: core_schema.ValidationInfo) -> "Secret":
        if isinstance(given, Secret):
            return given
        text, path = cls._look_up(given, (info.context or {}).get("env", {}))
        text = text.rstrip("\r\n")
        if text.strip() and text != text.strip():  # which no header brings, so that nothing would ever fit
            raise ValueError("a secret may not begin or end with white space")
        return cls.whole(text, path)

    @classmethod
    def whole(cls, text: str, path: Path | None = None) -> "Secret":
        """Take a text with the white space at its ends; raises ValueError where there is nothing else, or no UTF-8."""
        if not text.strip():
            raise ValueError("a secret may not be empty")
        if _SURROGATE.search(text):  # an environment's bytes that are no UTF-8
            raise ValueError("a secret must be UTF-8")
        return cls(text, path)

    @staticmethod
    def _look_up(given: object, env: Mapping[str, str]) -> tuple[str, Path | None]:
        match given:
            case str():
                return given, None
            case {"env": str(name), **rest} if not rest:
                if name not in env:  # which may be the secret itself, put in the wrong place
                    told = name if _VARIABLE.fullmatch(name) else "of this name"
                    raise ValueError(f"the environment has no variable {told}")
                return env[name], None
            case {"file": str(name), **rest} if not rest:
                try:
                    return Path(name).read_text(encoding="utf-8"), Path(name)
                except (OSError, ValueError) as error:
                    told = name if _PATH.fullmatch(name) else "of this name"
                    raise ValueError(f"cannot read the file {told}: {type(error).__name__}") from None
            case _:
                raise ValueError('expected { env = "NAME" }, { file = "path" } or a string')


class Model(BaseModel):
    """Frozen, and an unknown key is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, hide_input_in_errors=True)


Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
Seconds = Annotated[float, Field(ge=0, le=604800)]
