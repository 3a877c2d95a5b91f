"""`relay send`: post the customers of a file, signed, as many webhooks: how a company loads what it already has.

Sending a file again is safe: relay knows its webhooks by their ids and calls them duplicates. Ids and timestamps follow
from the file (see `relay.send.customers`), so this holds as long as its bytes, the time of its last change, `--type`,
`--timestamp` and `--id-prefix` are the same.
"""

from relay.send.command import add_arguments, run
from relay.send.customers import Unreadable
from relay.send.posting import Unsent
from relay.send.sending import SendOptions, Sent, send

__all__ = ["SendOptions", "Sent", "Unreadable", "Unsent", "add_arguments", "run", "send"]
