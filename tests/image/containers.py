"""Containers of relay's image, as strictly as they can be run: read-only, without capabilities, with 128 MiB."""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from tests.acceptance.harness import World
from tests.acceptance.processes import ENDS_WITHIN_S, Done, free_port, until
from tests.image.engine import Engine

MEMORY_BYTES_MAX = 128 << 20
STRICT = (
    "--read-only",
    "--cap-drop=all",
    "--security-opt=no-new-privileges",
    f"--memory={MEMORY_BYTES_MAX}",
    "--network=host",
)
CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Image:
    """relay's image in the storage."""

    engine: Engine
    name: str
    version: str

    def run(self, *arguments: str, entrypoint: str | None = None, options: tuple[str, ...] = STRICT) -> Done:
        """Run a command in a container of its own until it ends."""
        instead = () if entrypoint is None else ("--entrypoint", entrypoint)
        done = self.engine.call("podman", "run", "--rm", *options, *instead, self.name, *arguments, check=False)
        return Done(done.returncode, done.stdout, done.stderr)


class Container:
    """A container of relay, started detached; `name` is podman's, `url` and `ops_url` are where relay listens."""

    def __init__(self, image: Image, name: str, ports: tuple[int, int]) -> None:
        self.name = name
        self.url, self.ops_url = (f"http://127.0.0.1:{port}" for port in ports)
        self._engine = image.engine

    async def podman(self, *arguments: str) -> str:
        """Run podman without holding up this test's servers."""
        return await asyncio.to_thread(self._engine.podman, *arguments)

    async def state(self) -> dict[str, Any]:
        """Return what podman knows of it."""
        [found] = json.loads(await self.podman("inspect", self.name))
        state: dict[str, Any] = found["State"]
        return state

    async def ready(self) -> None:
        """Wait until relay says that it is ready; fails at once if it ends instead."""

        async def is_ready() -> bool:
            state = await self.state()
            assert state["Running"], f"ended with {state['ExitCode']}: {await self.logs()}"
            return await self.ops("/readyz") == 200

        await until("relay is ready", is_ready, 60)

    async def ops(self, path: str) -> int | None:
        """Ask the port for operators; returns the status, None if nobody listens."""
        try:
            async with aiohttp.request("GET", self.ops_url + path) as response:
                return response.status
        except aiohttp.ClientConnectionError:
            return None

    async def health(self) -> int:
        """Do the image's health check once; returns its exit code."""
        done = await asyncio.to_thread(self._engine.call, "podman", "healthcheck", "run", self.name, check=False)
        return done.returncode

    async def logs(self) -> str:
        """Return what it has written."""
        done = await asyncio.to_thread(self._engine.call, "podman", "logs", self.name)
        return done.stdout + done.stderr

    async def terminate(self) -> tuple[int, float]:
        """Send SIGTERM and wait for the end; returns the exit code and the seconds it took."""
        begin = time.monotonic()
        await self.podman("kill", "--signal", "TERM", self.name)

        async def has_ended() -> bool:
            return not (await self.state())["Running"]

        await until("the container has ended", has_ended, ENDS_WITHIN_S)
        took_s = time.monotonic() - begin
        return int((await self.state())["ExitCode"]), took_s

    async def start_again(self) -> None:
        """Start it once more."""
        await self.podman("start", self.name)
        await self.ready()

    async def memory(self) -> "Memory":
        """Read its cgroup."""
        return Memory.read((await self.state())["CgroupPath"])


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of a container: the most it ever held, files' cache included, and what it holds without that cache."""

    peak_bytes: int
    anonymous_bytes: int
    refused: int
    killed: int

    @classmethod
    def read(cls, path: str) -> "Memory":
        """Read a cgroup of either version. `refused` is how often it was at its limit, `killed` how often for good."""
        group = CGROUPS / path.lstrip("/")
        if (group / "memory.peak").exists():
            events = _table(group / "memory.events")
            anonymous = _table(group / "memory.stat")["anon"]
            return cls(int((group / "memory.peak").read_text()), anonymous, events["max"], events["oom_kill"])
        group = CGROUPS / "memory" / path.lstrip("/")
        peak, refused = (int((group / f"memory.{name}").read_text()) for name in ("max_usage_in_bytes", "failcnt"))
        killed = _table(group / "memory.oom_control").get("oom_kill", 0)
        return cls(peak, _table(group / "memory.stat")["total_rss"], refused, killed)


def _table(path: Path) -> Mapping[str, int]:
    return {name: int(value) for name, value in (line.split() for line in path.read_text().splitlines())}


@asynccontextmanager
async def serving(
    image: Image,
    world: World,
    *command: str,
    user: str | None = None,
    spool: str | None = None,
    volumes: tuple[str, ...] = (),
    entrypoint: str | None = None,
    **variables: str,
) -> AsyncIterator[Container]:
    """Run a container with the world's settings and database for the length of the block.

    Without a `command` it serves. `spool` is the volume that is mounted there, without it a folder of the test's.
    """
    ports = free_port(), free_port()
    container = Container(image, f"relay-{secrets.token_hex(4)}", ports)
    own = {"RELAY_PORT": str(ports[0]), "RELAY_OPS_PORT": str(ports[1]), **variables}
    options = mounted(world, own, spool)
    if user is not None:
        options += ("--user", user)
    if entrypoint is not None:
        options += ("--entrypoint", entrypoint)
    options += tuple(f"--volume={volume}" for volume in volumes)
    await container.podman("run", "--detach", "--name", container.name, *STRICT, *options, image.name, *command)
    try:
        yield container
    finally:
        await container.podman("rm", "--force", "--time", "0", container.name)


def mounted(world: World, variables: Mapping[str, str], spool: str | None = None) -> tuple[str, ...]:
    """Return the options that give a container the world's settings, secrets and a spool."""
    left_out = {"PATH", "HOME", "PYTHONPATH", "RELAY_CONFIG", "RELAY_SPOOL_DIR"}
    env = {name: value for name, value in {**world.env(), **variables}.items() if name not in left_out}
    file = world.directory / f"env-{secrets.token_hex(4)}"
    file.write_text("".join(f"{name}={value}\n" for name, value in env.items()), encoding="utf-8")
    if spool is None:
        folder = world.directory / "spool"
        folder.mkdir(exist_ok=True)
        folder.chmod(0o777)
        spool = str(folder)
    settings = f"{world.config}:/etc/relay/relay.toml:ro"
    return ("--env-file", str(file), "--volume", settings, "--volume", f"{spool}:/var/spool/relay")
