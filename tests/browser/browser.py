"""Debian's Chromium, and a page of it that may do nothing wrong: no other host, no broken policy, no error."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Locator,
    Page,
    Request,
    async_playwright,
    expect,
)

from tests.acceptance.processes import until
from tests.browser.stage import TOKENS, Stage, token

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
BROKEN_POLICY = """
globalThis.brokenPolicy = [];
const note = (event) => brokenPolicy.push(`${event.violatedDirective} ${event.blockedURI}`);
document.addEventListener("securitypolicyviolation", note);
"""

EXPECTED = ("Failed to load resource: the server responded with a status of",)
"""Chromium tells of each answer that is an error; whether one belongs there is each test's own."""


@dataclass
class Looked:
    """A page, and what it did."""

    page: Page
    url: str
    errors: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    asked: list[Request] = field(default_factory=list)

    def watch(self) -> None:
        """Take down what happens."""
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", self._request)
        self.page.on("requestfailed", lambda request: self.errors.append(f"{request.url}: {request.failure}"))

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"} and not message.text.startswith(EXPECTED):
            self.errors.append(message.text)

    def _request(self, request: Request) -> None:
        self.asked.append(request)
        if not request.url.startswith(self.url + "/"):
            self.elsewhere.append(request.url)

    async def enter(self, name: str = "oncall") -> None:
        """Sign in with a token, and wait until the page shows how things stand."""
        await self.page.locator("#token").fill(token(name))
        await self.page.locator("#token").press("Enter")
        await expect(self.page.locator("#who")).to_contain_text(name)
        if "read" in TOKENS[name]:
            await expect(self.page.locator("#verdict .headline")).to_be_visible()

    async def refresh(self) -> None:
        """Ask anew, and wait for the answer."""
        async with self.page.expect_response(lambda response: "/v1/acts" in response.url):
            await self.page.locator("#now").dispatch_event("click")  # a dialog may be open before it

    async def refresh_until(self, place: Locator) -> None:
        """Ask anew until something is shown."""

        async def shown() -> bool:
            await self.refresh()
            return await place.count() > 0

        await until("the page shows it", shown)

    async def check(self) -> None:
        """Fail if the page did anything that it may not."""
        broken: list[Any] = await self.page.evaluate("globalThis.brokenPolicy")
        assert broken == []
        assert self.elsewhere == []
        assert self.errors == []


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Run Chromium."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def looking(
    browser: Browser,
    stage: Stage,
    *,
    clock: bool = False,
    **context: Any,  # noqa: ANN401 - Playwright's own options
) -> AsyncIterator[Looked]:
    """Open the page in a context of its own (`locale`, `color_scheme`, `viewport`, …); check in the end what it did.

    With `clock` time passes for the page only as the test says.
    """
    wanted = {"locale": "en-GB", "timezone_id": "Asia/Tokyo", "viewport": {"width": 1280, "height": 900}, **context}
    opened: BrowserContext = await browser.new_context(**wanted)
    try:
        opened.set_default_timeout(8_000)
        await opened.add_init_script(BROKEN_POLICY)
        looked = Looked(await opened.new_page(), stage.url)
        looked.watch()
        if clock:
            await looked.page.clock.install()
        await looked.page.goto(stage.url)
        if clock:
            await looked.page.clock.pause_at(datetime.now(UTC) + timedelta(seconds=1))
        try:
            yield looked
        except Exception as error:
            error.add_note(f"the page told of: {looked.errors}")
            raise
        await looked.check()
    finally:
        await opened.close()
