"""Many of everything: the page stays small and quick."""

import re
import time
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, Locator, expect

from tests.acceptance.processes import until
from tests.browser.browser import looking
from tests.browser.stage import SOURCE_TOKEN, Stage, stage

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
            await expect(page.locator("#verdict .findings li")).to_have_count(5)  # each of a login with four accounts
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


CONTRACTS, LATE_ACCOUNTS = 30, 300

LATE = (
    r"Opt-outs of 10 accounts of contract-\d\d are late, the oldest 14 min: the vendor’s host does not answer; next try"
)


def at_a_dead_host() -> dict[str, dict[str, Any]]:
    """300 accounts of 30 contracts at a host where nobody listens, and a source for all of them."""
    login = {"vendor": "blastmail", "base_url": "http://127.0.0.1:9", "password": "p", "api_key": "k"}
    quick = {
        "columns": {"E-Mail": "email"},
        "operations": {"customer.banned": "stop"},
        "flush_opt_outs_after_s": 0.2,
    }
    accounts = {f"late-{n:03}": {**quick, "login": f"contract-{n % CONTRACTS:02}"} for n in range(LATE_ACCOUNTS)}
    return {
        "logins": {
            f"contract-{n:02}": {**login, "username": f"u{n}", "template_check": "off"} for n in range(CONTRACTS)
        },
        "accounts": accounts,
        "sources": {"wide": {"bearer_tokens": [SOURCE_TOKEN], "accounts": list(accounts)}},
    }


async def test_three_hundred_late_accounts_hide_nothing(database: str, tmp_path: Path, browser: Browser) -> None:
    """Late by one cause is one finding of a login, a dead host is one; of each kind five show, the rest unfolds."""
    async with stage(database, tmp_path, at_a_dead_host()) as staged:
        staged.blast.faults.arm({"fault": "reject_lines", "addresses": ["hanako@example.jp"]})
        await staged.say("created", "taro@example.jp", "hanako@example.jp")
        await staged.settled()
        await staged.api("POST", "logins/hai/pause", {"reason": "maintenance"})
        await staged.post([{"id": "store-77", "type": "customer.stopped", "data": {"id": "c-4711"}}], "store")
        await staged.say("stopped", "jiro@example.jp", source="wide")
        await staged.minutes_pass(14)

        async def away() -> bool:
            told = (await staged.api("GET", "logins"))["logins"]
            return all(login["breaker"]["state"] == "open" for login in told if login["name"].startswith("contract"))

        await until("the host is given up", away)
        async with looking(browser, staged) as looked:
            await looked.enter()
            page, found = looked.page, looked.page.locator("#verdict .findings li")
            await expect(page.locator("#verdict .headline")).to_have_text(
                "Opt-outs are late at 300 accounts, 1 login is paused, 3 more to look at"
            )
            await expect(found).to_have_text(
                [
                    re.compile("^hai is paused .by an operator.: maintenance since "),
                    *[re.compile(f"^{LATE} in ")] * 5,
                    "25 more like these",
                    re.compile("^30 logins get no answer; the host http://127.0.0.1:9 is tried again in "),
                    "1 opt-out waits for an address of the customer",
                    "2 accounts of blast have 2 dead letters: retry or dismiss them",
                ]
            )
            await unfold(page.locator("#verdict"))
            await found.nth(1).get_by_role("button").click()
            await expect(page.locator(":focus")).to_have_text(re.compile("^contract-"))
            await expect(page.locator("article:focus-within tbody tr")).to_have_count(10)


async def unfold(verdict: Locator) -> None:
    """Unfold what is more of a kind, keep it unfolded with the focus, and fold it again."""
    found = verdict.locator(".findings li")
    await verdict.get_by_role("button", name="25 more like these").click()
    await expect(found.filter(has_text=re.compile(LATE))).to_have_count(CONTRACTS)
    fewer = verdict.get_by_role("button", name="Fewer like these")
    await expect(fewer).to_be_focused()
    await fewer.click()
    await expect(found.filter(has_text=re.compile(LATE))).to_have_count(5)


async def test_thirty_opt_outs_without_an_address(staged: Stage, browser: Browser) -> None:
    """A page of them has 20 rows, and the verdict counts all of them on either page."""
    stops = [{"id": f"store-{n}", "type": "customer.stopped", "data": {"id": f"c-{n}"}} for n in range(30)]
    await staged.post(stops, "store")
    async with looking(browser, staged) as looked:
        await looked.enter()
        page, rows = looked.page, looked.page.locator("#unresolved tbody tr")
        counted = page.locator("#verdict .findings li")
        for turn, shown in ((None, 20), ("Next", 10), ("Back", 20)):
            if turn:
                await page.locator("#unresolved").get_by_role("button", name=turn).click()
            await expect(rows).to_have_count(shown)
            await expect(counted).to_have_text(["30 opt-outs wait for an address of the customer"])
