"""Taking webhooks: mapped to events, appended to the log, and answered."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from time import monotonic

from aiohttp import web

from relay.errors import Invalid, RelayError
from relay.log import logger
from relay.metrics import Metrics
from relay.problem import heading, problem_of
from relay.receive.admission import Entrance
from relay.receive.answers import Answer, ManyTaken, NoneTaken, Taken, TakenEvent, Warned
from relay.receive.appender import Appender
from relay.receive.followed import Followed
from relay.receive.mapping import Mapped, Stamps
from relay.receive.parse import Refused, Webhook, asks_opt_out
from relay.receive.refusals import Forbidden, Reused
from relay.receive.tally import RESULTS, Mapping_, Tally, each, recalled, refusal_of, remarks_of
from relay.store.append import Known
from relay.store.book import Became

TURN_S = 0.002
"""A request with many webhooks is read and mapped so long (some 50 of the usual ones); then others get their turn."""

NONE_TAKEN = "None of the webhooks can be taken."

log = logger(__name__)


class Taking:
    """Takes what sources send, one webhook or many."""

    def __init__(self, appender: Appender, metrics: Metrics) -> None:
        self._appender = appender
        self._metrics = metrics
        self._stamps = Stamps()

    async def one(self, entrance: Entrance, webhook: Webhook, now: datetime) -> web.Response:
        """Take one webhook: 202 once it is in the log. Raises Forbidden, Invalid, Reused or Unavailable."""
        if problem := entrance.forbids(webhook):
            self.note_opt_out(entrance, webhook.type)
            raise Forbidden(problem)
        try:
            mapped = _mapping(entrance)(webhook, self._stamps.next(now))
        except Invalid as error:
            return await self._recall(entrance, webhook, error)
        (became,) = await self._append([mapped])
        problem = refusal_of(became, mapped)
        if problem is not None:
            self.note_opt_out(entrance, webhook.type)
            if became.status == "failed":
                raise RelayError(problem.message)
            raise Reused if became.status == "conflict" else Invalid(problem)
        entrance.results[RESULTS[became.status]].inc()
        if became.status == "new":
            self._count_replaced(mapped.replaced)
        return taken(_answer(webhook.message_id, became, mapped))

    async def many(self, entrance: Entrance, entries: Iterable[Webhook | Refused], now: datetime) -> web.Response:
        """Take many webhooks: 202 with what became of each, or 422 with the same where none can be taken."""
        tally, map_ = Tally(), _mapping(entrance)
        turn = monotonic()
        for index, entry in enumerate(entries):
            if isinstance(entry, Webhook) and (forbidden := entrance.forbids(entry)):
                tally.forbid(index, entry, forbidden)
            else:
                tally.add(index, entry, map_, entrance.mapper, self._stamps.next(now))
            if monotonic() - turn > TURN_S:
                await asyncio.sleep(0)
                turn = monotonic()
        if tally.unmapped:
            ids = [unmapped.webhook.message_id for unmapped in tally.unmapped.values()]
            tally.recall(await self._known(entrance, ids))
        tally.settle(await self._append(tally.mapped))
        self._count(entrance, tally)
        if tally.nothing_taken:
            told = tally.answer().model_dump(exclude_unset=True)
            return problem_of(NoneTaken.model_validate({**heading(422, NONE_TAKEN), **told}))
        return taken(tally.answer())

    async def _recall(self, entrance: Entrance, webhook: Webhook, error: Invalid) -> web.Response:
        """Answer a webhook that cannot be mapped: a duplicate if it was taken before. Raises Reused, or the error."""
        known = (await self._known(entrance, [webhook.message_id])).get(webhook.message_id, ())
        became = recalled(known, entrance.mapper.digest(webhook))
        if became != "duplicate":
            self.note_opt_out(entrance, webhook.type)
            raise Reused if became == "conflict" else error
        entrance.results[became].inc()
        events = [TakenEvent(account=one.account, event_id=one.event_id) for one in known if one.event_id]
        return taken(Taken(webhook_id=webhook.message_id, duplicate=True, events=events, warnings=[]))

    async def _append(self, mapped: Sequence[Mapped | Followed]) -> list[Became]:
        """Append webhooks that were all mapped for the same source."""
        if mapped and isinstance(mapped[0], Followed):
            return await self._appender.follow([one for one in mapped if isinstance(one, Followed)])
        plain = [one for one in mapped if isinstance(one, Mapped)]
        return each(plain, await self._appender.append([event for one in plain for event in one.events]))

    async def _known(self, entrance: Entrance, message_ids: Sequence[str]) -> Mapping[str, Sequence[Known]]:
        return await self._appender.known(entrance.name, message_ids, followed=entrance.follower is not None)

    def note_opt_out(self, entrance: Entrance, kind: str | None) -> None:
        """Tell of an opt-out that is refused: somebody has to mend it, or a customer is mailed who must not be."""
        if asks_opt_out(kind):
            self._metrics.opt_outs_refused.labels(entrance.name).inc()
            log.error("opt_out_refused", source=entrance.name, type=kind)

    def _count(self, entrance: Entrance, tally: Tally) -> None:
        for became, count in tally.results.items():
            entrance.results[became].inc(count)
        self._count_replaced(tally.replaced)
        for limit, count in tally.limits.items():
            self._metrics.limits_met.labels(limit).inc(count)
        if tally.opt_outs_refused:
            self._metrics.opt_outs_refused.labels(entrance.name).inc(tally.opt_outs_refused)
            log.error("opt_out_refused", source=entrance.name, count=tally.opt_outs_refused)
        if tally.fields:
            log.warning("webhooks_refused", source=entrance.name, fields=sorted(tally.fields), **tally.results)

    def _count_replaced(self, replaced: Mapping[str, int]) -> None:
        for account, characters in replaced.items():
            if characters:
                self._metrics.replaced_characters.labels(self._metrics.vendor(account)).inc(characters)


def _mapping(entrance: Entrance) -> Mapping_:
    return entrance.mapper.events if entrance.follower is None else entrance.follower.followed


def _answer(message_id: str, became: Became, mapped: Mapped | Followed) -> Taken:
    return Taken(
        webhook_id=message_id,
        duplicate=became.status == "duplicate",
        events=[TakenEvent(account=account, event_id=event_id) for account, event_id in became.events],
        warnings=[Warned(**remark.members()) for remark in remarks_of(became, mapped)],
    )


def taken(answer: Taken | ManyTaken) -> web.Response:
    """Answer 202. A warning names an account only where it concerns but one."""
    return web.Response(status=202, body=_json(answer), content_type="application/json")


def _json(answer: Answer) -> bytes:
    return answer.model_dump_json(exclude_unset=True).encode("utf-8")
