"""`relay batches`, `batch`, `retry` and `dismiss`: the files that went up or will, and their dead letters."""

import argparse
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime

from pydantic import ValidationError

from relay.batches import BatchState
from relay.cli.operating import add_json, agreed, ask, missing, moment, operator, print_told
from relay.cli.tables import print_pages, print_table, visible
from relay.errors import RelayError
from relay.events import Operation
from relay.status import answers
from relay.status.acting import Missing
from relay.status.asked import PAGE_MAX, BatchesQuery, RejectionsQuery
from relay.status.batches import dismiss_batch, find_batch, find_batches, find_rejections, known_batch, retry_batch
from relay.status.context import Context
from relay.status.service import ID_DIGITS_MAX
from relay.status.why import spell
from relay.store import Operator

SHOWN = 30
"""Batches and refused lines that are told unless more are asked for: a screen of them."""

COLUMNS = ("id", "account", "operation", "state", "rows", "rejected", "bytes", "created", "ended", "reason")
UPLOADS = ("upload", "began", "ended", "status", "outcome", "bytes sent", "reason", "reply")
REJECTIONS = ("line", "event", "source", "webhook", "unconfirmed", "acted on")


def _number(given: str) -> int:
    if not given.isascii() or not given.isdigit() or len(given) > ID_DIGITS_MAX:
        raise argparse.ArgumentTypeError("expected a batch's number")
    return int(given)


def _count(given: str) -> int:
    if not given.isascii() or not given.isdigit() or not 0 < int(given[:10]) <= PAGE_MAX:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 to {PAGE_MAX}")
    return int(given)


def add_batches(parser: argparse.ArgumentParser) -> None:
    """Add what `relay batches` takes."""
    parser.add_argument("--account", metavar="ACCOUNT", help="batches of this account alone")
    parser.add_argument("--state", choices=[str(state) for state in BatchState], help="batches in this state alone")
    parser.add_argument("--operation", choices=[str(one) for one in Operation], help="batches of this operation alone")
    many = parser.add_mutually_exclusive_group()
    many.add_argument("--limit", type=_count, default=SHOWN, metavar="N", help="the newest N (default %(default)s)")
    many.add_argument("--all", action="store_true", help="all there are")
    add_json(parser)


def add_batch(parser: argparse.ArgumentParser) -> None:
    """Add what `relay batch` takes."""
    parser.add_argument("id", type=_number, metavar="ID", help="the batch's number")
    parser.add_argument("--rejections", action="store_true", help="tell its refused lines instead")
    parser.add_argument(
        "--customers",
        action="store_true",
        help="with --rejections: tell the vendor's messages, too, which may hold customers' data; goes on record",
    )
    parser.add_argument("--limit", type=_count, metavar="N", help=f"with --rejections: so many (default {SHOWN})")
    parser.add_argument("--after", type=_number, metavar="LINE", help="with --rejections: those behind this line")
    add_json(parser)


def add_act(parser: argparse.ArgumentParser) -> None:
    """Add what `relay retry` and `relay dismiss` take."""
    parser.add_argument("id", type=_number, metavar="ID", help="the batch's number")
    parser.add_argument("--yes", action="store_true", help="do not ask, which is done on a terminal alone")
    add_json(parser)


# -- looking ---------------------------------------------------------------------------------------------------------


def batches(options: argparse.Namespace) -> int:
    """Print batches, the newest first; the exit code is 0."""
    try:
        asked = BatchesQuery(
            account=options.account,
            state=options.state,
            operation=options.operation,
            limit=PAGE_MAX if options.all else options.limit,
        )
    except ValidationError:
        raise RelayError("--account: expected an account's name") from None
    ask(lambda context: _print_batches(context, asked, options), settings=False)
    return 0


async def _print_batches(context: Context, asked: BatchesQuery, options: argparse.Namespace) -> None:
    if options.all and options.json:
        dumped = ([one.model_dump(mode="json") for one in page.batches] async for page in _pages(context, asked))
        await print_pages("batches", dumped)
    elif options.all:
        async for page in _pages(context, asked):
            print_table(COLUMNS, [_row(one) for one in page.batches])
    else:
        _print_page(await find_batches(context, asked), as_json=options.json)


async def _pages(context: Context, asked: BatchesQuery) -> AsyncIterator[answers.BatchesPage]:
    """Read page after page: however many there are, a command in a pod must not take the memory that relay needs."""
    while True:
        page = await find_batches(context, asked)
        yield page
        if page.next is None:
            return
        asked = asked.model_copy(update={"after": page.next})


def _print_page(page: answers.BatchesPage, *, as_json: bool) -> None:
    if as_json:
        print_told(page)
        return
    print_table(COLUMNS, [_row(one) for one in page.batches])
    if page.next is not None:
        print("there are more: --all tells them")


def _row(batch: answers.Batch) -> dict[str, object]:
    return {
        **batch.model_dump(),
        "created": moment(batch.created_at),
        "ended": moment(batch.ended_at),
        "reason": f"{batch.reason}{_acted(batch.dismissed_at, batch.retried_at)}" or None,
    }


def batch(options: argparse.Namespace) -> int:
    """Print one batch, or its refused lines; the exit code is 0."""
    if not options.rejections and (options.customers or options.limit or options.after):
        raise RelayError("--customers, --limit and --after go with --rejections")
    try:
        if options.rejections:
            _print_rejections(options)
        else:
            told = ask(lambda context: find_batch(context, options.id))
            print_told(told) if options.json else _print_batch(told)
    except Missing as error:
        raise missing(error, options.id) from None
    return 0


def _print_batch(told: answers.BatchDetail) -> None:
    waits = f"; next try in {spell(told.next_try_s)}" if told.next_try_s else ""
    print(f"batch {told.id} of {told.account} at {told.login}: {told.operation}, {told.state}{waits}")
    for text in (told.why, told.reason, _acted(told.dismissed_at, told.retried_at)):
        if text:
            print(visible(f"  {text.strip()}"))
    print(f"  {told.rows} rows, {told.rejected} rejected, {told.bytes} bytes, from {told.cut_from} to {told.cut_to}")
    print(visible(f"  columns: {', '.join(told.header)}"))
    if told.reported_success is not None:
        print(f"  its report mail counts {told.reported_success} imported and {told.reported_failure} failed")
    print_table(UPLOADS, [_upload(upload) for upload in told.uploads])


def _upload(upload: answers.Upload) -> dict[str, object]:
    return {
        "upload": upload.number,
        "began": moment(upload.started_at),
        "ended": moment(upload.ended_at),
        "status": upload.http_status,
        "outcome": upload.outcome or "under way",
        "bytes sent": upload.bytes_sent,
        "reason": upload.reason or None,
        "reply": upload.reply_excerpt or None,
    }


def _print_rejections(options: argparse.Namespace) -> None:
    asked = RejectionsQuery(limit=options.limit or SHOWN, after=options.after or 0)
    by = operator() if options.customers else None
    page = ask(lambda context: find_rejections(context, options.id, asked, by), settings=False)
    if options.json:
        print_told(page)
        return
    columns = (*REJECTIONS, "message") if options.customers else REJECTIONS
    print_table(columns, [_rejection(one) for one in page.rejections])
    if page.next is not None:
        print(f"there are more: --after {page.next} tells them")


def _rejection(rejection: answers.Rejection) -> dict[str, object]:
    return {
        **rejection.model_dump(),
        "event": rejection.event_id,
        "webhook": rejection.webhook_id,
        "acted on": _acted(rejection.dismissed_at, rejection.retried_at).strip(" ()") or None,
    }


def _acted(dismissed_at: datetime | None, retried_at: datetime | None) -> str:
    """Say what an operator did with dead letters."""
    if retried_at is not None:
        return f" (retried {moment(retried_at)})"
    return f" (dismissed {moment(dismissed_at)})" if dismissed_at is not None else ""


# -- acting ----------------------------------------------------------------------------------------------------------


def retry(options: argparse.Namespace) -> int:
    """Append a batch's dead letters again; the exit code is 0."""
    return _act(options, retry_batch, "append {} again", "appended again")


def dismiss(options: argparse.Namespace) -> int:
    """Dismiss a batch's dead letters; the exit code is 0."""
    return _act(options, dismiss_batch, "count {} no more", "dismissed")


def _act(
    options: argparse.Namespace,
    act: Callable[[Context, int, Operator], Awaitable[answers.Changed]],
    question: str,
    done: str,
) -> int:
    by = operator()
    try:
        if not options.yes:
            _confirm(options.id, question)
        changed = ask(lambda context: act(context, options.id, by), settings=False)
    except Missing as error:
        raise missing(error, options.id) from None
    if options.json:
        print_told(changed)
    else:
        print(f"{changed.events} events {done}")
    return 0


def _confirm(batch_id: int, question: str) -> None:
    """Show on a terminal what the batch is, and ask. Elsewhere nobody could answer: go on."""
    if not sys.stdin.isatty():
        return
    told = ask(lambda context: known_batch(context, batch_id), settings=False)
    what = f"{told.operation} of {told.account}, {told.state}, {told.rows} rows, {told.rejected} rejected"
    if not agreed(f"Batch {batch_id} ({what}): {question.format('its dead letters')}?"):
        raise RelayError("nothing was changed")
