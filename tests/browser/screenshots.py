"""The pictures of the ops page that README shows: `make screenshots` makes them anew.

What they show is real: webhooks that relay has received (and then it is told that they came some hours earlier), files
that simulated vendors took or refused, a login that somebody has paused.
"""

import asyncio
import random
import re
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, expect

from relay.demo.customers import generate
from relay.demo.postgres import Cluster, find_binaries
from relay.migrate import migrate
from tests.browser.browser import chromium, looking
from tests.browser.stage import Stage, stage

FOLDER = Path(__file__).parent / "screenshots"
BYTES_MAX = 150_000

ROUNDS = 36
ROUND_MIN = 10


async def play(made: Stage) -> None:
    """Let a morning pass: two thousand customers, lines that a vendor refuses, a login that waits for the vendor."""
    chance = random.Random(7)
    customers = [customer.email for customer in generate(ROUNDS * 60, 7)]
    refused = [email for email in customers if chance.random() < 0.015]
    some: list[str] = []
    message = "E-Mailの形式が正しくありません"
    made.blast.faults.arm({"fault": "reject_lines", "addresses": refused, "message": message})
    for round_ in range(ROUNDS):
        busy = 0.35 + 0.65 * round_ / ROUNDS
        some = customers[round_ * 60 : round_ * 60 + int(busy * chance.randrange(12, 60))]
        await made.say("created", *some)
        if round_ % 9 == 4:
            await made.say("updated", *customers[round_ : round_ + 25], source="store")
        await made.settled()
        await made.minutes_pass(ROUND_MIN)
    await made.say("stopped", *(email for email in some if email not in refused))
    await made.settled()
    await made.post([{"id": "store-9f31", "type": "customer.stopped", "data": {"id": "c-20417"}}], "store")
    rejected = await made.sql("select min(id) from batch where rejected > 0 and account = 'members'")
    await made.api("POST", f"batches/{rejected[0][0]}/dismiss")
    await made.api("POST", "logins/blast/flush", by="operator")
    await made.api("POST", "logins/hai/pause", {"reason": "配配メールのメンテナンス（10:00–12:00）"})
    await made.say("updated", *customers[40:58], source="store")
    await made.say("stopped", *customers[60:64], source="store")
    await made.minutes_pass(14)


async def shoot(made: Stage, browser: Browser) -> None:
    """Take the pictures."""
    wide: dict[str, Any] = {"viewport": {"width": 1100, "height": 800}}
    async with looking(browser, made, **wide) as looked:
        await looked.enter()
        page = looked.page
        await expect(page.locator("#chart svg")).to_be_visible()
        await page.evaluate("document.activeElement.blur()")
        await page.screenshot(path=FOLDER / "overview-light-en.png")
        chart = page.get_by_role("region", name="The last hours")
        accepted = page.locator("title", has_text=re.compile(" [1-9][0-9]* accepted"))
        await chart.locator("rect.touch", has=accepted).last.click()
        await page.evaluate("document.activeElement.blur()")
        await chart.screenshot(path=FOLDER / "chart.png")
        await page.get_by_label("Operation").select_option("upsert")
        await expect(page.locator("#batches tbody tr", has_text="stop")).to_have_count(0)
        await page.locator("#batches tbody tr", has=page.locator(".mark.warn")).first.get_by_role("button").click()
        await page.get_by_role("button", name="Show the vendor’s messages").click()
        await expect(page.locator("#batch").get_by_text("形式が正しくありません").first).to_be_visible()
        await page.mouse.move(0, 0)
        await page.evaluate("document.activeElement.blur()")
        await page.locator("#batch").screenshot(path=FOLDER / "batch.png")
    async with looking(browser, made, **wide, locale="ja-JP", color_scheme="dark") as looked:
        await looked.enter()
        await looked.page.evaluate("document.activeElement.blur()")
        await looked.page.screenshot(path=FOLDER / "overview-dark-ja.png")


async def main() -> int:
    """Make them; returns 1 if one is too large to be kept."""
    FOLDER.mkdir(exist_ok=True)
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(Cluster.start(binaries=find_binaries(None), durable=False))
        await cluster.create_database("screenshots")
        url = cluster.url("screenshots")
        await migrate(url)
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        made = await stack.enter_async_context(stage(url, Path(directory)))
        browser = await stack.enter_async_context(chromium())
        await play(made)
        await shoot(made, browser)
    sizes = {path.name: path.stat().st_size for path in sorted(FOLDER.glob("*.png"))}
    for name, size in sizes.items():
        print(f"{FOLDER.name}/{name}: {size:,} bytes")  # noqa: T201 - what this command is for
    return int(max(sizes.values()) > BYTES_MAX)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
