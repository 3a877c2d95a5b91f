"""The flusher: lanes side by side, none held up by another, through outages and to an orderly end."""

import asyncio
from pathlib import Path

import pytest

from relay.client import Uploaded, UploadJob
from relay.events import Operation
from relay.flush import Flushed, Worked
from relay.store import Cut, Lease, Target
from relay.store.cuts import HeaderOf
from tests.integration.faults import (
    Waiting,
    WatchedStore,
    batch_states,
    flusher,
    replica,
    running,
    say_to,
)
from tests.integration.model import Readers, delivering, settings, world
from tests.waiting import until

U, S = Operation.UPSERT, Operation.STOP


# -- one round -------------------------------------------------------------------------------------------------------


async def test_a_round_tells_what_it_did(database: str, tmp_path: Path) -> None:
    """Each due lane is worked once, the most urgent first; a round with nothing to do is idle."""
    async with world(database, tmp_path, settings(4)) as w:
        once = flusher(w, w.worker(delivering(Readers())))
        assert await once.flush_once() == Flushed(fenced=True, worked={})
        await say_to(w, 2, 1)
        await say_to(w, 3, operation=S)
        flushed = await once.flush_once()
        assert list(flushed.worked) == ["login-3", "login-2", "login-1"]
        assert set(flushed.worked.values()) == {Worked(leased=True, cut=True, outcome="delivered")}
        assert not flushed.idle
        assert (await once.flush_once()).idle


async def test_a_round_does_no_more_than_there_is_room_for(database: str, tmp_path: Path) -> None:
    """The most urgent lanes go first; the others wait for the next round."""
    async with world(database, tmp_path, settings(5)) as w:
        once = flusher(w, w.worker(delivering(Readers())), uploads_max=2)
        await say_to(w, 0, 1, 2, 3)
        await say_to(w, 4, operation=S)
        rounds = [list((await once.flush_once()).worked) for _ in range(4)]
        assert rounds == [["login-4", "login-0"], ["login-1", "login-2"], ["login-3"], []]


async def test_a_round_without_a_fence_is_skipped(database: str, tmp_path: Path) -> None:
    """An append that takes long holds up no round for long: it is skipped, and counted."""
    async with world(database, tmp_path, settings(1)) as w:
        worker = w.worker(delivering(Readers()))
        await say_to(w, 0)
        transaction = w.connection.transaction()
        await transaction.start()
        await w.connection.execute("select pg_advisory_xact_lock_shared(7235419866102)")
        assert await flusher(w, worker).flush_once() == Flushed(fenced=False, worked={})
        await transaction.rollback()
        assert w.metrics.registry.get_sample_value("relay_fence_skipped_total") == 1
        assert not (await flusher(w, worker).flush_once()).idle


async def test_a_round_ends_when_all_of_its_work_has_ended(database: str, tmp_path: Path) -> None:
    """What one lane's work raises is raised, but not before the others have ended."""
    async with world(database, tmp_path, settings(3)) as w:

        class Vendor(Waiting):
            async def upload(self, job: UploadJob) -> Uploaded:
                if job.login.name == "login-0":
                    raise ValueError("a bug")
                return await super().upload(job)

        vendor = Vendor(held={"login-1", "login-2"})
        await say_to(w, 0, 1, 2)
        going = asyncio.create_task(flusher(w, replica(w, vendor)).flush_once())
        await until(lambda: len(vendor.under_way) == 2)
        while await w.connection.fetchval("select lease from lane where login = 'login-0'"):
            assert not going.done()
        vendor.go.set()
        with pytest.raises(ValueError, match="a bug"):
            await going
        assert await batch_states(w) == {"login-0": {"waiting"}, "login-1": {"delivered"}, "login-2": {"delivered"}}


# -- side by side ----------------------------------------------------------------------------------------------------


async def test_a_hanging_login_never_holds_up_others(database: str, tmp_path: Path) -> None:
    """While one vendor does not answer, every other lane is worked round after round, in the room that is left."""
    async with world(database, tmp_path, settings(4)) as w:
        vendor = Waiting(held={"login-0"})
        await say_to(w, 0, 1, 2, 3)
        async with running(flusher(w, replica(w, vendor), uploads_max=2)):
            for turn in range(1, 4):
                await until(lambda turn=turn: vendor.ended.count("login-3") == turn)  # type: ignore[misc]
                await until(lambda turn=turn: len(vendor.ended) == 3 * turn)  # type: ignore[misc]
                await say_to(w, 1, 2, 3)
            assert [job.login.name for job in vendor.under_way] == ["login-0"]
            vendor.go.set()
            await until(lambda: "login-0" in vendor.ended)
        assert (await batch_states(w))["login-0"] == {"delivered"}


async def test_no_more_uploads_than_there_is_room_for(database: str, tmp_path: Path) -> None:
    """While uploads hang, round after round begins nothing beyond `uploads_max`."""
    async with world(database, tmp_path, settings(5)) as w, WatchedStore.open(database) as store:
        vendor = Waiting(held=set(w.plans))
        await say_to(w, *range(5))
        async with running(flusher(w, replica(w, vendor, store=store), uploads_max=2)):
            await until(lambda: len(vendor.under_way) == 2)
            seen = store.rounds
            await until(lambda: store.rounds >= seen + 3)
            assert vendor.most == 2
            vendor.go.set()
            await until(lambda: len(vendor.ended) == 5)
        assert set.union(*(await batch_states(w)).values()) == {"delivered"}


async def test_opt_outs_need_no_room(database: str, tmp_path: Path) -> None:
    """Uploads that hang may take all the room: a login with opt-outs is worked all the same."""
    async with world(database, tmp_path, settings(4)) as w:
        vendor = Waiting(held={"login-0", "login-1"})
        await say_to(w, 0, 1)
        async with running(flusher(w, replica(w, vendor), uploads_max=2)):
            await until(lambda: len(vendor.under_way) == 2)
            await say_to(w, 2)
            await say_to(w, 3, operation=S)
            await until(lambda: vendor.ended == ["login-3"])
            vendor.go.set()
            await until(lambda: "login-2" in vendor.ended)


async def test_a_login_whose_work_fails_here_rests(database: str, tmp_path: Path) -> None:
    """A full disk is not asked in every round, and the other logins go on meanwhile."""
    tries = 0

    class Failing(WatchedStore):
        async def cut(self, lease: Lease, target: Target, fence: int, header_of: HeaderOf) -> Cut:
            nonlocal tries
            if target.login == "login-0":
                tries += 1
                raise OSError("no space left")
            return await super().cut(lease, target, fence, header_of)

    async with world(database, tmp_path, settings(2)) as w, Failing.open(database) as store:
        vendor = Waiting()
        await say_to(w, 0, 1)
        async with running(flusher(w, replica(w, vendor, store=store))):
            await until(lambda: tries > 0 and vendor.ended == ["login-1"])
            await until(lambda: store.rounds >= 40)
        assert tries < store.rounds / 3
        assert (await batch_states(w)) == {"login-1": {"delivered"}}


async def test_replicas_share_lanes_without_an_overlap(database: str, tmp_path: Path) -> None:
    """Three replicas on eight logins: no two uploads on one login at a time, and each line goes up once."""
    async with world(database, tmp_path, settings(8, rows_max=1)) as w:
        vendor = Waiting()  # it looks for overlaps
        flushers = [flusher(w, replica(w, vendor), uploads_max=3) for _ in range(3)]
        for _ in range(3):
            await say_to(w, *range(8))
        async with running(*flushers):
            await until(lambda: len(vendor.ended) == 24)
        assert sorted(vendor.ended) == sorted(3 * list(w.plans))
        assert set.union(*(await batch_states(w)).values()) == {"delivered"}
