"""What is answered to who sends webhooks, as models: they are its documentation as well."""

from pydantic import BaseModel, ConfigDict

from relay.problem import Heading, Mistake


class Answer(BaseModel):
    """Frozen."""

    model_config = ConfigDict(frozen=True)


class TakenEvent(Answer):
    """One event of a webhook: it is in the log under this id of its account."""

    account: str
    event_id: int


class Warned(Answer):
    """What was done to a field of a webhook; `account` where it concerns only one."""

    account: str | None = None
    field: str
    message: str


class Taken(Answer):
    """A webhook is in the log, now or (`duplicate`) since earlier: an event for each account that wants it."""

    webhook_id: str
    duplicate: bool
    events: list[TakenEvent]
    warnings: list[Warned]


class RefusedWebhook(Answer):
    """One webhook of many that was refused; `index` counts from 0, `webhook_id` is null where it has no sound one."""

    index: int
    webhook_id: str | None
    errors: list[Mistake]


class WarnedWebhook(Warned):
    """A warning about one webhook of many."""

    index: int
    webhook_id: str


class ManyTaken(Answer):
    """What became of many webhooks: `accepted + duplicates + refused` of them, and how many events are new."""

    accepted: int
    duplicates: int
    refused: int
    events: int
    errors: list[RefusedWebhook]
    warnings: list[WarnedWebhook]


class NoneTaken(ManyTaken, Heading):
    """None of many webhooks can be taken: a problem that tells of each."""
