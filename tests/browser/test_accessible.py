"""Who cannot see, or uses no mouse, or has a narrow screen, can do everything, in both languages."""

import re
from collections.abc import Callable
from importlib.resources import files

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.browser.browser import looking
from tests.browser.stage import Stage, token

WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 320, "height": 640}
AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
RULES = {
    "resultTypes": ["violations"],
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
}


@pytest_asyncio.fixture(loop_scope="session")
async def troubled(staged: Stage) -> Stage:
    """A relay with a bit of everything to be shown."""
    staged.blast.faults.arm({"fault": "reject_lines", "addresses": ["hanako@example.jp"], "message": "エラー"})
    await staged.say("created", "taro@example.jp", "hanako@example.jp")
    await staged.settled()
    await staged.post([{"id": "store-77", "type": "customer.stopped", "data": {"id": "c-4711"}}], "store")
    await staged.api("POST", "logins/hai/pause", {"reason": "maintenance"})
    await staged.say("stopped", "jiro@example.jp", source="store")
    await staged.minutes_pass(24)
    return staged


async def violations(page: Page, within: str) -> list[str]:
    """What axe finds within a part of the page, each rule with where."""
    if not await page.evaluate("'axe' in globalThis"):
        await page.evaluate(AXE)
    found = await page.evaluate("([within, options]) => axe.run(within, options)", [within, RULES])
    return [f"{one['id']}: {[node['html'][:160] for node in one['nodes']]}" for one in found["violations"]]


async def look(staged: Stage, browser: Browser, locale: str, scheme: str, viewport: dict[str, int]) -> list[str]:
    """Walk through everything that the page can show; returns what axe finds, and what is wider than the screen."""
    found: list[str] = []
    async with looking(browser, staged, locale=locale, color_scheme=scheme, viewport=viewport) as looked:
        page = looked.page

        async def examine(within: str) -> None:
            found.extend(f"{within}: {one}" for one in await violations(page, within))
            if await page.evaluate("document.documentElement.scrollWidth > innerWidth"):
                found.append(f"{within}: is wider than the screen")

        await page.locator("#token").wait_for()
        assert await page.locator("html").get_attribute("lang") == locale[:2]
        await examine("body")
        await looked.enter()
        await expect(page.locator("#chart svg")).to_be_visible()
        await page.locator("#chart-hours").select_option("1")
        await page.locator("#chart summary").click()
        await page.locator("#webhook-source").fill("crm")
        await page.locator("#webhook-id").fill("msg_0002")
        await page.locator("#webhook-id").press("Enter")
        await page.locator("#customer-email").fill("taro@example.jp")
        await page.locator("#customer-email").press("Enter")
        await expect(page.locator("#customer-found table")).to_have_count(2)
        await page.route("**/v1/acts**", lambda route: route.abort())
        await page.locator("#now").click()
        await expect(page.locator("#stale")).to_be_visible()
        await examine("body")
        if viewport == NARROW:
            await page.locator("#batches-fold summary").click()
            await examine("#batches-fold")
        await page.locator("#batches tbody button").last.click()
        await page.locator("#batch section").last.get_by_role("button").first.click()
        await expect(page.locator("#batch").get_by_text("エラー", exact=True)).to_be_visible()
        await examine("#batch")
        await page.locator("#batch .buttons button").nth(1).click()
        await expect(page.locator("#confirm")).to_be_visible()
        await examine("#confirm")
        looked.errors.clear()
    return found


@pytest.mark.parametrize(
    ("locale", "scheme", "viewport"),
    [
        pytest.param("en-GB", "light", WIDE, id="en-light-wide"),
        pytest.param("en-GB", "dark", NARROW, id="en-dark-narrow"),
        pytest.param("ja-JP", "light", NARROW, id="ja-light-narrow"),
        pytest.param("ja-JP", "dark", WIDE, id="ja-dark-wide"),
    ],
)
async def test_nothing_is_in_the_way(
    troubled: Stage, browser: Browser, locale: str, scheme: str, viewport: dict[str, int]
) -> None:
    """In either language, light or dark, wide or 320 px narrow, axe finds nothing, and nothing is cut off at a side.

    Each two of the three come together once.
    """
    assert await look(troubled, browser, locale, scheme, viewport) == []


FOCUSED = """(() => {
    const e = document.activeElement, s = getComputedStyle(e);
    return [`${e.id} ${e.getAttribute("aria-label") ?? ""} ${e.textContent}`, s.outlineStyle, s.outlineWidth];
})()"""

MOVING = """[...document.querySelectorAll("*")].map((e) => getComputedStyle(e)).filter((s) =>
    s.scrollBehavior !== "auto" || s.animationName !== "none"
    || s.transitionDuration.split(",").some((duration) => parseFloat(duration) > 0)
).length"""


async def tab_to(page: Page, wanted: Callable[[str], bool], key: str = "Tab") -> None:
    """Press Tab until something has the focus, which must be seen to have it; fails after 80 times."""
    for _ in range(80):
        await page.keyboard.press(key)
        told = await page.evaluate(FOCUSED)
        assert told[1:] != ["none", "0px"], told
        if wanted(told[0]):
            return
    pytest.fail("nothing of that kind gets the focus")


async def test_a_narrow_screen_folds_the_batches(troubled: Stage, browser: Browser) -> None:
    """Below 44 rem the batches are folded with their filters until somebody wants them; where there is room, never."""
    async with looking(browser, troubled, viewport=NARROW) as looked:
        await looked.enter()
        page, batches = looked.page, looked.page.locator("#batches")
        await expect(page.get_by_role("heading", name="Batches")).to_be_visible()
        await expect(batches).to_be_hidden()
        await expect(page.locator("#batches-state")).to_be_hidden()
        await page.get_by_text("Show the batches").click()
        await expect(batches.locator("tbody tr").first).to_be_visible()
        await expect(page.locator("#batches-state")).to_be_visible()
        await looked.refresh()
        await expect(batches).to_be_visible()
        await page.get_by_text("Show the batches").click()
        await expect(batches).to_be_hidden()
        await page.locator("#lanes").get_by_role("button", name="dead letters of members").click()
        await expect(batches.locator("tbody tr")).to_have_count(1)
        await expect(batches).to_be_visible()
        await page.get_by_text("Show the batches").click()
        await page.set_viewport_size({"width": 1280, "height": 900})
        await expect(batches).to_be_visible()
        await expect(page.get_by_text("Show the batches")).to_be_hidden()


async def test_by_keyboard_alone(troubled: Stage, browser: Browser) -> None:
    """Sign in, skip, resume a login, open a batch and dismiss its dead letters, search, sign out: without a mouse."""
    async with looking(browser, troubled) as looked:
        page, keys = looked.page, looked.page.keyboard
        await expect(page.locator("#token")).to_be_focused()
        await keys.type(token("oncall"))
        await keys.press("Enter")
        await expect(page.locator("#verdict .headline")).to_be_visible()
        await expect(page.locator("#verdict-title")).to_be_focused()
        await tab_to(page, lambda told: "Resume: hai" in told)
        await keys.press("Enter")
        await expect(page.locator("#confirm").get_by_role("button", name="Cancel")).to_be_focused()
        await tab_to(page, lambda told: told.strip() == "Resume")
        await keys.press("Enter")
        await expect(page.locator("#said")).to_contain_text("hai goes on.")
        await troubled.settled()
        await tab_to(page, lambda told: "Open batch 1" in told)
        await keys.press("Enter")
        await expect(page.locator("#batch-title")).to_be_focused()
        await expect(page.locator("#rejections-title")).to_be_visible()
        await tab_to(page, lambda told: told.strip() == "Dismiss")
        await keys.press("Enter")
        await tab_to(page, lambda told: told.strip() == "Dismiss")
        await keys.press("Enter")
        await expect(page.locator("#batch").get_by_role("cell", name=re.compile("^Dismissed"))).to_be_visible()
        await keys.press("Escape")
        await expect(page.get_by_role("button", name="Open batch 1")).to_be_focused()
        await tab_to(page, lambda told: told.startswith("webhook-source"))
        await keys.type("crm")
        await keys.press("Tab")
        await keys.type("msg_0001")
        await keys.press("Enter")
        await expect(page.locator("#webhook-found tbody tr")).to_have_count(2)
        await tab_to(page, lambda told: told.strip().startswith("leave"), "Shift+Tab")
        await keys.press("Enter")
        await expect(page.locator("#token")).to_be_focused()


async def test_a_dialog_keeps_the_focus(troubled: Stage, browser: Browser) -> None:
    """While a dialog is open, Tab stays in it, and nothing behind it can be reached."""
    async with looking(browser, troubled) as looked:
        await looked.enter()
        page = looked.page
        await page.get_by_role("button", name="Send now: blast").click()
        for _ in range(8):
            await page.keyboard.press("Tab")
            inside = "document.activeElement === document.body || document.activeElement.closest('#confirm') !== null"
            assert await page.evaluate(inside)


async def test_the_skip_link_and_the_landmarks(troubled: Stage, browser: Browser) -> None:
    """The first Tab is a link to the content; there is one main part, a banner, a navigation, and named regions."""
    async with looking(browser, troubled) as looked:
        await looked.enter()
        page = looked.page
        await page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
        for role in ("main", "banner", "navigation"):
            await expect(page.get_by_role(role)).to_have_count(1)
        names = ["What is late and why", "Logins", "Batches", "Search", "Opt-outs without an address"]
        for name in [*names, "The last hours", "Audit record"]:
            await expect(page.get_by_role("region", name=name, exact=True)).to_have_count(1)
        await page.locator(".skip").focus()
        await expect(page.locator(".skip")).to_be_in_viewport()
        await page.keyboard.press("Enter")
        await expect(page.locator("#main")).to_be_focused()


async def test_the_other_language(troubled: Stage, browser: Browser) -> None:
    """One press changes everything at once, what was loaded included, and says so to screen readers (`lang`)."""
    async with looking(browser, troubled) as looked:
        await looked.enter()
        page = looked.page
        await page.get_by_role("button", name="日本語").click()
        await expect(page.locator("html")).to_have_attribute("lang", "ja")
        await expect(page.locator("#verdict .headline")).to_contain_text("オプトアウトの遅延 1アカウント")
        await expect(page.locator("#lanes .mark").last).to_have_text("一時停止中")
        await expect(page.locator("#said")).to_be_empty()
        japanese = re.compile("[\u3040-\u30ff\u4e00-\u9fff]")
        for place in await page.locator(
            "main h2, main th[scope=col], main label, main button:not(.link), main option"
        ).all():
            text = await place.inner_text()
            assert japanese.search(text) or text in {"", "API", "Webhook ID", "hai", *troubled.settings.accounts}, text
        await page.get_by_role("button", name="English").click()
        await expect(page.locator("#verdict .headline")).to_contain_text("Opt-outs are late at 1 account")


async def test_nothing_moves_for_those_who_want_none(troubled: Stage, browser: Browser) -> None:
    """With prefers-reduced-motion there is no transition, animation or smooth scrolling."""
    async with looking(browser, troubled, reduced_motion="reduce") as looked:
        await looked.enter()
        assert await looked.page.evaluate(MOVING) == 0
