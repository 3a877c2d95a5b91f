# ruff: noqa: INP001 - a script, not a module
"""Whether relay lives: exit code 0 if `/healthz` answers 200. Run as `python -I -S healthcheck.py`.

It shares the container's memory limit with relay, so it imports neither relay nor an HTTP client, but speaks the few
bytes itself: some 9 MB for some hundredths of a second.
"""

import os
import socket
import sys

TIMEOUT_S = 4.0
"""Under the image's `--timeout`, so that it ends by itself."""

ANYWHERE = {"", "0.0.0.0", "::"}  # noqa: S104 - nothing is bound


def answer(host: str, port: int) -> bytes:
    """Return the first bytes of what `/healthz` answers. Raises OSError."""
    with socket.create_connection((host, port), TIMEOUT_S) as connection:
        connection.settimeout(TIMEOUT_S)
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        said = b""
        while len(said) < len(b"HTTP/1.1 200") and (more := connection.recv(64)):
            said += more
        return said


def main() -> int:
    """Ask where relay listens for operators."""
    given = os.environ.get("RELAY_OPS_HOST", "")
    host = "127.0.0.1" if given in ANYWHERE else given
    try:
        return 0 if answer(host, int(os.environ.get("RELAY_OPS_PORT") or 9090)).split(b" ")[1:2] == [b"200"] else 1
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{type(error).__name__}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
