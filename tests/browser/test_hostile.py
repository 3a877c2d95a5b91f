"""Nothing that comes from outside is more than text: not in reasons, messages, ids, or what vendors answer."""

from playwright.async_api import Browser, Route, expect

from tests.browser.browser import looking
from tests.browser.stage import Stage

MARKUP = (
    "<img src=x onerror=\"globalThis.hacked=1\"><script>hacked=1</script><a href='javascript:hacked=1'>x</a>&lt;b&gt;"
)
LONG = "x" * 170
TURNING = "\u202egnp.exe\u2066"
"""Characters that turn the direction of all that follows, where nothing keeps them in."""


async def test_markup_is_shown_as_text(staged: Stage, browser: Browser) -> None:
    """Pause reasons, webhook ids, vendors' messages and their answers stay text; no script of theirs ever runs."""
    ids = [f"{MARKUP}", f"javascript:alert(1)//{LONG}", "../../v1/logins"]
    refusal = f"{MARKUP} {TURNING}"
    staged.blast.faults.arm({"fault": "reject_lines", "every": 1, "message": refusal})
    data = {"name": MARKUP, "plan": MARKUP}
    await staged.post(
        [
            {"id": one, "type": "customer.created", "data": {"email": f"r{n}@example.jp", **data}}
            for n, one in enumerate(ids)
        ]
        + [{"id": "fine", "type": "customer.created", "data": {"email": "fine@example.jp", **data}}]
    )
    await staged.settled()
    await staged.post([{"id": one, "type": "customer.stopped", "data": {"id": one}} for one in ids], "store")
    await staged.api("POST", "logins/hai/pause", {"reason": MARKUP})
    async with looking(browser, staged) as looked:
        await looked.enter()
        page = looked.page
        await expect(page.locator("#verdict")).to_contain_text(MARKUP)
        await expect(page.locator("#lanes")).to_contain_text(MARKUP)
        await expect(page.locator("#acts")).to_contain_text(MARKUP)
        await expect(page.locator("#unresolved tbody th")).to_have_text(ids)
        for place in await page.locator("#batches tbody button").all():
            await place.click()
            await expect(page.locator("#batch .facts")).to_be_visible()
            if await page.locator("#rejections-title").count():
                await page.get_by_role("button", name="Show the vendor’s messages").click()
                await expect(page.locator("#batch td bdi", has_text=TURNING).first).to_be_visible()
                await expect(page.locator("#batch")).to_contain_text(MARKUP)
            await page.keyboard.press("Escape")
        for one in ids:
            await page.get_by_label("Source").fill("store")
            await page.get_by_label("Webhook id").fill(one)
            await page.get_by_label("Webhook id").press("Enter")
            await expect(page.locator("#webhook-found tbody tr")).to_have_count(1)
        assert await page.evaluate("globalThis.hacked") is None
        assert await page.locator("main img, main script, main a[href^=javascript], dialog img").count() == 0
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")


async def test_text_cannot_become_markup_at_all(staged: Stage, browser: Browser) -> None:
    """The policy itself refuses markup from text and code from text, whatever a script tries."""
    async with looking(browser, staged) as looked:
        for attempt in (
            "document.body.innerHTML = '<b>x</b>'",
            "document.body.insertAdjacentHTML('beforeend', '<b>x</b>')",
            "setTimeout('hacked = 1')",
        ):
            told = await looked.page.evaluate(
                f"(() => {{ try {{ {attempt}; return 'done'; }} catch (e) {{ return e.name; }} }})()"
            )
            assert told in {"TypeError", "EvalError"}, attempt
        await looked.page.evaluate("document.body.setAttribute('style', 'display: none')")
        assert await looked.page.evaluate("getComputedStyle(document.body).display") == "block"
        await looked.page.evaluate("brokenPolicy.length = 0")
        looked.errors.clear()


async def test_an_answer_that_is_not_relays(staged: Stage, browser: Browser) -> None:
    """A proxy's page, with or without an error, is told as what it is, and none of it is shown."""
    async with looking(browser, staged) as looked:
        await looked.enter()
        page = looked.page
        for status in (200, 502):

            async def answer(route: Route, *, status: int = status) -> None:
                await route.fulfill(status=status, body=f"<h1>{MARKUP}</h1>", content_type="text/html")

            await page.route("**/v1/logins", answer)
            await page.locator("#now").click()
            await expect(page.locator("#stale")).to_contain_text(f"relay refused this (HTTP {status})")
            await page.unroute("**/v1/logins")
            await looked.refresh()
            await expect(page.locator("#stale")).to_be_hidden()
