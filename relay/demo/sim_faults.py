"""What the simulated vendors can be told to do wrong. Pure: a fault says what, the server does it.

A fault is armed for a number of calls, optionally only those of one contract or operation. Each call meets at most
one: the first armed one that fits. Two kinds look at the file (`too_large`, `refuse_file`) and are met only by files
that they fit; with an `address`, every kind that happens once the file is there is met only by files with that address,
as where a vendor breaks down at one line.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Kind = Literal[
    "status",
    "code",
    "slow",
    "hang",
    "reset_before_body",
    "reset_during_body",
    "reset_after_body",
    "lost_reply",
    "wrong_counts",
    "wrong_lines",
    "xml",
    "html",
    "expired_token",
    "busy",
    "reject_lines",
    "refuse_file",
    "too_large",
    "retry_after",
]

Call = Literal["upload", "login", "usage", "error_search", "error_export", "error_delete"]

OF_BODY: frozenset[Kind] = frozenset({"reset_before_body", "reset_during_body"})
OF_FILES: frozenset[Kind] = frozenset({"too_large", "refuse_file"})
LASTING: frozenset[Kind] = OF_FILES | {"reject_lines"}
"""These stay armed until they are disarmed, unless `times` is given; the others are met once."""

APPLIED: frozenset[Kind] = frozenset({"lost_reply"})
"""These happen after the import has been applied, unless `applied` says otherwise; the others before."""

UPLOADS_ONLY: frozenset[Kind] = LASTING | OF_BODY | {"wrong_counts", "wrong_lines"}


class Fault(BaseModel):
    """One fault as it is posted to `/_sim/faults`.

    Which: `fault`; how often: `times` (null: until disarmed), after `skip` calls that are let through; whom:
    `contract`, `operation`, `on` (what kind of call). `applied` says whether the import is done before the fault
    happens. The rest are the faults' own: `status` and `body` (`status`, `html`, `retry_after`), `code` (`code`),
    `seconds` (`slow`, and the Retry-After of `retry_after`), `n_bytes` (`reset_during_body`, `too_large`), `success_by`
    and `failure_by` (`wrong_counts`), `shift` (`wrong_lines`), `addresses` or `every`, with `message`
    (`reject_lines`), `address` (whose line a file must have; `refuse_file` has to have one).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fault: Kind
    times: int | None = Field(default=1, ge=1)
    skip: int = Field(default=0, ge=0)
    contract: str | None = None
    operation: str | None = None
    on: Call = "upload"
    applied: bool = False
    status: int = Field(default=500, ge=200, le=599)
    body: str = ""
    code: int = Field(default=81401, ge=81400, le=81499)
    seconds: float = Field(default=1.0, ge=0, le=3600)
    n_bytes: int = Field(default=0, ge=0)
    success_by: int = 1
    failure_by: int = 0
    shift: int = 1
    addresses: frozenset[str] = frozenset()
    every: int = Field(default=0, ge=0)
    message: str = "シミュレーターが拒否しました"
    address: str = ""

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_kind(cls, given: object) -> object:
        if isinstance(given, dict):
            kind = given.get("fault")
            own: dict[str, object] = {"times": None} if kind in LASTING else {}
            own |= {"applied": True} if kind in APPLIED else {}
            own |= {"retry_after": {"status": 429}, "html": {"status": 503}}.get(str(kind), {})
            return own | given
        return given

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.fault == "reject_lines" and not (self.addresses or self.every):
            raise ValueError("reject_lines needs `addresses` or `every`")
        if self.fault == "refuse_file" and not self.address:
            raise ValueError("refuse_file needs `address`")
        if self.address and (self.fault in OF_BODY or self.on != "upload"):
            raise ValueError("only what happens to a whole upload can look for an `address` in it")
        if self.on != "upload" and self.fault in UPLOADS_ONLY:
            raise ValueError(f"{self.fault} happens to uploads only")
        return self

    @property
    def at_once(self) -> bool:
        """Whether it happens before it is known whose upload it is."""
        return self.fault == "reset_before_body" and self.contract is None and self.operation is None

    def fits(self, call: Call, contract: str | None, operation: str | None) -> bool:
        """Whether a call of this kind, contract and operation is meant."""
        return (
            self.on == call
            and self.contract in (None, contract)
            and (self.operation is None or self.operation == operation)
        )

    def fits_file(self, file: bytes | bytearray) -> bool:
        """Whether a file is meant."""
        if self.fault == "too_large" and len(file) <= self.n_bytes:
            return False
        return not self.address or f'"{self.address}"'.encode("ascii", "replace") in file

    def refusal(self, line: int, address: str) -> str | None:
        """Return the message for a row that `reject_lines` means: every nth row (the first is line 2) or an address."""
        meant = address in self.addresses or bool(self.every and (line - 1) % self.every == 0)
        return self.message if meant else None


@dataclass(slots=True)
class _Armed:
    fault: Fault
    left: int | None
    skip: int


@dataclass(slots=True)
class Faults:
    """The armed faults of one server, in the order of their arming. `known` are the kinds that this vendor can do."""

    known: frozenset[Kind]
    _armed: list[_Armed] = field(default_factory=list)

    def add(self, **given: Any) -> Fault:  # noqa: ANN401 - checked by the model
        """Arm a fault, written as in JSON. Raises ValueError (pydantic's too) for one that makes no sense."""
        return self.arm(given)

    def arm(self, given: Mapping[str, Any]) -> Fault:
        """Arm a fault from JSON. Raises ValueError (pydantic's too) for one that makes no sense."""
        fault = Fault.model_validate(dict(given))
        if fault.fault not in self.known:
            raise ValueError(f"this vendor knows no fault {fault.fault}")
        self._armed.append(_Armed(fault, fault.times, fault.skip))
        return fault

    def disarm(self) -> int:
        """Disarm all; returns how many were armed."""
        count = len(self._armed)
        self._armed.clear()
        return count

    def armed(self) -> list[tuple[Fault, int | None]]:
        """Return the armed faults with how often each is still to happen (None: until disarmed)."""
        return [(entry.fault, entry.left) for entry in self._armed]

    def meet_early(self, contract: str | None, operation: str | None) -> Fault | None:
        """Return the fault of the body that an upload meets, and count it.

        Asked twice: when the HTTP headers are there (contract and operation None, as they stand in the body), which
        only a reset before the body of anybody's upload answers, and when it is known whose the upload is.
        """
        at_once = contract is None
        return self._first(
            lambda fault: (
                fault.fault in OF_BODY and fault.at_once == at_once and fault.fits("upload", contract, operation)
            )
        )

    def meet(
        self, call: Call, contract: str, operation: str | None = None, file: bytes | bytearray | None = None
    ) -> Fault | None:
        """Return the fault that a call meets once it is whole and let in, and count it."""
        return self._first(
            lambda fault: (
                fault.fault not in OF_BODY and fault.fits(call, contract, operation) and fault.fits_file(file or b"")
            )
        )

    def _first(self, meant: Callable[[Fault], bool]) -> Fault | None:
        return next((e.fault for e in tuple(self._armed) if meant(e.fault) and self._count(e)), None)

    def _count(self, entry: _Armed) -> bool:
        if entry.skip:
            entry.skip -= 1
            return False
        if entry.left is not None:
            entry.left -= 1
            if entry.left == 0:
                self._armed.remove(entry)
        return True
