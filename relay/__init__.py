"""relay: customer webhooks in, Shift_JIS CSV uploads to Japanese e-mail vendors out, every line accounted for."""

__version__ = "0.1.0"
