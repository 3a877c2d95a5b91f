"""The token: which it is, what it may do, and that it is kept nowhere but in memory."""

import re

import pytest
from playwright.async_api import Browser, expect

from tests.browser.browser import Looked, looking
from tests.browser.stage import Stage, token

STORED = """async () => JSON.stringify([
    Object.entries(localStorage), Object.entries(sessionStorage), document.cookie, location.href, history.state,
    (await indexedDB.databases()).map((one) => one.name), await caches.keys(), document.documentElement.outerHTML,
    [...document.querySelectorAll("input")].map((input) => input.value), name,
])"""
"""Everything that a page may leave something in, and the whole of what it shows."""


async def test_the_token_is_kept_nowhere(staged: Stage, browser: Browser) -> None:
    """Not in storage, cookies, the URL, attributes or fields; it is sent as a header, to relay alone."""
    async with looking(browser, staged) as looked:
        await looked.enter()
        page, secret = looked.page, token("oncall")
        assert secret not in await page.evaluate(STORED)
        assert await page.context.cookies() == []
        assert not any(secret in request.url for request in looked.asked)
        [asked] = [request for request in looked.asked if request.url.endswith("/v1/token")]
        assert (await asked.all_headers())["authorization"] == f"Bearer {secret}"
        assert await page.locator("#token").get_attribute("autocomplete") == "off"
        assert await page.locator("#token").get_attribute("type") == "password"
        assert await page.locator("#token").get_attribute("name") is None


async def test_signing_out_forgets_all(staged: Stage, browser: Browser) -> None:
    """Nothing that was shown stays on the page, nothing is asked any more, and the next one has to sign in."""
    await staged.say("created", "taro@example.jp")
    await staged.settled()
    async with looking(browser, staged) as looked:
        await looked.enter()
        await expect(looked.page.locator("#batches tbody tr")).to_have_count(2)
        await looked.page.get_by_role("button", name="Sign out").click()
        await expect(looked.page.locator("#token")).to_be_focused()
        body = await looked.page.evaluate("document.body.outerHTML")
        for name in ("oncall", "newsletter", "blastmail"):
            assert name not in body, name
        asked = len(looked.asked)
        await looked.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        assert len(looked.asked) == asked


async def test_leaving_forgets_the_token(staged: Stage, browser: Browser) -> None:
    """Who goes elsewhere and comes back, or loads the page anew, finds nobody signed in."""
    async with looking(browser, staged) as looked:
        await looked.enter()
        await looked.page.get_by_role("link", name="HTTP interface").click()
        await expect(looked.page).to_have_url(re.compile("/docs$"))
        await looked.page.go_back()
        await expect(looked.page.locator("#token")).to_be_visible()
        await expect(looked.page.locator("#verdict")).to_be_empty()
        await looked.enter()
        await looked.page.reload()
        await expect(looked.page.locator("#token")).to_be_visible()


async def refused(looked: Looked, given: str) -> None:
    """Try a token that relay does not know."""
    await looked.page.locator("#token").fill(given)
    await looked.page.locator("#token").press("Enter")
    await expect(looked.page.locator("#refused")).to_have_text("relay does not know this token.")
    await expect(looked.page.locator("#token")).to_be_focused()
    await expect(looked.page.locator("#token")).to_have_value("")
    await expect(looked.page.locator("#verdict-title")).to_be_hidden()


async def test_a_wrong_token(staged: Stage, browser: Browser) -> None:
    """Is refused in words, also one that no header could bring; the field is empty again and has the focus."""
    async with looking(browser, staged) as looked:
        await refused(looked, "relay_wrong")
        await refused(looked, "トークン")
        await looked.enter()
        await expect(looked.page.locator("#refused")).to_be_empty()


@pytest.mark.parametrize(
    ("name", "lacking"),
    [
        ("reader", ["operate", "pii"]),
        ("operator", ["pii"]),
        ("auditor", ["read", "operate"]),
        ("button", ["read", "pii"]),
    ],
)
async def test_what_a_token_lacks_is_said(staged: Stage, browser: Browser, name: str, lacking: list[str]) -> None:
    """Only what the scopes allow is there to be pressed or asked, and what lacks is said; nothing is asked in vain."""
    await staged.say("created", "taro@example.jp")
    await staged.settled()
    async with looking(browser, staged) as looked:
        await looked.enter(name)
        page = looked.page
        await expect(page.locator("#lacking li")).to_have_text([re.compile(f"“{scope}”") for scope in lacking])
        await expect(page.get_by_role("heading", name="Logins")).to_be_visible(visible="read" not in lacking)
        can_press = "read" not in lacking and "operate" not in lacking
        await expect(page.get_by_role("button", name="Pause: blast")).to_have_count(int(can_press))
        await expect(page.locator("#customer-form")).to_be_visible(visible="pii" not in lacking)
        await expect(page.locator("#customer-lacking")).to_be_visible(visible="pii" in lacking)
        answered = [await request.response() for request in looked.asked]
        assert [answer.url for answer in answered if answer and answer.status >= 400] == []


async def test_a_token_that_is_taken_away(staged: Stage, browser: Browser) -> None:
    """A token that the settings no longer have ends the visit: nothing stays on the page, and it says why."""
    async with looking(browser, staged) as looked:
        await looked.enter()
        await staged.stop()
        tokens = {name: one for name, one in staged.settings.api.tokens.items() if name != "oncall"}
        api = staged.settings.api.model_copy(update={"tokens": tokens})
        staged.settings = staged.settings.model_copy(update={"api": api})
        await staged.start()
        await looked.page.locator("#now").click()
        await expect(looked.page.locator("#refused")).to_have_text("relay does not know this token.")
        await expect(looked.page.locator("#verdict")).to_be_empty()
