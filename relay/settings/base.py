"""What all settings are made of: frozen models that know no unknown key, names, durations, and secrets."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema


class Secret:
    """A secret string: `value` is the text, its repr tells nothing."""

    __slots__ = ("value",)

    def __init__(self, value: str) -> None:
        self.value = value

    def __repr__(self) -> str:
        return "<secret>"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other.value == self.value

    def __hash__(self) -> int:
        return hash(self.value)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: type, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Take a string, `{ env = "NAME" }` or `{ file = "path" }`; the environment comes with the context."""
        return core_schema.with_info_plain_validator_function(cls._resolve)

    @classmethod
    def _resolve(cls, given: object, info: core_schema.ValidationInfo) -> "Secret":
        if isinstance(given, Secret):
            return given
        text = cls._look_up(given, (info.context or {}).get("env", {}))
        if not text:
            raise ValueError("a secret may not be empty")
        return cls(text)

    @staticmethod
    def _look_up(given: object, env: Mapping[str, str]) -> str:
        match given:
            case str():
                return given
            case {"env": str(name), **rest} if not rest:
                if name not in env:
                    raise ValueError(f"the environment has no variable {name}")
                return env[name]
            case {"file": str(name), **rest} if not rest:
                try:
                    return Path(name).read_text(encoding="utf-8").rstrip("\r\n")
                except (OSError, UnicodeDecodeError) as error:
                    raise ValueError(f"cannot read the file {name}: {type(error).__name__}") from None
            case _:
                raise ValueError('expected { env = "NAME" }, { file = "path" } or a string')


class Model(BaseModel):
    """Frozen, and an unknown key is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, hide_input_in_errors=True)


Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
Seconds = Annotated[float, Field(ge=0, le=604800)]
