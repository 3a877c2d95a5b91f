"""How many files the system lets this process open: every connection is one."""

import resource

from relay.log import logger

OWN_FILES = 512
"""What relay opens besides webhooks' connections: Postgres, uploads and their files, the ops port, libraries' own."""

log = logger(__name__)


def allow_files(connections_max: int) -> None:
    """Raise this process's limit on open files so far that all connections fit; warn where the system forbids it."""
    needed = connections_max + OWN_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    except (OSError, ValueError):  # macOS tells no hard limit, and yet has one
        allowed = soft
    if allowed < needed:
        log.warning("open_files_limited", allowed=allowed, needed=needed)
