"""Acts of operators, by the status API or by a command: counted, and looks at customers' data written down."""

from collections.abc import Iterable

from relay.errors import RelayError
from relay.status.context import Context
from relay.store import Act, ActName, Operator


class Missing(RelayError):
    """There is no such thing. The text repeats nothing of what was asked for; `known` are the names that there are."""

    def __init__(self, detail: str, known: Iterable[str] = ()) -> None:
        self.known = tuple(sorted(known))
        super().__init__(detail)


async def looked(context: Context, operator: Operator, act: Act) -> None:
    """Write down a look at customers' data, before anything is shown, and count it."""
    await context.store.record_act(operator, act)
    count(context, act.name)


def count(context: Context, act: ActName) -> None:
    """Count an act that is written down."""
    context.metrics.acts.labels(act).inc()
