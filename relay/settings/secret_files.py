"""Where the secrets of the settings come from: those that were read from a file, each by its path in the settings."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from relay.settings.base import Model, Secret
from relay.settings.mistakes import dotted


def secret_files(settings: Model) -> dict[str, Path]:
    """Return the files that secrets were read from, by paths as in `logins.blast.password`."""
    return {dotted(place): path for place, path in _found(settings, ())}


def _found(value: object, place: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], Path]]:
    if isinstance(value, Secret):
        if value.path is not None:
            yield place, value.path
    elif isinstance(value, Model):
        for field in type(value).model_fields:
            yield from _found(getattr(value, field), (*place, field))
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _found(entry, (*place, str(key)))
    elif isinstance(value, list | tuple):
        for index, entry in enumerate(value):
            yield from _found(entry, (*place, index))
