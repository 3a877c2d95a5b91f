"""Telling that nothing can be appended: why and when, and not once for each of the thousands that are refused."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from relay.log import logger

TELL_EVERY_S = 10.0
"""How often one reason is told while it lasts, or comes and goes: quick enough for who watches, and no flood."""

log = logger(__name__)


@dataclass(slots=True)
class Outage:
    """What was told of the present outage, if there is one. `clock` is monotonic, in seconds."""

    clock: Callable[[], float] = time.monotonic
    _told_at_s: dict[str, float] = field(default_factory=dict)
    _refused: int = 0
    _told: bool = False

    def note(self, reason: str, requests: int) -> None:
        """Note that requests are refused; a line tells how many since the line before. Reasons must be few."""
        self._refused += requests
        now_s = self.clock()
        if reason in self._told_at_s and now_s - self._told_at_s[reason] < TELL_EVERY_S:
            return
        self._told_at_s[reason] = now_s
        self._told = True
        log.warning("append_unavailable", reason=reason, requests=self._refused)
        self._refused = 0

    def over(self) -> None:
        """Note that an append succeeded: told where an outage was."""
        if self._told:
            log.info("append_available", requests=self._refused)
            self._told = False
            self._refused = 0
