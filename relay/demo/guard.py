"""Run a command that does not outlive whoever started it: `python -I -S guard.py SIGNAL UID GID COMMAND…`.

Theory of operation. The starter keeps the other end of the guard's standard input. When that end closes, on purpose or
because the starter died in whatever way, the guard sends SIGNAL to the command, then stronger ones. Should the guard
itself be killed, the kernel sends SIGQUIT to the command in its place. That wish of the command's is forgotten when
its user changes, so it is made afterwards; and it hangs on the *thread* that started the command, which is why the
starter does not do this itself. A UID of -1 keeps the user. The exit code is the command's.

This file runs by itself, without the package, so that it starts in a few milliseconds.
"""

import ctypes
import os
import select
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_PATIENCE = ((signal.SIGQUIT, 20.0), (signal.SIGKILL, 5.0), (signal.SIGKILL, 5.0))
"""What is sent next to a command that has not ended after so many seconds."""


def _become(uid: int, gid: int) -> None:
    if uid != -1:
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)


def _run(command: list[str], uid: int, gid: int, guard: int) -> None:
    """Turn this process into the command; whatever goes wrong is told on standard error, which is the log."""
    try:
        _become(uid, gid)
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT, 0, 0, 0)
        if os.getppid() == guard:  # else it died before the wish was made
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.execv(command[0], command)  # noqa: S606 - a shell would stand between the command and its signals
    except OSError as error:
        os.write(2, f"cannot run {command[0]}: {error}\n".encode())
    finally:
        os._exit(127)


def _wait(child: int, woken: int, *, starter: int | None = None, patience_s: float | None = None) -> int | None:
    """Return the child's exit code; None if the starter's end closes or patience ends before the child does."""
    watched = [woken] if starter is None else [woken, starter]
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        ready, _, _ = select.select(watched, [], [], patience_s)
        if woken not in ready:
            return None
        os.read(woken, 64)  # a child that is merely stopped wakes as well


def main(arguments: list[str]) -> int:
    """Run the command until it ends or standard input does."""
    first, uid, gid, *command = arguments
    woken, wake = os.pipe()
    os.set_blocking(wake, False)  # as set_wakeup_fd demands
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    guard = os.getpid()
    child = os.fork()
    if child == 0:
        _run(command, int(uid), int(gid), guard)
    code = _wait(child, woken, starter=0)
    send = signal.Signals[first]
    for following, patience_s in _PATIENCE:
        if code is not None:
            return code
        os.kill(child, send)
        os.kill(child, signal.SIGCONT)  # a stopped command would not hear it
        code = _wait(child, woken, patience_s=patience_s)
        send = following
    return 1 if code is None else code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
