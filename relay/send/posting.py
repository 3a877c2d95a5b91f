"""Posting webhooks, many at a time, until relay has answered for each of them."""

import asyncio
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout

from relay.errors import FieldError, RelayError
from relay.receive.auth import (
    AUTHORIZATION_HEADER,
    ID_HEADER,
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    sign,
    signing_key,
)
from relay.send.customers import Line
from relay.settings import Secret

RETRY_DELAYS_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 30.0, 30.0)
"""The delays between attempts for one request, two minutes together: a failover or a rolling restart passes in that."""

RETRY_AFTER_MAX_S = 60.0
"""The longest that an answer can make us wait."""

TIMEOUT = ClientTimeout(total=60, connect=10)
"""relay answers within five seconds; a proxy in between may take longer."""

RETRIED = frozenset({429, 500, 502, 503, 504})
ANSWERED = frozenset({202, 422})
TOO_LARGE = 413


class Unsent(RelayError):
    """A request that was not answered, or refused as a whole: sending cannot go on. The text says why."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """One line of the file that is not taken, and one reason."""

    line: int
    webhook_id: str
    problem: FieldError


@dataclass(slots=True)
class Answer:
    """What relay said of some lines. `warnings` counts them by account and field."""

    accepted: int = 0
    duplicates: int = 0
    events: int = 0
    refused: int = 0
    refusals: list[Refusal] = field(default_factory=list)
    warnings: Counter[tuple[str, str]] = field(default_factory=Counter)

    @classmethod
    def of(cls, members: Mapping[str, Any], lines: Sequence[Line]) -> "Answer":
        """Read an answer to `lines`, in which the refused are named by index."""
        answer = cls(members["accepted"], members["duplicates"], members["events"], members["refused"])
        for error in members["errors"]:
            line = lines[error["index"]]
            for problem in error["errors"]:
                found = FieldError(problem["field"], problem["message"])
                answer.refusals.append(Refusal(line.number, line.webhook_id, found))
        for warning in members.get("warnings", ()):
            answer.warnings[warning.get("account", ""), warning["field"]] += 1
        return answer

    def add(self, other: "Answer") -> None:
        """Add what was said of other lines."""
        self.accepted += other.accepted
        self.duplicates += other.duplicates
        self.events += other.events
        self.refused += other.refused
        self.refusals += other.refusals
        self.warnings += other.warnings


class Poster:
    """Posts lines to one source. Only one of `secret` and `token` is used; the secret first."""

    def __init__(
        self,
        session: ClientSession,
        url: str,
        source: str,
        secret: Secret | None,
        token: Secret | None,
        retry_delays_s: Sequence[float] = RETRY_DELAYS_S,
    ) -> None:
        self._session = session
        self._url = f"{url.rstrip('/')}/v1/webhooks/{quote(source, safe='')}/batch"
        self._key = None if secret is None else signing_key(secret.value)
        self._token = token
        self._retry_delays_s = retry_delays_s

    async def post(self, lines: Sequence[Line]) -> Answer:
        """Post lines until they are answered; raises Unsent where that does not come to pass.

        Where the body is too large for what stands in between, it is halved.
        """
        status, members = await self._post(lines)
        if status != TOO_LARGE:
            return Answer.of(members, lines)
        if len(lines) == 1:
            problem = FieldError("line", "is too large")
            return Answer(refused=1, refusals=[Refusal(lines[0].number, lines[0].webhook_id, problem)])
        half = len(lines) // 2
        answer = await self.post(lines[:half])
        answer.add(await self.post(lines[half:]))
        return answer

    async def _post(self, lines: Sequence[Line]) -> tuple[int, Mapping[str, Any]]:
        body = b"\n".join(line.body for line in lines)
        reason = ""
        for delay_s in (*self._retry_delays_s, None):
            wait_s = 0.0
            try:
                async with self._session.post(
                    self._url, data=body, headers=self._headers(lines, body), timeout=TIMEOUT, allow_redirects=False
                ) as response:
                    if response.status not in RETRIED:
                        return response.status, await _members(response)
                    reason = f"it answered {response.status}"
                    wait_s = _retry_after_s(response)
            except (ClientError, TimeoutError, OSError) as error:
                reason = type(error).__name__
            if delay_s is not None:
                await asyncio.sleep(max(delay_s * random.uniform(0.9, 1.1), wait_s))  # noqa: S311 - only spreads load
        raise Unsent(f"{self._url} takes nothing ({reason}). Send the file again later: no line will count twice.")

    def _headers(self, lines: Sequence[Line], body: bytes) -> dict[str, str]:
        """Sign the body as it goes out now: an attempt made later has a later timestamp."""
        headers = {"Content-Type": "application/x-ndjson"}
        if self._key is None:
            token = "" if self._token is None else self._token.value
            return {**headers, AUTHORIZATION_HEADER: f"Bearer {token}"}
        message_id = f"lines-{lines[0].number}-{lines[-1].number}"  # of the request; each line has its own
        timestamp = str(int(datetime.now(UTC).timestamp()))
        signature = sign(self._key, message_id, timestamp, body)
        return {**headers, ID_HEADER: message_id, TIMESTAMP_HEADER: timestamp, SIGNATURE_HEADER: signature}


async def _members(response: ClientResponse) -> Mapping[str, Any]:
    """Read the answer; raises Unsent unless it is one about each line (or says that the body is too large)."""
    try:
        members = await response.json(content_type=None)
    except ValueError:
        members = None
    if response.status == TOO_LARGE:
        return {}
    if isinstance(members, dict) and response.status in ANSWERED and "accepted" in members:
        return members
    detail = members.get("detail", "") if isinstance(members, dict) else ""
    raise Unsent(f"{response.url} answered {response.status} {detail}".rstrip())


def _retry_after_s(response: ClientResponse) -> float:
    given = response.headers.get("Retry-After", "")
    return min(float(given), RETRY_AFTER_MAX_S) if given.isdecimal() and given.isascii() else 0.0
