"""Previews: what the next cuts of an account would send. Nothing moves by looking."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from aiohttp import web

from relay.batches import DAY_S, Day, going_up
from relay.errors import RelayError
from relay.events import Operation
from relay.settings import Account
from relay.status import answers
from relay.status.asked import Nothing
from relay.status.auth import Caller
from relay.status.context import Context
from relay.status.foreseeing import Look, Seen
from relay.status.quota import quota
from relay.status.respond import json_of, not_found
from relay.status.why import Around, why_operation
from relay.store import Snapshot, Target

FILES_MAX = 20
"""Files that are told at most: days of a shared server's calls, and more than anybody reads."""

LOOK_S = 2.0
"""How long is looked at most, in steps of some ten thousand events: Postgres has other things to do."""

FIRST_FILE_S = 10.0
"""How long it may take to find the first file: an answer without any would be of no use."""


class UnknownAccount(RelayError):
    """The settings name no such account."""


async def preview_account(context: Context, request: web.Request, _: Caller, _asked: Nothing) -> web.Response:
    """`POST /v1/accounts/{account}/preview`: what the next cuts of an account would send.

    Nothing is cut or moved by asking.
    """
    try:
        return json_of(await preview(context, request.match_info["account"]))
    except UnknownAccount:
        raise not_found("There is no such account in the settings.") from None


async def preview(
    context: Context, name: str, *, files_max: int = FILES_MAX, look_s: float = LOOK_S
) -> answers.Preview:
    """Look what the next cuts of an account would send, within limits. Raises UnknownAccount."""
    account = context.settings.accounts.get(name)
    if account is None:
        raise UnknownAccount(
            f"the settings name no account {name!r}; they have {', '.join(sorted(context.settings.accounts))}"
        )
    async with context.previews, context.store.snapshot() as snapshot:
        around = await _around(context, snapshot, account)
        login = context.settings.login_of(account)
        look = Look(snapshot, login, around, files_max, look_s=look_s, first_file_s=max(look_s, FIRST_FILE_S))
        found = [await look.place(account, operation) for operation in Operation if (name, operation) in around.cursors]
        seen = sorted(found, key=partial(_order, around))
        for one in seen:  # the first to go first: its files are told before time or number run out
            await look.files(one)
    return _told(context, account, around, [one for one in seen if one.something])


async def _around(context: Context, snapshot: Snapshot, account: Account) -> Around:
    """Tell what stands around the account, with those cursors marked as due at once that have a file full."""
    login = context.settings.login_of(account)
    cursors = await snapshot.tell_cursors([a.name for a in context.settings.accounts_of(login.name)])
    lanes = await snapshot.tell_lanes([login.name])
    around = context.around_login(login.name, cursors, lanes.get(login.name))
    places = {}
    for key, cursor in around.cursors.items():
        if cursor.batch_id is not None or not around.due_in_s(cursor):
            continue  # nothing waits, or it is due anyway
        target = Target.of(login, context.settings.accounts[key[0]], key[1])
        place = await snapshot.place(target, look_if_full=True)
        if place is not None and place.fills:
            places[key] = replace(cursor, again=True)  # as due as what was appended again
    return replace(around, cursors={**around.cursors, **places})


def _order(around: Around, seen: Seen) -> tuple[float, bool, float]:
    """The order in which operations go: opt-outs that have something to do before all data, then by age."""
    return (_begins_in_s(around, seen), not seen.operation.opt_out, -(seen.place.age_s if seen.place else 0.0))


def _begins_in_s(around: Around, seen: Seen) -> float:
    """When an operation may begin: data not before the opt-outs of the login that have something to do."""
    soonest_s = max(seen.cursor.next_try_s, seen.due_in_s)
    if not around.behind_opt_outs(seen.operation):
        return soonest_s
    return max(soonest_s, *(cursor.next_try_s for cursor in around.opt_outs_at_work()))


def _told(context: Context, account: Account, around: Around, seen: Sequence[Seen]) -> answers.Preview:
    login = context.settings.login_of(account)
    moments = _moments(context, login.name, around, seen)
    operations = []
    for one in seen:
        first, moments = moments[: one.uploads], moments[one.uploads :]
        operations.append(_operation(one, around, first))
    day = quota(context.pace(login.name), around.lane)
    files = [file for one in operations for file in one.files]
    last = [at for one in operations for at in (one.open_batch_in_s, *(file.in_s for file in one.files))]
    return answers.Preview(
        account=account.name,
        login=login.name,
        vendor=login.vendor,
        operations=operations,
        files=len(files),
        rows=sum(file.rows for file in files),
        bytes=sum(file.bytes for file in files),
        superseded=sum(one.superseded for one in operations),
        calls=answers.PreviewedCalls(
            needed=sum(one.uploads for one in seen),
            per_day=day.per_day,
            left=day.left,
            kept_for_opt_outs=day.kept_for_opt_outs,
            takes_s=max((at for at in last if at is not None), default=None),
        ),
        complete=all(one.complete for one in operations),
    )


def _operation(seen: Seen, around: Around, moments: Sequence[float | None]) -> answers.PreviewedOperation:
    of_batch, of_files = moments[: seen.batch_goes_up], moments[seen.batch_goes_up :]
    files = [
        answers.PreviewedFile(
            header=list(file.header), rows=file.rows, bytes=file.bytes, superseded=file.superseded, in_s=at
        )
        for file, at in zip(seen.files, of_files, strict=True)
    ]
    batch = None
    if seen.batch is not None:
        told = seen.batch
        batch = answers.OpenBatch(
            id=told.id, state=told.state, rows=told.rows, bytes=told.bytes, cut_anew=seen.cut_anew
        )
    return answers.PreviewedOperation(
        operation=seen.operation,
        due_in_s=seen.due_in_s,
        next_try_s=seen.cursor.next_try_s,
        why=why_operation(seen.cursor, around),
        open_batch=batch,
        open_batch_in_s=of_batch[0] if of_batch else None,
        files=files,
        rows=sum(file.rows for file in files),
        bytes=sum(file.bytes for file in files),
        superseded=seen.superseded,
        complete=seen.complete,
    )


def _moments(context: Context, login: str, around: Around, seen: Sequence[Seen]) -> list[float | None]:
    """Say for each upload of the operations, in their order, in how many seconds it may go up; None in a pause."""
    lane_s = max(around.lane.wait_s if around.lane else 0.0, around.host.next_try_s, around.refused_s)
    going = [one for one in seen if not around.pauses(one.operation)]
    soonest = [
        (
            one.operation.opt_out,
            max(lane_s, _begins_in_s(around, one), 0.0 if one.operation.opt_out else around.refused_data_s),
        )
        for one in going
        for _ in range(one.uploads)
    ]
    day = around.lane.day if around.lane else Day(0, DAY_S)
    moments = iter(going_up(context.pace(login), day, soonest, context.settings.logins[login].settle_after_s))
    return [next(moments) if one in going else None for one in seen for _ in range(one.uploads)]
