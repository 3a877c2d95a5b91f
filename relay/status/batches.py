"""Batches over HTTP: listed, told with their uploads and refused lines, downloaded, retried, dismissed, reported."""

from aiohttp import web

from relay import csvline
from relay.batches import OPEN, BatchState
from relay.errors import Conflict, FieldError, Invalid, RelayError
from relay.events import origin
from relay.log import logger
from relay.spool import file_name
from relay.status import answers
from relay.status.asked import BatchesQuery, Nothing, RejectionsQuery, Report
from relay.status.auth import Caller
from relay.status.context import Context
from relay.status.respond import json_of, not_found
from relay.status.why import why_batch
from relay.store import ToldBatch, ToldRejection

log = logger(__name__)


async def list_batches(context: Context, _request: web.Request, _: Caller, asked: BatchesQuery) -> web.Response:
    """`GET /v1/batches`: batches, the newest first, a page at a time."""
    below = {} if asked.after is None else {"below": asked.after}
    found = await context.store.tell_batches(
        asked.account, asked.state, asked.operation, limit=asked.limit + 1, **below
    )
    page = found[: asked.limit]
    return json_of(
        answers.BatchesPage(
            batches=[answers.Batch.model_validate(batch) for batch in page],
            next=page[-1].id if len(found) > asked.limit else None,
        )
    )


async def tell_batch(context: Context, request: web.Request, _: Caller, _asked: Nothing) -> web.Response:
    """`GET /v1/batches/{id}`: one batch, its uploads, and why it waits."""
    batch = await _batch(context, request)
    uploads = await context.store.tell_uploads(batch.account, batch.id)
    around = (await context.around([batch.account])).get(batch.account)
    cursor = around.cursors.get((batch.account, batch.operation)) if around and batch.state in OPEN else None
    return json_of(
        answers.BatchDetail(
            **answers.Batch.model_validate(batch).model_dump(),
            header=list(batch.header),
            sha256=batch.sha256,
            refused=batch.refused,
            attempts=cursor.attempts if cursor else 0,
            next_try_s=cursor.next_try_s if cursor else 0,
            why=why_batch(batch, around),
            uploads=[answers.Upload.model_validate(upload) for upload in uploads],
        )
    )


async def list_rejections(
    context: Context, request: web.Request, caller: Caller, asked: RejectionsQuery
) -> web.Response:
    """`GET /v1/batches/{id}/rejections`: a batch's refused lines in their order, a page at a time."""
    batch = await _batch(context, request)
    found = await context.store.tell_rejections(batch.account, batch.id, behind=asked.after, limit=asked.limit + 1)
    page = found[: asked.limit]
    return json_of(
        answers.RejectionsPage(
            rejections=[_rejection(rejection, caller) for rejection in page],
            next=page[-1].line if len(found) > asked.limit else None,
        )
    )


async def download(context: Context, request: web.Request, caller: Caller, _: Nothing) -> web.StreamResponse:
    """`GET /v1/batches/{id}/file`: a batch's file as it went up or will go up, rendered from the log."""
    batch = await _batch(context, request)
    manifest = await context.store.manifest(batch.account, batch.id)
    log.info("file_downloaded", batch=batch.id, token=caller.name)
    response = web.StreamResponse(
        headers={
            "Content-Type": "text/csv; charset=Shift_JIS",
            "Content-Disposition": f'attachment; filename="{file_name(batch.id)}"',
            "Cache-Control": "no-store",
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
    batch = await _batch(context, request)
    events = await context.store.retry_batch(batch.account, batch.id)
    if not events:
        raise Conflict(f"batch {batch.id} is {batch.state} and has no dead letters that could be retried")
    context.metrics.events.labels(batch.account, batch.operation).inc(events)
    log.info("batch_retried", batch=batch.id, events=events, token=caller.name)
    context.wake()
    return json_of(answers.Changed(events=events))


async def dismiss(context: Context, request: web.Request, caller: Caller, _: Nothing) -> web.Response:
    """`POST /v1/batches/{id}/dismiss`: count a batch's dead letters no more."""
    batch = await _batch(context, request)
    events = await context.store.dismiss_batch(batch.account, batch.id)
    if not events:
        raise Conflict(f"batch {batch.id} is {batch.state} and has no dead letters that could be dismissed")
    log.info("batch_dismissed", batch=batch.id, events=events, token=caller.name)
    return json_of(answers.Changed(events=events))


async def report(context: Context, request: web.Request, caller: Caller, counts: Report) -> web.Response:
    """`PUT /v1/batches/{id}/report`: record what the vendor's report mail counts.

    The last report counts. One that counts more lines than the file has belongs to another batch, and is refused.
    """
    batch = await _batch(context, request)
    counted = counts.success + counts.failure
    if batch.state is BatchState.ACCEPTED and counted > batch.rows:
        raise Invalid(FieldError("success", f"with `failure` that makes {counted}, but the file has {batch.rows} rows"))
    if not await context.store.report_batch(batch.account, batch.id, counts.success, counts.failure):
        raise Conflict(f"batch {batch.id} is {batch.state}; reports are for accepted batches")
    newly_failed = max(0, counts.failure - (batch.reported_failure or 0))
    context.metrics.reported_failures.labels(batch.account, batch.operation).inc(newly_failed)
    tell = log.warning if counts.failure else log.info
    tell("batch_reported", batch=batch.id, success=counts.success, failure=counts.failure, token=caller.name)
    return json_of(
        answers.Reported(batch=batch.id, success=counts.success, failure=counts.failure, uncounted=batch.rows - counted)
    )


async def _batch(context: Context, request: web.Request) -> ToldBatch:
    batch = await context.store.tell_batch(int(request.match_info["id"]))
    if batch is None:
        raise not_found("There is no such batch.")
    return batch


def _rejection(rejection: ToldRejection, caller: Caller) -> answers.Rejection:
    return answers.Rejection(
        line=rejection.line,
        event_id=rejection.event_id,
        source=rejection.source,
        webhook_id=rejection.message_id and origin(rejection.message_id)[0],
        message=rejection.message if caller.sees_customers else None,
        unconfirmed=rejection.unconfirmed,
        dismissed_at=rejection.dismissed_at,
        retried_at=rejection.retried_at,
    )
