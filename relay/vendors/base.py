"""What a vendor is to relay: facts about it, what to send for a batch, and how to read what comes back.

An adapter is pure: it gets settings and bytes and answers with values; `relay.client` does all the talking. How to
read a reply is in two steps, because a vendor names refused lines by number and repeats their content: `read` says what
the reply claims, the caller fetches the claimed lines from the spooled file, and `judge` compares.

What an HTTP status means by itself is one table for all vendors (`by_status`), and so is what may be kept of a reply
(`excerpt`): replies repeat customers' lines and login replies hold tokens, so only what is listed there gets through.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from typing import Final, Literal, Protocol

from relay.batches import Busy, Misconfigured, Outcome, TooLarge, Transient, Unauthorized, Unknown
from relay.errors import FieldError
from relay.events import Operation
from relay.settings import Account, Column, Login
from relay.vendors.charsets import texts
from relay.vendors.templates import Template, TemplateKind


@dataclass(frozen=True, slots=True)
class Form:
    """One multipart POST: the path below the login's base URL, the text parts in order, then the file part.

    The text parts hold the login's secrets, so the repr leaves them out.
    """

    path: str
    fields: tuple[tuple[str, str], ...] = field(repr=False)
    file_field: str
    file_name: str
    file_type: str


@dataclass(frozen=True, slots=True)
class Call:
    """A request without a file: the path below the login's base URL, its query (GET) or form fields (POST).

    Both hold tokens or passwords, so the repr leaves them out. A form is multipart where an upload's would be read.
    """

    method: Literal["GET", "POST"]
    path: str
    query: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    fields: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    multipart: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer. `truncated` says that `body` is not the whole body: cut off at the client's limit, or lost.

    `retry_after_s` is the header's wish, if any, `date` what the server's clock said. The repr leaves out what the
    vendor wrote: it may hold customers' lines or a token.
    """

    status: int
    content_type: str = field(repr=False)
    body: bytes = field(repr=False)
    truncated: bool = False
    retry_after_s: float | None = None
    date: datetime | None = None

    @property
    def text(self) -> str:
        """The whole body as text, in the encoding that it is in; see `charsets`. Never raises."""
        return "".join(texts(self.body, self.content_type))


@dataclass(frozen=True, slots=True)
class Claim:
    """A line that the vendor says it refused: its number (the header is 1), the content it repeats, its message."""

    line: int
    content: str = field(repr=False)
    message: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Counted:
    """A reply that counts: to be judged against what was sent."""

    success: int
    failure: int
    claims: Sequence[Claim]

    def lines(self) -> set[int]:
        """Name the claimed lines, which may take a while."""
        return {claim.line for claim in self.claims}


@dataclass(frozen=True, slots=True)
class Sent:
    """What was uploaded: for whom, what, how many rows (without the header)."""

    login: Login
    account: Account
    operation: Operation
    rows: int


class Vendor(Protocol):
    """One vendor. All methods are pure."""

    needs_token: bool
    """Whether uploads carry a token that a login call yields."""

    def check_login(self, login: Login) -> Iterator[FieldError]:
        """Find what the settings of a login allow but this vendor does not, with TOML paths."""

    def check_account(self, login: Login, account: Account) -> Iterator[FieldError]:
        """The same for an account under a login of this vendor."""

    def columns(self, login: Login, account: Account, operation: Operation) -> Mapping[str, Column]:
        """Say what a line of this operation holds, by header: all mapped columns for upserts, else what is needed.

        Every operation but `upsert` has the address column and at most constants: an opt-out needs no other data.
        """

    def upload_form(self, login: Login, account: Account, operation: Operation, token: str | None) -> Form:
        """Say what to POST for a file. `token` is a string exactly where `needs_token`."""

    def read(self, reply: Reply, sent: Sent) -> Outcome | Counted:
        """Say what the reply to an upload claims.

        5xx is `Unknown`, because the body had been sent, unless the vendor's own error code names the cause.
        """

    def judge(self, counted: Counted, sent: Sent, lines: Mapping[int, bytes]) -> Outcome:
        """Compare the claims with the claimed `lines` of the file as sent (CP932 without line ends, by line number).

        Counts that do not add up to the rows sent, a line out of range, or content that does not fit is `Unknown`.
        """

    def login_call(self, login: Login) -> Call:
        """Say what to POST to get a token. Only with `needs_token`."""

    def read_token(self, reply: Reply) -> str | Outcome:
        """Read the token out of the answer to a login call, or say what the answer means. Only with `needs_token`.

        No file has been sent yet, so what is not understood is `Transient`, never `Unknown`.
        """

    def templates(self, login: Login) -> tuple[TemplateKind, ...]:
        """Name the files of which the vendor tells what columns it takes, as far as the settings let relay ask."""

    def template_call(self, login: Login, kind: TemplateKind, token: str | None) -> Call:
        """Say how to ask for these columns. `token` is a string exactly where `needs_token`."""

    def read_template(self, reply: Reply, kind: TemplateKind) -> Template | Outcome:
        """Read them, or say what came instead: never `Unknown`, as no file was sent, and never a guess."""

    def probe_call(self, login: Login) -> Call | None:
        """Say how to find out whether a login is good where no token tells, importing nothing; None where one does.

        The call counts as one of the vendor's day.
        """

    def read_probe(self, reply: Reply) -> Outcome | None:
        """Read whether the login is good: None. `Unauthorized` and `Misconfigured` say no, all else leaves it open."""


def by_status(reply: Reply) -> Outcome | None:
    """Say what an HTTP status means at any vendor; None for 200 and 400, which mean different things at each.

    The vendors' documents name 200, 400, 401 and 500 only. The rest follows from who can mend it: a redirect or another
    4xx answers the request as such and would answer the next one alike, so an operator has to act and nothing is burnt
    (`Misconfigured`); 408, 1xx, 5xx and a 2xx that is not 200 leave open what arrived (`Unknown`).
    """
    said = excerpt(reply)
    busy = Busy(said, reply.retry_after_s)
    meanings: Mapping[int, Outcome | None] = {
        HTTPStatus.OK: None,
        HTTPStatus.BAD_REQUEST: None,
        HTTPStatus.UNAUTHORIZED: Unauthorized(said),
        HTTPStatus.FORBIDDEN: Unauthorized(said),
        HTTPStatus.REQUEST_TIMEOUT: Unknown(said, timed_out=True),
        HTTPStatus.CONFLICT: busy,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE: TooLarge(said),
        HTTPStatus.LOCKED: busy,
        HTTPStatus.TOO_EARLY: busy,
        HTTPStatus.TOO_MANY_REQUESTS: busy,
    }
    redirect_or_4xx = HTTPStatus.MULTIPLE_CHOICES <= reply.status < HTTPStatus.INTERNAL_SERVER_ERROR
    return meanings.get(reply.status, Misconfigured(said) if redirect_or_4xx else Unknown(said))


def by_status_without_file(reply: Reply, told: str) -> Outcome | None:
    """Say the same of a call that sent no file: nothing can have arrived, so what leaves it open is `Transient`.

    None for 200 and 400, as ever; `told` becomes the reason.
    """
    match by_status(reply):
        case None:
            return None
        case Unauthorized():
            return Unauthorized(told)
        case Busy(retry_after_s=patience):
            return Busy(told, patience)
        case Misconfigured() | TooLarge():
            return Misconfigured(told)
        case _:
            return Transient(told)


# -- what may be kept of a reply -------------------------------------------------------------------------------------

CODE: Final = re.compile(r"(?<![0-9A-Za-z])814[0-9]{2}(?![0-9A-Za-z])")
"""配配メール's error codes (its API document): five digits that stand alone, no part of a number or identifier."""

_FAILURE = re.compile(r"Failure_([A-Za-z]+(?: [A-Za-z]+)*)")
_WORDS = frozenset(
    """
    a access account address already an and api are at authenticate authentication authority bad be blank busy by call
    calls cannot column columns conflict connection content contract count csv data database delete denied disabled
    do does duplicate during empty encoding error errors exceeded exist exists expired fail failed failure field fields
    file files find for forbidden form format found from get gid group header headers id illegal import in incorrect
    internal invalid ip is item items key large length limit limited line lines list locked login long mail maintenance
    maximum message method missing more multiple must name no not null number of on only operation or over parameter
    parameters parse password permission please post process processing quota read record records register registered
    request requests required reserved row rows running server service size small status stopped string system the this
    temporarily time timeout to token too try type unable unauthorized unavailable unexpected unknown unsupported update
    upload url user username valid value values was wait with wrong xml json
    """.split()  # noqa: SIM905 - quotes and commas would be half of it
)
"""The words that a `Failure_` message may have to be told: what an API says of a request. Others may be somebody's."""

_COUNT = re.compile(r"\b(success|failure)\b\"?\s*[:>]\s*\"?([0-9]{1,9})(?![0-9])")
_CONTENT_TYPES = ("application/json", "application/xml", "text/html", "text/plain", "text/xml")
_LOOKED_AT_BYTES = 65_536
"""Codes, messages and counts stand at the head or the foot of a reply; the lines between are customers'."""


def excerpt(reply: Reply) -> str:
    """Tell what may be stored and shown of a reply, in one short line, never a customer's data or a token.

    Only this gets through: the status, the size, a well-known content type, 814xx codes, of a `Failure_` message the
    words that are an API's and no name or token, and the counts.
    """
    kept = [f"HTTP {reply.status}"]
    kind = reply.content_type.partition(";")[0].strip().lower()
    if kind in _CONTENT_TYPES:
        kept.append(kind)
    kept.append(f"{len(reply.body)} bytes" + (" (not whole)" if reply.truncated else ""))
    text = _head_and_foot(reply)
    kept += dict.fromkeys(CODE.findall(text))
    if failure := _FAILURE.search(text):
        words = failure[1][:80].split(" ")
        told = " ".join(word if word.lower() in _WORDS else "…" for word in words)
        kept.append(f"Failure_{told}")
    counts: dict[str, str] = {}
    for name, number in _COUNT.findall(text):
        counts.setdefault(name, number)
    kept += [f"{name} {number}" for name, number in counts.items()]
    return ", ".join(kept)


def _head_and_foot(reply: Reply) -> str:
    if len(reply.body) <= 2 * _LOOKED_AT_BYTES:
        return reply.text
    cut = reply.body[:_LOOKED_AT_BYTES] + b"\n" + reply.body[-_LOOKED_AT_BYTES:]
    return cut.decode("latin-1")  # characters may be cut in two, and what is looked for is ASCII
