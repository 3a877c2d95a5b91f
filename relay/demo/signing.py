"""What the demo sends: a webhook's body, and the headers that sign it as Standard Webhooks says."""

import json
from datetime import UTC, datetime

from relay.demo.traffic import Sent
from relay.receive.auth import ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, sign


def signed(webhook: Sent, key: bytes) -> tuple[bytes, dict[str, str]]:
    """Return the body of a webhook and its headers, signed now."""
    body = json.dumps(webhook.body(), ensure_ascii=False).encode("utf-8")
    timestamp = str(int(datetime.now(UTC).timestamp()))
    return body, {
        "Content-Type": "application/json",
        ID_HEADER: webhook.message_id,
        TIMESTAMP_HEADER: timestamp,
        SIGNATURE_HEADER: sign(key, webhook.message_id, timestamp, body),
    }
