"""Accounts and logins over HTTP: how they stand; logins are flushed, paused and resumed."""

from collections.abc import Mapping, Sequence

from aiohttp import web

from relay import settings, vendors
from relay.batches import BatchState
from relay.client import host_of
from relay.events import Operation
from relay.log import logger
from relay.status import answers
from relay.status.acting import Missing, count
from relay.status.asked import Nothing, Pause
from relay.status.auth import Caller
from relay.status.context import Context
from relay.status.quota import quota
from relay.status.respond import json_of
from relay.status.why import why_later
from relay.store import ActName, Operator, ToldCheck, ToldCursor, ToldLane, Unsettled

log = logger(__name__)


async def list_accounts(context: Context, _request: web.Request, _: Caller, _asked: Nothing) -> web.Response:
    """`GET /v1/accounts`: what waits at each account, how old it is, and how far its cursors have come."""
    return json_of(await find_accounts(context))


async def find_accounts(context: Context) -> answers.Accounts:
    """Tell all accounts of the settings."""
    names = list(context.settings.accounts)
    cursors = await context.store.tell_cursors(names)
    dead_letters = await context.store.tell_dead_letters(names)
    unsettled = {(u.account, u.operation): u for u in await context.store.tell_unsettled()}
    checks = await context.store.tell_checks(names)
    lanes = await context.store.tell_lanes(context.settings.logins)
    return answers.Accounts(
        accounts=[
            _account(
                context,
                account,
                [c for c in cursors if c.account == name],
                unsettled,
                dead_letters[name].total,
                checks.get(name),
                lanes.get(account.login),
            )
            for name, account in context.settings.accounts.items()
        ]
    )


async def list_logins(context: Context, _request: web.Request, _: Caller, _asked: Nothing) -> web.Response:
    """`GET /v1/logins`: each login and its lane: who works it, what it waits for, its quota."""
    return json_of(await find_logins(context))


async def find_logins(context: Context) -> answers.Logins:
    """Tell all logins of the settings."""
    return answers.Logins(logins=await _logins(context, list(context.settings.logins)))


async def flush(context: Context, request: web.Request, caller: Caller, _: Nothing) -> web.Response:
    """`POST /v1/logins/{login}/flush`: everything that waits at a login now is due."""
    return json_of(await flush_login(context, request.match_info["login"], caller.operator))


async def flush_login(context: Context, login: str, by: Operator) -> answers.Login:
    """Make everything that waits at a login now due. Raises Missing."""
    _known(context, login)
    await context.store.flush_lane(login, by)
    return await _changed(context, login, by, "flush")


async def pause(context: Context, request: web.Request, caller: Caller, asked: Pause) -> web.Response:
    """`POST /v1/logins/{login}/pause`: nothing more goes up until the login is resumed; an upload under way ends."""
    return json_of(await pause_login(context, request.match_info["login"], asked, caller.operator))


async def pause_login(context: Context, login: str, asked: Pause, by: Operator) -> answers.Login:
    """Pause a login. Raises Missing."""
    _known(context, login)
    await context.store.pause_lane(login, asked.reason, by)
    return await _changed(context, login, by, "pause")


async def resume(context: Context, request: web.Request, caller: Caller, _: Nothing) -> web.Response:
    """`POST /v1/logins/{login}/resume`: go on at once, whatever a login paused or waited for.

    Waits that outlast it are told in the answer: a vendor that may still be importing, and logins refused too often.
    """
    return json_of(await resume_login(context, request.match_info["login"], caller.operator))


async def resume_login(context: Context, login: str, by: Operator) -> answers.Login:
    """Let a login go on at once. Raises Missing."""
    _known(context, login)
    await context.store.resume_lane(login, by)
    return await _changed(context, login, by, "resume")


_LOGGED: Mapping[ActName, str] = {"flush": "lane_flushed", "pause": "lane_paused", "resume": "lane_resumed"}


async def _changed(context: Context, login: str, by: Operator, act: ActName) -> answers.Login:
    count(context, act)
    log.info(_LOGGED[act], login=login, token=by.name)
    context.wake()
    return (await _logins(context, [login]))[0]


def _known(context: Context, login: str) -> None:
    if login not in context.settings.logins:
        raise Missing("There is no such login in the settings.", context.settings.logins)


async def _logins(context: Context, names: Sequence[str]) -> list[answers.Login]:
    lanes = await context.store.tell_lanes(names)
    accounts = [account.name for name in names for account in context.settings.accounts_of(name)]
    cursors = await context.store.tell_cursors(accounts)
    return [_login(context, context.settings.logins[name], lanes.get(name), cursors) for name in names]


def _login(
    context: Context, login: settings.Login, lane: ToldLane | None, cursors: Sequence[ToldCursor]
) -> answers.Login:
    accounts = [account.name for account in context.settings.accounts_of(login.name)]
    uploading = [c.batch_id for c in cursors if c.account in accounts and c.batch_state is BatchState.UPLOADING]
    waits = paused = None
    if lane is not None and lane.waits_until is not None:
        waits = answers.Waits(until=lane.waits_until, seconds=lane.wait_s, reason=lane.wait_reason)
    if lane is not None and lane.paused_at is not None and lane.pause_reason is not None:
        paused = answers.Paused(
            since=lane.paused_at, reason=lane.pause_reason, detail=lane.pause_detail, holds=context.holds(lane)
        )
    breaker = None
    if context.host is not None:
        host = context.host(login)
        breaker = answers.Breaker(host=host_of(login), state=host.state.value, next_try_s=host.next_try_s)
    return answers.Login(
        name=login.name,
        vendor=login.vendor,
        accounts=accounts,
        leased=lane.leased if lane else False,
        generation=lane.generation if lane else 0,
        leased_s=lane.leased_s if lane else 0,
        uploading_batch=uploading[0] if uploading else None,
        waits=waits,
        paused=paused,
        quota=quota(context.pace(login.name), lane),
        refused_settings=_refused(context, lane),
        refused_logins=answers.RefusedLogins(
            last_hour=lane.refused_logins if lane else 0, per_hour_max=login.login_failures_per_hour_max
        ),
        breaker=breaker,
    )


def _refused(context: Context, lane: ToldLane | None) -> answers.RefusedSettings | None:
    if lane is None or lane.refused_until is None:
        return None
    data_only = not context.refused_s(lane)
    if data_only and not context.refused_data_s(lane):
        return None
    return answers.RefusedSettings(until=lane.refused_until, seconds=lane.refused_s, data_only=data_only)


def _account(
    context: Context,
    account: settings.Account,
    cursors: Sequence[ToldCursor],
    unsettled: Mapping[tuple[str, Operation], Unsettled],
    dead_letters: int,
    check: ToldCheck | None,
    lane: ToldLane | None,
) -> answers.Account:
    login = context.settings.login_of(account)
    own = [entry for (name, _), entry in unsettled.items() if name == account.name]
    return answers.Account(
        name=account.name,
        login=login.name,
        vendor=login.vendor,
        mode=account.mode,
        headers=list(account.columns),
        pending=sum(entry.pending for entry in own),
        oldest_unsettled=answers.OldestUnsettled(
            opt_out_s=_oldest_s([entry for entry in own if entry.operation.opt_out]),
            data_s=_oldest_s([entry for entry in own if not entry.operation.opt_out]),
        ),
        flush_after=_flush_after(login, account),
        dead_letters=dead_letters,
        cursors=[
            _cursor(
                login,
                cursor,
                unsettled[account.name, cursor.operation].pending,
                why_later(cursor, lane, context.pace(login.name)) if _waits(cursor) else None,
            )
            for cursor in cursors
        ],
        check=_check(context, account, check),
    )


def _flush_after(login: settings.Login, account: settings.Account) -> answers.FlushAfter:
    """Tell the longest of each kind, as the metric does."""
    after = {operation: vendors.flush_after_s(login, account, operation) for operation in login.operations}
    return answers.FlushAfter(
        opt_out_s=max(after_s for operation, after_s in after.items() if operation.opt_out),
        data_s=max(after_s for operation, after_s in after.items() if not operation.opt_out),
    )


def _check(context: Context, account: settings.Account, told: ToldCheck | None) -> answers.Check | None:
    """Tell of the last check; a newer relay's may hold more than this one knows."""
    if told is None:
        return None
    current = told.fingerprint == context.fingerprints[account.login]
    return answers.Check.model_validate({**told.result, "at": told.checked_at, "fingerprint_current": current})


def _oldest_s(entries: Sequence[Unsettled]) -> float | None:
    return max((entry.oldest_s for entry in entries if entry.oldest_s is not None), default=None)


def _waits(cursor: ToldCursor) -> bool:
    """Whether there is something whose next try is later. Kept back for calls are also those with nothing to do."""
    return cursor.next_try_s > 0 and (cursor.batch_id is not None or cursor.first_id is not None)


def _cursor(login: settings.Login, cursor: ToldCursor, pending: int, why: str | None) -> answers.Cursor:
    rows = [limit for limit in (cursor.rows_max, login.rows_max) if limit is not None]
    return answers.Cursor(
        operation=cursor.operation,
        position=cursor.position,
        pending=pending,
        attempts=cursor.attempts,
        next_try_s=cursor.next_try_s,
        why=why,
        rows_max=min(rows, default=None),
        bytes_max=min(cursor.bytes_max or login.file_bytes_max, login.file_bytes_max),
        batch_id=cursor.batch_id,
        batch_state=cursor.batch_state,
    )
