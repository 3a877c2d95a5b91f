"""What can be pressed: each act is confirmed, done, told, and recorded; what is cancelled or refused is not."""

import re

from playwright.async_api import Browser, Locator, Page, expect

from tests.acceptance.processes import until
from tests.browser.browser import looking
from tests.browser.stage import Stage


async def acts(staged: Stage) -> list[tuple[str, ...]]:
    """What is in the audit record: who, what, on which login, batch or webhook; the oldest first."""
    rows = await staged.sql(
        "select who, through, act, concat_ws(' ', login, batch_id::text, message_id), detail from act order by id"
    )
    return [tuple(row) for row in rows]


def lane(page: Page, name: str) -> Locator:
    """A login's part of the page."""
    return page.get_by_role("article", name=name)


async def confirm(page: Page, title: str, action: str, *, warns: str) -> None:
    """Check what the dialog says, and go on."""
    dialog = page.locator("#confirm")
    await expect(dialog.get_by_role("heading")).to_have_text(title)
    await expect(dialog).to_contain_text(warns)
    await dialog.get_by_role("button", name=action, exact=True).click()
    await expect(dialog).to_be_hidden()


async def test_a_login_is_paused_and_resumed(staged: Stage, browser: Browser) -> None:
    """Pause takes a reason and says what it means for opt-outs; the lane shows it; resume ends it; both are told."""
    async with looking(browser, staged) as looked:
        await looked.enter("operator")
        page = looked.page
        await lane(page, "blast").get_by_role("button", name="Pause: blast").click()
        await expect(page.get_by_label("Reason")).to_be_focused()
        await page.get_by_label("Reason").fill("  the vendor asked for it ")
        await confirm(page, "Pause this login?", "Pause", warns="may still be mailed")
        await expect(page.locator("#said")).to_contain_text("blast is paused.")
        await expect(page.locator("#said")).to_contain_text("1 login is paused")
        await expect(lane(page, "blast").locator(".mark")).to_have_text("Paused")
        await expect(lane(page, "blast").get_by_role("button", name="Pause: blast")).to_have_count(0)
        await expect(page.locator("#acts tbody tr").first).to_contain_text("the vendor asked for it")
        await lane(page, "blast").get_by_role("button", name="Resume: blast").click()
        await confirm(page, "Resume this login?", "Resume", warns="goes on at once")
        await expect(lane(page, "blast").locator(".mark")).to_have_text("Idle")
        assert await acts(staged) == [
            ("operator", "api", "pause", "blast", "the vendor asked for it"),
            ("operator", "api", "resume", "blast", ""),
        ]


async def test_what_waits_is_sent_now(staged: Stage, browser: Browser) -> None:
    """Send now makes due what would wait for an hour: the file goes up."""
    slow = staged.settings.accounts["newsletter"].model_copy(update={"flush_after_s": 3600})
    accounts = {**staged.settings.accounts, "newsletter": slow}
    await staged.stop()
    staged.settings = staged.settings.model_copy(update={"accounts": accounts})
    await staged.start()
    await staged.say("created", "taro@example.jp")
    async with looking(browser, staged) as looked:
        await looked.enter()
        page = looked.page
        await lane(page, "blast").get_by_role("button", name="Send now: blast").click()
        await confirm(page, "Send now?", "Send now", warns="due at once")
        await staged.settled()
        await looked.refresh_until(page.locator("#batches tbody tr", has_text="newsletter"))
        assert await acts(staged) == [("oncall", "api", "flush", "blast", "")]


async def test_dead_letters_are_retried(staged: Stage, browser: Browser) -> None:
    """Retry appends them again: once the vendor takes them, they are delivered; the button is gone."""
    staged.blast.faults.arm({"fault": "reject_lines", "addresses": ["hanako@example.jp"]})
    await staged.say("created", "taro@example.jp", "hanako@example.jp")
    await staged.settled()
    staged.blast.faults.disarm()
    async with looking(browser, staged) as looked:
        await looked.enter()
        page = looked.page
        await page.get_by_role("button", name="Open batch 1").click()
        batch = page.locator("#batch")
        await batch.get_by_role("button", name="Retry").click()
        await confirm(page, "Retry the dead letters?", "Retry", warns="nothing old is brought back")
        await expect(page.locator("#said")).to_contain_text("1 event of batch 1 was appended again.")
        await expect(batch.get_by_role("cell", name=re.compile("^Retried"))).to_be_visible()
        await expect(batch.get_by_role("button", name="Retry")).to_have_count(0)
        await staged.settled()
        assert "hanako@example.jp" in staged.blast.readers("user")
        assert await acts(staged) == [("oncall", "api", "retry", "blast 1", "")]


async def test_dead_letters_are_dismissed(staged: Stage, browser: Browser) -> None:
    """Dismiss says that the vendor stays without the change, and then they count no more."""
    staged.blast.faults.arm({"fault": "reject_lines", "addresses": ["hanako@example.jp"]})
    await staged.say("created", "taro@example.jp", "hanako@example.jp")
    await staged.settled()
    async with looking(browser, staged) as looked:
        await looked.enter()
        page = looked.page
        findings = page.locator("#verdict .findings li")
        await expect(findings).to_have_text(["2 accounts of blast have 2 dead letters: retry or dismiss them"])
        await page.get_by_role("button", name="Open batch 2").click()
        await page.locator("#batch").get_by_role("button", name="Dismiss").click()
        await confirm(page, "Dismiss the dead letters?", "Dismiss", warns="stays without these changes")
        await page.keyboard.press("Escape")
        await expect(findings).to_have_text(["newsletter has 1 dead letter: retry or dismiss it"])
        assert await acts(staged) == [("oncall", "api", "dismiss", "blast 2", "")]


async def test_an_opt_out_without_an_address_is_dismissed(staged: Stage, browser: Browser) -> None:
    """It leaves the list and the verdict, and its dismissal is recorded; its id may have whatever an id may have."""
    await staged.post([{"id": "a/b ?#%", "type": "customer.stopped", "data": {"id": "c-1"}}], "store")
    async with looking(browser, staged) as looked:
        await looked.enter()
        page = looked.page
        await expect(page.locator("#verdict .headline")).to_have_text("1 thing to look at")
        await page.get_by_role("button", name="Dismiss a/b ?#%").click()
        await confirm(page, "Dismiss this opt-out?", "Dismiss", warns="is sent when an address")
        await expect(page.locator("#unresolved")).to_have_text("None.")
        await expect(page.locator("#verdict .headline")).to_have_text("All is well")
        assert await acts(staged) == [("oncall", "api", "dismiss", "a/b ?#%", "")]


async def test_what_is_cancelled_is_not_done(staged: Stage, browser: Browser) -> None:
    """Cancel and Escape do nothing, and give the focus back to the button that was pressed."""
    async with looking(browser, staged) as looked:
        await looked.enter()
        page, button = looked.page, lane(looked.page, "blast").get_by_role("button", name="Pause: blast")
        await button.click()
        await page.locator("#confirm").get_by_role("button", name="Cancel").click()
        await expect(button).to_be_focused()
        await button.press("Enter")
        await expect(page.locator("#confirm")).to_be_visible()
        await page.keyboard.press("Escape")
        await expect(page.locator("#confirm")).to_be_hidden()
        await expect(button).to_be_focused()
        assert await acts(staged) == []
        assert not [request for request in looked.asked if request.method == "POST"]


async def test_what_relay_refuses_is_told_in_the_dialog(staged: Stage, browser: Browser) -> None:
    """What somebody else has done meanwhile is a conflict: the dialog stays, and says it in relay's words."""
    staged.blast.faults.arm({"fault": "reject_lines", "addresses": ["hanako@example.jp"]})
    await staged.say("created", "taro@example.jp", "hanako@example.jp")
    await staged.settled()
    async with looking(browser, staged) as looked:
        await looked.enter()
        page = looked.page
        await page.get_by_role("button", name="Open batch 1").click()
        await page.locator("#batch").get_by_role("button", name="Dismiss").click()
        await staged.api("POST", "batches/1/dismiss")
        dialog = page.locator("#confirm")
        await dialog.get_by_role("button", name="Dismiss").click()
        await expect(dialog.get_by_role("alert")).to_contain_text("has no dead letters that could be dismissed")
        await dialog.get_by_role("button", name="Cancel").click()
        await expect(dialog).to_be_hidden()


async def test_a_press_is_sent_once(staged: Stage, browser: Browser) -> None:
    """Pressing twice, while relay works on it, is one act."""
    async with looking(browser, staged) as looked:
        await looked.enter()
        page = looked.page
        await lane(page, "blast").get_by_role("button", name="Send now: blast").click()
        await page.locator("#confirm form").evaluate("(form) => { form.requestSubmit(); form.requestSubmit(); }")

        async def recorded() -> bool:
            return bool(await acts(staged))

        await until("it is recorded", recorded)
        await expect(page.locator("#confirm")).to_be_hidden()
        assert len([request for request in looked.asked if request.url.endswith("/flush")]) == 1
