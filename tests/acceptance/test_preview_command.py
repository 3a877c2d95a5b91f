"""`relay preview`: what the next files would hold, without relay running, and without moving anything."""

import json
from datetime import UTC, datetime

from relay.demo.traffic import Sent
from tests.acceptance.harness import World
from tests.acceptance.settings_file import account, haihai

NOBODY = "http://127.0.0.1:9"
"""Where nobody listens, and nothing is due while the test runs."""


async def test_a_preview_is_printed_for_people_and_for_scripts(world: World) -> None:
    """A table with each file, sums, calls and times; the same as JSON; twice the same; no customer in either."""
    waits = {"flush_after_s": 3600, "flush_opt_outs_after_s": 1800}
    shared = haihai(NOBODY, 1, calls_per_day_limit=240)
    world.write_settings({"hai": shared}, {"shop": account("hai", "メールアドレス", **waits)}, {"crm": ["shop"]})
    relay = world.relay()
    await relay.start()
    now = datetime.now(UTC)
    record = {
        "name": "髙橋 太郎",
        "kana": "タカハシ タロウ",
        "birthday": "1990-04-01",
        "prefecture": "東京都",
        "plan": "free",
    }
    said = [Sent(f"msg-{n}", "customer.created", now, {**record, "email": f"taro{n % 2}@example.jp"}) for n in range(3)]
    await world.post_many(relay, "crm", [*said, Sent("bye", "customer.deleted", now, {"email": "hanako@example.jp"})])
    assert await relay.stop() == 0

    before = await world.rows("select * from cursor order by 1, 2")
    done = await world.command("preview", "shop")
    assert (done.code, done.err) == (0, "")
    assert "delete" in done.out
    assert "upsert" in done.out
    assert "shop at haihai (hai): 2 files to cut, 3 rows," in done.out
    assert "1 superseded" in done.out
    assert "uploads needed: 2, the last of them in " in done.out
    assert "calls left of the vendor's day: 240 of 240" in done.out
    scripted = await world.command("preview", "shop", "--json")
    told = json.loads(scripted.out)
    assert (scripted.code, told["complete"], told["files"], told["superseded"]) == (0, True, 2, 1)
    assert [one["operation"] for one in told["operations"]] == ["delete", "upsert"]
    assert all("@" not in out for out in (done.out, scripted.out))
    assert await world.rows("select * from cursor order by 1, 2") == before

    unknown = await world.command("preview", "shp")
    assert (unknown.code, unknown.out) == (1, "")
    assert unknown.err == "the settings name no account 'shp'; they have shop\n"
