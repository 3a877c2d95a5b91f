"""Models as JSON Schema (2020-12), the form in which OpenAPI 3.1 has them."""

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema
from pydantic_core.core_schema import CoreSchema

Json = dict[str, Any]
"""A JSON object, as a part of the document."""

Mode = Literal["validation", "serialization"]

REF = "#/components/schemas/{model}"


class _Untitled(GenerateJsonSchema):
    """Leaves out the titles of fields, which only repeat their names."""

    def field_title_should_be_set(self, schema: CoreSchema) -> bool:
        """Never."""
        del schema
        return False


class Schemas:
    """The schemas of some models: `asked` are read from requests, `answered` written."""

    def __init__(self, asked: Iterable[type[BaseModel]], answered: Iterable[type[BaseModel]]) -> None:
        wanted: list[tuple[type[BaseModel], Mode]] = [
            *((model, "validation") for model in dict.fromkeys(asked)),
            *((model, "serialization") for model in dict.fromkeys(answered)),
        ]
        places, made = models_json_schema(wanted, ref_template=REF, schema_generator=_Untitled)
        self._places = {model: place for (model, _), place in places.items()}
        self.all: Json = made.get("$defs", {})

    def of(self, model: type[BaseModel]) -> Json:
        """Refer to a model's schema."""
        return dict(self._places[model])

    def members(self, model: type[BaseModel]) -> dict[str, Json]:
        """Give the schema of each field of a model."""
        members: dict[str, Json] = self.all[self._places[model]["$ref"].rpartition("/")[2]].get("properties", {})
        return members
