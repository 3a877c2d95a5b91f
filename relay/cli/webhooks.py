"""`relay webhook SOURCE ID`: what became of a webhook, by account, and why it is not delivered."""

import argparse

from relay.cli.operating import add_json, ask, missing, moment, operator, print_told
from relay.cli.tables import print_table
from relay.status import answers
from relay.status.acting import Missing
from relay.status.events import find_webhook

COLUMNS = ("account", "operation", "state", "why", "batch", "line", "received", "settled", "proof")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("source", metavar="SOURCE", help="a source of the settings, or `relay`")
    parser.add_argument("id", metavar="ID", help="the webhook's id")
    parser.add_argument(
        "--customers",
        action="store_true",
        help="tell the vendors' messages, too, which may hold customers' data; goes on record",
    )
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Look and print; the exit code is 0."""
    by = operator() if options.customers else None
    try:
        told = ask(lambda context: find_webhook(context, options.source, options.id, by))
    except Missing as error:
        raise missing(error, "", "the settings have the sources") from None
    if options.json:
        print_told(told)
    else:
        rows = [*map(_event, told.events), *map(_unresolved, told.unresolved)]
        print_table((*COLUMNS, "message") if options.customers else COLUMNS, rows)
    return 0


def _event(event: answers.Event) -> dict[str, object]:
    return {
        **event.model_dump(exclude={"proof"}),
        "batch": event.batch_id,
        "received": moment(event.received_at),
        "settled": moment(event.settled_at),
        "proof": event.proof and event.proof.result,
    }


def _unresolved(one: answers.Unresolved) -> dict[str, object]:
    return {
        **one.model_dump(exclude={"proof"}),
        "received": moment(one.received_at),
        "proof": one.proof and one.proof.result,
    }
