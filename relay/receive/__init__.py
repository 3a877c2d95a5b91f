"""Webhooks in: authenticated, parsed, mapped to events and appended to the log before they are answered with 202."""

from relay.receive.appender import Appender
from relay.receive.cautions import cautions
from relay.receive.checks import check
from relay.receive.http import Receiver, routes
from relay.receive.limits import Limits

__all__ = ["Appender", "Limits", "Receiver", "cautions", "check", "routes"]
