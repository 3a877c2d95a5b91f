"""What one request may cost. Each limit is a setting, and each has a name under which refusals are counted."""

from dataclasses import dataclass

from relay.settings import Process


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of what is received: sizes in bytes after inflation, times in seconds.

    `webhook_bytes_max` is for one webhook, `body_bytes_max` for a request with many, `receiving_bytes_max` for all
    bodies that are held at the same time.
    """

    body_timeout_s: float = 30.0
    webhook_bytes_max: int = 1_000_000
    body_bytes_max: int = 10_000_000
    receiving_bytes_max: int = 50_000_000
    webhooks_max: int = 1_000
    nesting_max: int = 64
    string_characters_max: int = 100_000

    @classmethod
    def of(cls, process: Process) -> "Limits":
        """Take them from the process's settings."""
        return cls(
            body_timeout_s=process.body_timeout_s,
            webhook_bytes_max=min(process.webhook_bytes_max, process.body_bytes_max),
            body_bytes_max=process.body_bytes_max,
            receiving_bytes_max=process.receiving_bytes_max,
            webhooks_max=process.webhooks_max,
            nesting_max=process.nesting_max,
            string_characters_max=process.string_characters_max,
        )
