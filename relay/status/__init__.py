"""How relay tells: the status API for people and programs, the ops port for probes and Prometheus."""

from relay.status.lag import watch_loop
from relay.status.ops import ops_app
from relay.status.sampler import Sampler
from relay.status.service import Status

__all__ = ["Sampler", "Status", "ops_app", "watch_loop"]
