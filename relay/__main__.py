"""`python -m relay` is `relay`."""

import os
import signal
import sys

if os.getpid() == 1:
    # In a container the kernel drops a SIGTERM that process 1 has no answer to, so that a command which has none of its
    # own, or is still importing, would be killed only when the patience of whoever stops it is over.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))

from relay.cli import main  # takes half a second, in which the signal may come

if __name__ == "__main__":
    main()
