"""Webhooks in: authenticated, parsed, mapped to events and appended to the log before they are answered with 202."""

from relay.receive.appender import Appender
from relay.receive.auth import check
from relay.receive.http import Receiver, routes

__all__ = ["Appender", "Receiver", "check", "routes"]
