"""Taking webhooks: mapped to events, appended to the log, and answered."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from aiohttp import web

from relay.errors import Invalid
from relay.events import TYPES
from relay.log import logger
from relay.metrics import Metrics
from relay.problem import problem
from relay.receive.admission import Entrance
from relay.receive.answers import Answer, ManyTaken, Taken, TakenEvent, Warned
from relay.receive.appender import Appender
from relay.receive.mapping import Mapped, Stamps
from relay.receive.parse import Refused, Webhook
from relay.receive.refusals import Reused
from relay.receive.tally import NOT_STORABLE, Tally, recalled, result
from relay.store.append import Appended

MAPPED_AT_ONCE_MAX = 50
"""After so many webhooks of one request (some 2 ms) other requests get their turn."""

log = logger(__name__)


class Taking:
    """Takes what sources send, one webhook or many."""

    def __init__(self, appender: Appender, metrics: Metrics) -> None:
        self._appender = appender
        self._metrics = metrics
        self._stamps = Stamps()

    async def one(self, entrance: Entrance, webhook: Webhook, now: datetime) -> web.Response:
        """Take one webhook: 202 once it is in the log. Raises Invalid, Reused or Unavailable."""
        try:
            mapped = entrance.mapper.events(webhook, self._stamps.next(now))
        except Invalid as error:
            return await self._recall(entrance, webhook, error)
        appended = await self._appender.append(mapped.events)
        became = result(appended)
        if became in ("conflict", "invalid"):
            self._note_opt_out(entrance, webhook)
            raise Reused if became == "conflict" else Invalid(NOT_STORABLE)
        entrance.results[became].inc()
        if became == "accepted":
            self._count_replaced(mapped.replaced)
        return taken(_answer(webhook.message_id, became, mapped, appended))

    async def many(self, entrance: Entrance, entries: Iterable[Webhook | Refused], now: datetime) -> web.Response:
        """Take many webhooks: 202 with what became of each, or 422 with the same where none can be taken."""
        tally = Tally()
        for index, entry in enumerate(entries):
            tally.add(index, entry, entrance.mapper, self._stamps.next(now))
            if index % MAPPED_AT_ONCE_MAX == MAPPED_AT_ONCE_MAX - 1:
                await asyncio.sleep(0)
        if tally.unmapped:
            ids = [webhook.message_id for webhook, _ in tally.unmapped.values()]
            tally.recall(await self._appender.known(entrance.name, ids), entrance.mapper)
        tally.settle(await self._appender.append(tally.events))
        self._count(entrance, tally)
        if tally.nothing_taken:
            members = tally.answer().model_dump(exclude_unset=True)
            return problem(422, "None of the webhooks can be taken.", members=members)
        return taken(tally.answer())

    async def _recall(self, entrance: Entrance, webhook: Webhook, error: Invalid) -> web.Response:
        """Answer a webhook that cannot be mapped: a duplicate if it was taken before. Raises Reused, or the error."""
        known = (await self._appender.known(entrance.name, [webhook.message_id])).get(webhook.message_id, ())
        became = recalled(known, entrance.mapper.digest(webhook))
        if became != "duplicate":
            self._note_opt_out(entrance, webhook)
            raise Reused if became == "conflict" else error
        entrance.results[became].inc()
        events = [TakenEvent(account=one.account, event_id=one.event_id) for one in known]
        return taken(Taken(webhook_id=webhook.message_id, duplicate=True, events=events, warnings=[]))

    def _note_opt_out(self, entrance: Entrance, webhook: Webhook) -> None:
        """Tell of an opt-out that is refused: somebody has to mend it, or a customer is mailed who must not be."""
        if TYPES[webhook.type].opt_out:
            self._metrics.opt_outs_refused.labels(entrance.name).inc()
            log.error("opt_out_refused", source=entrance.name, type=webhook.type)

    def _count(self, entrance: Entrance, tally: Tally) -> None:
        for became, count in tally.results.items():
            entrance.results[became].inc(count)
        self._count_replaced(tally.replaced)
        if tally.opt_outs_refused:
            self._metrics.opt_outs_refused.labels(entrance.name).inc(tally.opt_outs_refused)
            log.error("opt_out_refused", source=entrance.name, count=tally.opt_outs_refused)
        if tally.fields:
            log.warning("webhooks_refused", source=entrance.name, fields=sorted(tally.fields), **tally.results)

    def _count_replaced(self, replaced: Mapping[str, int]) -> None:
        for account, characters in replaced.items():
            if characters:
                self._metrics.replaced_characters.labels(account).inc(characters)


def _answer(message_id: str, became: str, mapped: Mapped, appended: Sequence[Appended]) -> Taken:
    return Taken(
        webhook_id=message_id,
        duplicate=became == "duplicate",
        events=[
            TakenEvent(account=event.account, event_id=one.event_id)
            for event, one in zip(mapped.events, appended, strict=True)
            if one.status != "foreign"
        ],
        warnings=[Warned(**remark.members()) for remark in mapped.remarks],
    )


def taken(answer: Taken | ManyTaken) -> web.Response:
    """Answer 202. A warning names an account only where it concerns but one."""
    return web.Response(status=202, body=_json(answer), content_type="application/json")


def _json(answer: Answer) -> bytes:
    return answer.model_dump_json(exclude_unset=True).encode("utf-8")
