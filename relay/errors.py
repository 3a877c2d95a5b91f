"""relay's exceptions, split by whose fault they are.

RelayError
├── SettingsError     the operator's: settings that cannot work; carries every mistake with its path
├── Invalid           the sender's: a request that is wrong and stays wrong; carries a list of FieldError
├── Unavailable       nobody's: Postgres does not answer now; the sender tries again
├── LaneLost          another replica has the lane: the result at hand must be forgotten
├── SchemaUnknown     the operator's: the database's schema is not the one this relay knows
├── ConservationBroken a bug: events of a cut are neither rows nor superseded; nothing was written
└── Conflict          the caller's: the thing asked for does not fit the present state

A vendor's failure is not here: it is data (`relay.batches.Outcome`).
"""

from collections.abc import Sequence
from dataclasses import dataclass


class RelayError(Exception):
    """Base of everything that relay raises on purpose."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """One mistake: the field's path (as in `data.email` or `accounts.news.columns`) and what was expected there."""

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


class SettingsError(RelayError):
    """Settings that cannot work: `problems` names each path with what was expected. Exit code 2."""

    def __init__(self, problems: Sequence[FieldError]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(str(p) for p in self.problems))


class Invalid(RelayError):
    """A sender's mistake. `problems` never holds values that the sender sent, only fields and expectations."""

    def __init__(self, *problems: FieldError) -> None:
        self.problems = problems
        super().__init__("; ".join(str(p) for p in problems))


class Unavailable(RelayError):
    """Postgres cannot be reached or did not answer in time: nothing is known to be safe, the caller tries again."""


class LaneLost(RelayError):
    """The lane's lease and generation are no longer ours: whatever was found out must not be written."""


class SchemaUnknown(RelayError):
    """The database's schema is older or newer than this relay knows; the message says what to run."""


class ConservationBroken(RelayError):
    """A cut would lose or double an event. Nothing is written; the message has counts and ids only."""


class Conflict(RelayError):
    """What was asked for does not fit the present state, for example retrying a batch that was delivered."""
