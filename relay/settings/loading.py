"""Reading the TOML file: every mistake in it at once, each with its path."""

import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from relay.errors import FieldError, SettingsError
from relay.events import RELAY_SOURCE
from relay.settings.base import Model
from relay.settings.columns import Column
from relay.settings.file import Account, Api, ApiToken, Settings
from relay.settings.logins import LOGIN_MODELS
from relay.settings.mistakes import did_you_mean, dotted, mistakes
from relay.settings.sources import BodySignature, Place, Plain, Source


def load(path: Path, env: Mapping[str, str]) -> Settings:
    """Read the settings; `env` resolves `{ env = "…" }`. Raises SettingsError with all mistakes, never with a value."""
    given = _parse(path)
    settings: Settings | None = None
    problems: list[FieldError] = []
    try:
        settings = Settings.model_validate(given, context={"env": env})
    except ValidationError as error:
        problems += mistakes(error, given, lambda place: _known_keys(place, given))
    problems += _own_names(given)
    problems += _references(given)
    if settings is None or problems:
        # Outside of `except`: pydantic's error, which quotes what was given, must not be chained to ours.
        raise SettingsError(sorted(problems, key=lambda problem: problem.field))
    return settings


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except tomllib.TOMLDecodeError as error:
        problem = f"is not TOML: {error}"
    except UnicodeDecodeError:
        problem = "is not UTF-8"
    except FileNotFoundError:
        problem = "there is no such file; RELAY_CONFIG says where the settings are"
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    raise SettingsError([FieldError(str(path), problem)])


def _tables(given: object, part: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the tables of one kind with their names; what is no table is left to the models to refuse."""
    tables = given.get(part) if isinstance(given, Mapping) else None
    if isinstance(tables, Mapping):
        yield from ((name, table) for name, table in tables.items() if isinstance(table, Mapping))


def _own_names(given: Mapping[str, Any]) -> Iterator[FieldError]:
    """Find tables that carry a `name`, which the models would take for the key that relay puts there."""
    api = given.get("api")
    holders = {"sources": given, "logins": given, "accounts": given, "api.tokens": api}
    for place, holder in holders.items():
        for name, table in _tables(holder, place.rpartition(".")[2]):
            if "name" in table:
                yield FieldError(f"{place}.{dotted((name, 'name'))}", "is unknown; the name is the table's own")


def _references(given: Mapping[str, Any]) -> Iterator[FieldError]:
    """Find accounts that name no login, and sources that name no account.

    They are looked for in what was given, not in models, so that they are told together with all other mistakes.
    """
    logins = {name for name, _ in _tables(given, "logins")}
    accounts = {name for name, _ in _tables(given, "accounts")}
    for name, account in _tables(given, "accounts"):
        login = account.get("login")
        if isinstance(login, str) and login not in logins:
            problem = f"there is no login `{login}`; {did_you_mean(login, logins)}"
            yield FieldError(dotted(("accounts", name, "login")), problem)
    for name, source in _tables(given, "sources"):
        if name == RELAY_SOURCE:
            yield FieldError(dotted(("sources", name)), "is what relay calls itself; choose another name")
        named = source.get("accounts")
        names = [n for n in named if isinstance(n, str)] if isinstance(named, list) else []
        for wanted, count in Counter(names).items():
            if wanted not in accounts:
                problem = f"there is no account `{wanted}`; {did_you_mean(wanted, accounts)}"
                yield FieldError(dotted(("sources", name, "accounts")), problem)
            if count > 1:
                yield FieldError(dotted(("sources", name, "accounts")), f"names `{wanted}` {count} times")


def _known_keys(place: tuple[str | int, ...], given: Mapping[str, Any]) -> Iterable[str]:
    """Return the keys that the table at `place` may have."""
    model: type[Model]
    match place:
        case ("sources", _):
            model = Source
        case ("sources", _, "body_signature"):
            model = BodySignature
        case ("sources", _, "plain"):
            model = Plain
        case ("sources", _, "plain", _):
            model = Place
        case ("logins", name):
            model = LOGIN_MODELS[given["logins"][name]["vendor"]]
        case ("accounts", _):
            model = Account
        case ("accounts", _, "columns", _):
            model = Column
        case ("api",):
            model = Api
        case ("api", "tokens", _):
            model = ApiToken
        case _:
            model = Settings
    return set(model.model_fields) - {"name"}
