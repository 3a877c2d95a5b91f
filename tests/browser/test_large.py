"""Many of everything: the page stays small and quick."""

import time
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, expect

from tests.browser.browser import looking
from tests.browser.stage import stage

LOGINS, ACCOUNTS, BATCHES = 50, 200, 1_000
ELEMENTS_MAX = 5_000
REFRESH_MAX_S = 3.0

FILE_BATCHES = """
insert into batch (id, account, login, operation, layout, header, cut_from, cut_to, rows, bytes, state, reason,
                   rejected, oldest_received_at, created_at, ended_at)
select n, 'many-' || n % $1, 'more-' || n % $2, 'upsert', (select min(id) from layout), '{E-Mail}', n * 2, n * 2 + 1, 1,
       100,
       case when n % 10 = 0 then 'failed' else 'delivered' end, '', 0, now(), now(), now()
from generate_series(1, $3::int) n
"""


async def test_many_logins_accounts_and_batches(database: str, tmp_path: Path, browser: Browser) -> None:
    """50 logins, 200 accounts, 1,000 batches: few elements, quick refreshes, and all of it can be reached."""
    login = {"vendor": "blastmail", "base_url": "http://127.0.0.1:9", "password": "p", "api_key": "k"}
    more: dict[str, dict[str, Any]] = {
        "logins": {f"more-{n}": {**login, "username": f"u{n}", "template_check": "off"} for n in range(LOGINS)},
        "accounts": {
            f"many-{n}": {
                "login": f"more-{n % LOGINS}",
                "columns": {"E-Mail": "email"},
                "operations": {"customer.banned": "stop"},
            }
            for n in range(ACCOUNTS)
        },
    }
    async with stage(database, tmp_path, more) as staged:
        await staged.sql(FILE_BATCHES, ACCOUNTS, LOGINS, BATCHES)
        async with looking(browser, staged) as looked:
            await looked.enter()
            page = looked.page
            await expect(page.locator("#verdict .findings li")).to_have_count(20)
            await expect(page.locator("#lanes article")).to_have_count(25)
            assert await page.evaluate("document.querySelectorAll('*').length") < ELEMENTS_MAX
            begun = time.monotonic()
            await looked.refresh()
            assert time.monotonic() - begun < REFRESH_MAX_S
            await page.get_by_label("Find").fill("many-147")
            await expect(page.locator("#lanes article")).to_have_count(1)
            await page.get_by_label("Find").fill("")
            await page.get_by_role("button", name="Show 25 more").click()
            await expect(page.locator("#lanes article")).to_have_count(50)
            shown = []
            for number in range(3):
                if number:
                    async with page.expect_response("**/v1/batches**"):
                        await page.locator("#batches").get_by_role("button", name="Older").click()
                    await expect(page.locator("#batches")).to_contain_text(f"Page {number + 1}")
                shown += await page.locator("#batches tbody th").all_inner_texts()
            assert shown == [str(BATCHES - n) for n in range(60)]
            await page.locator("#batches").get_by_role("button", name="Newer").click()
            await expect(page.locator("#batches tbody th").first).to_have_text(str(BATCHES - 20))
            assert await page.evaluate("document.querySelectorAll('*').length") < ELEMENTS_MAX
