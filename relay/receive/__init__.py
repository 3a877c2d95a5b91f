"""Webhooks in: authenticated, parsed, mapped to events and appended to the log before they are answered with 202."""

from relay.receive.appender import Appender
from relay.receive.auth import check
from relay.receive.http import BODY_BYTES_MAX, Receiver, routes

__all__ = ["BODY_BYTES_MAX", "Appender", "Receiver", "check", "routes"]
