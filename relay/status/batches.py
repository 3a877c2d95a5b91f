"""Batches over HTTP: listed, told with their uploads and refused lines, downloaded, retried, dismissed, reported."""

from aiohttp import web

from relay import csvline
from relay.batches import OPEN, BatchState
from relay.errors import Conflict, FieldError, Invalid, RelayError
from relay.events import origin
from relay.listening import SERVER
from relay.log import logger
from relay.spool import file_name
from relay.status import answers
from relay.status.acting import Missing, count, looked
from relay.status.asked import BatchesQuery, Nothing, RejectionsQuery, Report
from relay.status.auth import Caller
from relay.status.context import Context
from relay.status.respond import PRIVATE, json_of
from relay.status.why import why_batch
from relay.store import Act, Operator, ToldBatch, ToldRejection

log = logger(__name__)


async def list_batches(context: Context, _request: web.Request, _: Caller, asked: BatchesQuery) -> web.Response:
    """`GET /v1/batches`: batches, the newest first, a page at a time."""
    return json_of(await find_batches(context, asked))


async def find_batches(context: Context, asked: BatchesQuery) -> answers.BatchesPage:
    """Tell a page of batches."""
    below = {} if asked.after is None else {"below": asked.after}
    found = await context.store.tell_batches(
        asked.account, asked.state, asked.operation, limit=asked.limit + 1, **below
    )
    page = found[: asked.limit]
    return answers.BatchesPage(
        batches=[answers.Batch.model_validate(batch) for batch in page],
        next=page[-1].id if len(found) > asked.limit else None,
    )


async def tell_batch(context: Context, request: web.Request, _: Caller, _asked: Nothing) -> web.Response:
    """`GET /v1/batches/{id}`: one batch, its uploads, and why it waits."""
    return json_of(await find_batch(context, _id(request)))


async def find_batch(context: Context, batch_id: int) -> answers.BatchDetail:
    """Tell one batch. Raises Missing."""
    batch = await known_batch(context, batch_id)
    uploads = await context.store.tell_uploads(batch.account, batch.id)
    around = (await context.around([batch.account])).get(batch.account)
    cursor = around.cursors.get((batch.account, batch.operation)) if around and batch.state in OPEN else None
    return answers.BatchDetail(
        **answers.Batch.model_validate(batch).model_dump(),
        header=list(batch.header),
        sha256=batch.sha256,
        refused=batch.refused,
        attempts=cursor.attempts if cursor else 0,
        next_try_s=cursor.next_try_s if cursor else 0,
        why=why_batch(batch, around),
        uploads=[answers.Upload.model_validate(upload) for upload in uploads],
    )


async def list_rejections(
    context: Context, request: web.Request, caller: Caller, asked: RejectionsQuery
) -> web.Response:
    """`GET /v1/batches/{id}/rejections`: a batch's refused lines in their order, a page at a time."""
    by = caller.operator if caller.sees_customers and asked.messages else None
    return json_of(await find_rejections(context, _id(request), asked, by))


async def find_rejections(
    context: Context, batch_id: int, asked: RejectionsQuery, by: Operator | None
) -> answers.RejectionsPage:
    """Tell a page of refused lines, with the vendor's messages only to an operator, who is noted. Raises Missing."""
    batch = await known_batch(context, batch_id)
    found = await context.store.tell_rejections(batch.account, batch.id, behind=asked.after, limit=asked.limit + 1)
    page = found[: asked.limit]
    if by is not None and page:
        act = Act("see_rejections", account=batch.account, batch_id=batch.id, events=len(page))
        await looked(context, by, act)
    return answers.RejectionsPage(
        rejections=[_rejection(rejection, told=by is not None) for rejection in page],
        next=page[-1].line if len(found) > asked.limit else None,
    )


async def download(context: Context, request: web.Request, caller: Caller, _: Nothing) -> web.StreamResponse:
    """`GET /v1/batches/{id}/file`: a batch's file as it went up or will go up, rendered from the log."""
    batch = await known_batch(context, _id(request))
    if await context.store.is_pruned(batch.account, batch.id):
        raise Missing("Retention has deleted lines of this batch: its file cannot be rendered again.")
    manifest = await context.store.manifest(batch.account, batch.id)
    act = Act("download", account=batch.account, batch_id=batch.id, events=batch.rows)
    await looked(context, caller.operator, act)
    log.info("file_downloaded", batch=batch.id, token=caller.name)
    response = web.StreamResponse(
        headers={
            "Content-Type": "text/csv; charset=Shift_JIS",
            "Content-Disposition": f'attachment; filename="{file_name(batch.id)}"',
            "Server": SERVER,  # it begins before the connection could say so
            **PRIVATE,
        }
    )
    response.content_length = batch.bytes
    await response.prepare(request)
    header = csvline.record(batch.header)
    left = batch.bytes - len(header)
    try:
        await response.write(header)
        async for lines in context.store.lines(manifest):
            left -= len(lines)
            await response.write(lines)
    except RelayError as error:
        log.warning("download_cut_off", batch=batch.id, reason=str(error))
    if left and request.transport is not None:
        # The head has been sent: only a broken connection tells the caller that the file is not whole.
        log.error("download_not_whole", batch=batch.id, bytes_left=left)
        request.transport.abort()
    return response


async def retry(context: Context, request: web.Request, caller: Caller, _: Nothing) -> web.Response:
    """`POST /v1/batches/{id}/retry`: append a batch's dead letters again, as they were."""
    return json_of(await retry_batch(context, _id(request), caller.operator))


async def retry_batch(context: Context, batch_id: int, by: Operator) -> answers.Changed:
    """Append a batch's dead letters again. Raises Missing, or Conflict if it has none."""
    batch = await known_batch(context, batch_id)
    events = await context.store.retry_batch(batch.account, batch.id, by)
    if not events:
        raise Conflict(f"batch {batch.id} is {batch.state} and has no dead letters that could be retried")
    context.metrics.events.labels(context.metrics.vendor(batch.account), batch.operation).inc(events)
    count(context, "retry")
    log.info("batch_retried", batch=batch.id, events=events, token=by.name)
    context.wake()
    return answers.Changed(events=events)


async def dismiss(context: Context, request: web.Request, caller: Caller, _: Nothing) -> web.Response:
    """`POST /v1/batches/{id}/dismiss`: count a batch's dead letters no more."""
    return json_of(await dismiss_batch(context, _id(request), caller.operator))


async def dismiss_batch(context: Context, batch_id: int, by: Operator) -> answers.Changed:
    """Dismiss a batch's dead letters. Raises Missing, or Conflict if it has none."""
    batch = await known_batch(context, batch_id)
    events = await context.store.dismiss_batch(batch.account, batch.id, by)
    if not events:
        raise Conflict(f"batch {batch.id} is {batch.state} and has no dead letters that could be dismissed")
    count(context, "dismiss")
    log.info("batch_dismissed", batch=batch.id, events=events, token=by.name)
    return answers.Changed(events=events)


async def report(context: Context, request: web.Request, caller: Caller, counts: Report) -> web.Response:
    """`PUT /v1/batches/{id}/report`: record what the vendor's report mail counts.

    The last report counts. One that counts more lines than the file has belongs to another batch, and is refused.
    """
    batch = await known_batch(context, _id(request))
    counted = counts.success + counts.failure
    if batch.state is BatchState.ACCEPTED and counted > batch.rows:
        raise Invalid(FieldError("success", f"with `failure` that makes {counted}, but the file has {batch.rows} rows"))
    if not await context.store.report_batch(batch.account, batch.id, counts.success, counts.failure, caller.operator):
        raise Conflict(f"batch {batch.id} is {batch.state}; reports are for accepted batches")
    newly_failed = max(0, counts.failure - (batch.reported_failure or 0))
    context.metrics.reported_failures.labels(context.metrics.vendor(batch.account), batch.operation).inc(newly_failed)
    count(context, "report")
    tell = log.warning if counts.failure else log.info
    tell("batch_reported", batch=batch.id, success=counts.success, failure=counts.failure, token=caller.name)
    return json_of(
        answers.Reported(batch=batch.id, success=counts.success, failure=counts.failure, uncounted=batch.rows - counted)
    )


async def known_batch(context: Context, batch_id: int) -> ToldBatch:
    """Give a batch. Raises Missing."""
    batch = await context.store.tell_batch(batch_id)
    if batch is None:
        raise Missing("There is no such batch.")
    return batch


def _id(request: web.Request) -> int:
    return int(request.match_info["id"])


def _rejection(rejection: ToldRejection, *, told: bool) -> answers.Rejection:
    return answers.Rejection(
        line=rejection.line,
        event_id=rejection.event_id,
        source=rejection.source,
        webhook_id=rejection.message_id and origin(rejection.message_id)[0],
        message=rejection.message if told else None,
        unconfirmed=rejection.unconfirmed,
        dismissed_at=rejection.dismissed_at,
        retried_at=rejection.retried_at,
    )
