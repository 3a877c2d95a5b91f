"""The service looks for error records, and deletes them, by itself."""

from pathlib import Path

from relay import app
from relay.flush.recovering import SETTLED_S
from relay.settings import process
from tests.integration.faults import delays_pass
from tests.integration.recovering import U, stage
from tests.integration.test_recovering import lose, older
from tests.waiting import until


async def test_the_service_settles_and_deletes(database: str, tmp_path: Path) -> None:
    """What another replica left behind without an answer is settled from the record; an older record is deleted."""
    async with stage(database, tmp_path / "one", {"delete_error_records": True}) as s:
        s.sim.ahead_s = -SETTLED_S * 2
        lose(s, "lost reply", "b")
        await s.say(U, "a", "b")
        assert [*await s.go(), *await s.go()] == ["unknown", "delivered"]
        await older(s, SETTLED_S * 2)
        s.sim.ahead_s = -SETTLED_S - 2
        lose(s)
        await s.say(U, "c", "b")
        assert await s.go() == ["unknown"]
        await older(s, SETTLED_S + 2)
        s.sim.ahead_s = 0.0
        await delays_pass(s.w)
        assert (s.uploads, await s.listed()) == (2, [("登録エラー", 1), ("登録エラー", 1)])
        env = {
            "RELAY_DATABASE_URL": database,
            "RELAY_SECRET_KEY": "0123456789abcdef",
            "RELAY_SPOOL_DIR": str(tmp_path / "two"),
            "RELAY_PORT": "0",
            "RELAY_OPS_PORT": "0",
            "RELAY_ROUND_S": "0.05",
        }
        async with app.running(process(env), s.settings):
            await until(lambda: len(s.sim._offices["user"].records.found({})) == 1)  # noqa: SLF001 (to look)
            await until(lambda: s.sim.record_calls["error_export"] >= 2)
        assert s.uploads == 2
        assert await s.batches() == [("delivered", 1), ("delivered", 1)]
