"""The page asks again by itself: how often, what it keeps meanwhile, and what it says when relay is gone."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Browser, Route, expect

from tests.browser.browser import Looked, looking
from tests.browser.stage import Stage
from tests.waiting import until


def asked(looked: Looked, what: str = "/v1/logins") -> int:
    """How often something was asked for."""
    return len([request for request in looked.asked if request.url.endswith(what)])


async def passes(looked: Looked, seconds: float) -> None:
    """Let the page's clock run on."""
    await looked.page.clock.run_for(int(seconds * 1000))


@asynccontextmanager
async def refreshed(looked: Looked) -> AsyncIterator[None]:
    """Wait until everything has been told anew; some time must have passed since it was last."""
    at = looked.page.locator("#fresh time")
    before = await at.get_attribute("title") or ""
    yield
    await expect(at).not_to_have_attribute("title", before)


async def test_every_ten_seconds_while_it_is_seen(staged: Stage, browser: Browser) -> None:
    """Every 10 s, not while paused or hidden, and at once when it is seen again."""
    async with looking(browser, staged, clock=True) as looked:
        page = looked.page
        await looked.enter()
        assert asked(looked) == 1
        await passes(looked, 9)
        assert asked(looked) == 1
        async with refreshed(looked):
            await passes(looked, 1.5)
        assert asked(looked) == 2
        await page.get_by_role("button", name="Pause updates").click()
        await passes(looked, 60)
        assert asked(looked) == 2
        async with refreshed(looked):
            await page.get_by_role("button", name="Resume updates").click()
        await page.evaluate(
            "Object.defineProperty(document, 'hidden', { value: true, configurable: true });"
            "document.dispatchEvent(new Event('visibilitychange'))"
        )
        await passes(looked, 60)
        assert asked(looked) == 3
        async with refreshed(looked):
            await page.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
            await passes(looked, 0.1)
        assert asked(looked) == 4


async def test_never_twice_at_once(staged: Stage, browser: Browser) -> None:
    """While an answer is awaited nothing more is asked; who presses meanwhile gets one more behind it."""
    async with looking(browser, staged, clock=True) as looked:
        await looked.enter()
        held: list[Route] = []

        def hold(route: Route) -> None:
            held.append(route)

        await looked.page.route("**/v1/logins", hold)
        await looked.page.locator("#now").click()
        await passes(looked, 15)
        for _ in range(3):
            await looked.page.locator("#now").click()
        assert len(held) == 1
        await held[0].continue_()
        await until(lambda: len(held) == 2)
        async with refreshed(looked):
            await held[1].continue_()
        assert len(held) == 2


async def test_focus_and_what_is_open_stay(staged: Stage, browser: Browser) -> None:
    """A refresh changes what has changed: the focus, what was typed, and what is folded open or shut stay."""
    await staged.say("created", "taro@example.jp")
    await staged.settled()
    async with looking(browser, staged) as looked:
        await looked.enter()
        page = looked.page
        await page.get_by_label("Webhook id").fill("msg_")
        await page.locator("#chart").get_by_text("As a table").click()
        blast = page.get_by_role("article", name="blast")
        await blast.locator("summary").click()
        await expect(blast.get_by_role("table")).to_have_count(0)
        opened = page.get_by_role("button", name="Open batch 1")
        await opened.focus()
        await page.evaluate("document.getElementById('batches').firstElementChild.kept = true")
        await staged.api("POST", "logins/hai/pause", {"reason": "x"})
        await staged.say("created", "hanako@example.jp")
        await staged.settled()
        await looked.refresh_until(page.get_by_role("button", name="Open batch 4"))
        await expect(page.get_by_role("article", name="hai").locator(".mark")).to_have_text("Paused")
        await opened.focus()
        await looked.refresh()
        await expect(opened).to_be_focused()
        assert await page.evaluate("document.getElementById('batches').firstElementChild.kept")
        assert await page.get_by_label("Webhook id").input_value() == "msg_"
        await expect(page.locator("#chart details")).to_have_attribute("open", "")
        await expect(blast.get_by_role("table")).to_have_count(0)


async def test_an_open_batch_goes_on(staged: Stage, browser: Browser) -> None:
    """A batch that is open in its dialog is refreshed with the rest, and keeps the focus in it."""
    staged.blast.faults.arm({"fault": "status", "status": 503, "times": 4})
    await staged.say("created", "taro@example.jp")
    async with looking(browser, staged) as looked:
        await looked.enter()
        page, batch = looked.page, looked.page.locator("#batch")
        await looked.refresh_until(page.locator("#batches .mark", has_text="waiting"))
        await page.locator("#batches tbody tr", has_text="waiting").get_by_role("button").last.click()
        await expect(batch.locator(".mark")).to_have_text("waiting")
        await batch.get_by_role("button", name="Close").focus()
        staged.blast.faults.disarm()
        await staged.api("POST", "logins/blast/flush")
        await staged.sql("update cursor set not_before = now()")
        await staged.api("POST", "logins/blast/resume")
        await staged.settled()
        await looked.refresh_until(batch.locator(".mark", has_not_text="waiting"))
        await expect(batch.get_by_role("button", name="Close")).to_be_focused()


async def test_relay_gone_and_back(staged: Stage, browser: Browser) -> None:
    """Without relay the page says since when it is out of date, asks less and less often, and recovers by itself."""
    async with looking(browser, staged, clock=True) as looked:
        page, following = looked.page, looked.page.locator("#stale-next")
        await looked.enter()
        await staged.stop()
        await page.locator("#now").click()
        stale = page.get_by_role("alert").filter(has_text="out of date")
        await expect(stale).to_contain_text("relay cannot be reached. What is shown is from ")
        await expect(page.locator("#lanes article")).to_have_count(2)
        first = await following.inner_text()
        before = asked(looked)
        await passes(looked, 21)
        await expect(following).not_to_have_text(first)
        assert asked(looked) == before + 1
        await passes(looked, 38)
        assert asked(looked) == before + 1
        await staged.start()
        async with refreshed(looked):
            await passes(looked, 3)
        await expect(page.locator("#stale")).to_be_hidden()
        assert all("ERR_CONNECTION_REFUSED" in error for error in looked.errors)
        looked.errors.clear()


async def test_an_error_is_told_with_relays_words(staged: Stage, browser: Browser) -> None:
    """While Postgres cannot be used, what is shown stays, with the problem's own detail above it."""
    async with looking(browser, staged) as looked:
        await looked.enter()
        await staged.sql("alter table batch rename to batch_away")
        try:
            await looked.page.locator("#now").click()
            await expect(looked.page.locator("#stale")).to_contain_text("The database cannot be used now")
            await expect(looked.page.locator("#lanes article")).to_have_count(2)
        finally:
            await staged.sql("alter table batch_away rename to batch")
        await looked.refresh()
        await expect(looked.page.locator("#stale")).to_be_hidden()


async def test_a_change_is_read_aloud_once(staged: Stage, browser: Browser) -> None:
    """The polite region speaks when the verdict changes, and is still while it does not."""
    async with looking(browser, staged) as looked:
        await looked.enter()
        page, said = looked.page, looked.page.locator("#said")
        await expect(said).to_have_attribute("role", "status")
        await looked.refresh()
        await expect(said).to_be_empty()
        await staged.api("POST", "logins/hai/pause", {"reason": ""})
        await looked.refresh()
        await expect(said).to_have_text("1 login is paused")
        await page.evaluate(
            "globalThis.spoken = 0; new MutationObserver(() => { spoken += 1; })"
            ".observe(document.getElementById('said'), { childList: true, subtree: true, characterData: true })"
        )
        await looked.refresh()
        await looked.refresh()
        assert await page.evaluate("spoken") == 0
