"""What the page shows of a relay in trouble, and of one that is well."""

import re

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Route, expect

from tests.browser.browser import looking
from tests.browser.stage import Stage

REFUSAL = "アドレスの形式が正しくありません: hanako@example.jp"


@pytest_asyncio.fixture(loop_scope="session")
async def troubled(staged: Stage) -> Stage:
    """A relay where two lines were refused, a login is paused, and opt-outs have waited for 24 minutes."""
    staged.blast.faults.arm({"fault": "reject_lines", "addresses": ["hanako@example.jp"], "message": REFUSAL})
    await staged.say("created", "taro@example.jp", "hanako@example.jp")
    await staged.settled()
    await staged.say("stopped", "taro@example.jp")
    await staged.settled()
    await staged.post([{"id": "store-77", "type": "customer.stopped", "data": {"id": "c-4711"}}], "store")
    await staged.api("POST", "logins/hai/pause", {"reason": "maintenance until noon"})
    await staged.say("created", "jiro@example.jp", source="store")
    await staged.say("stopped", "jiro@example.jp", source="store")
    await staged.minutes_pass(24)
    return staged


async def test_a_relay_that_is_well(staged: Stage, browser: Browser) -> None:
    """Nothing is late: the page says so in a word, and finds nothing to look at."""
    await staged.say("created", "taro@example.jp")
    await staged.settled()
    async with looking(browser, staged) as looked:
        await looked.enter()
        await expect(looked.page.locator("#verdict .headline")).to_have_text("All is well")
        await expect(looked.page.locator("#verdict .findings")).to_have_count(0)
        await expect(looked.page.locator("#verdict .waiting")).to_have_text("Nothing waits.")
        await expect(looked.page).to_have_title("relay")


async def test_what_is_late_and_why(troubled: Stage, browser: Browser) -> None:
    """Paused logins come first, then late opt-outs, with how late, where and why; then what else is to be looked at."""
    async with looking(browser, troubled) as looked:
        await looked.enter()
        page = looked.page
        await expect(page.locator("#verdict .headline")).to_have_text(
            "Opt-outs are late at 1 account, 1 login is paused, 2 more to look at"
        )
        await expect(page.locator("#verdict .findings li")).to_have_text(
            [
                re.compile("^hai is paused .by an operator.: maintenance until noon since "),
                "Opt-outs wait for 24 min at shop: the login is paused (by an operator): maintenance until noon",
                "1 opt-out waits for an address of the customer",
                "2 accounts of blast have 2 dead letters: retry or dismiss them",
            ]
        )
        await expect(page.locator("#verdict .waiting")).to_have_text(
            "2 events are left to cut; the oldest change that is not settled is 24 min old."
        )
        await expect(page).to_have_title("(4) relay")
        await page.locator("#verdict .findings button", has_text="shop").click()
        await expect(page.locator("#lane-hai")).to_be_focused()


async def test_a_file_that_waits_is_not_nothing(staged: Stage, browser: Browser) -> None:
    """While a file has not gone up, the page says how old the oldest change is, and counts only what is not cut."""
    staged.blast.faults.arm({"fault": "status", "status": 503})
    await staged.say("created", "taro@example.jp")
    async with looking(browser, staged, locale="ja-JP") as looked:
        await looked.enter()
        page, waiting = looked.page, looked.page.locator("#verdict .waiting")
        await looked.refresh_until(page.locator("#batches .mark", has_text="再試行待ち"))
        await staged.minutes_pass(20)
        await looked.refresh()
        await expect(waiting).to_have_text(
            "ファイル作成待ちのイベントはありません。確定していない変更のうち、最も古いものは20分前のものです。"
        )
        await page.get_by_role("button", name="English").click()
        await expect(waiting).to_have_text(
            "Nothing is left to cut; the oldest change that is not settled is 20 min old."
        )
        await staged.say("created", "hanako@example.jp")
        await looked.refresh()
        await expect(waiting).to_have_text(
            "2 events are left to cut; the oldest change that is not settled is 20 min old."
        )


async def test_what_needs_a_decision_is_not_nothing(staged: Stage, browser: Browser) -> None:
    """A refused line is settled, and so has no age; yet while nobody has decided on it, something is left."""
    staged.blast.faults.arm({"fault": "reject_lines", "addresses": ["hanako@example.jp"], "message": REFUSAL})
    await staged.say("created", "hanako@example.jp", "taro@example.jp")
    await staged.settled()
    async with looking(browser, staged) as looked:
        await looked.enter()
        await expect(looked.page.locator("#verdict .waiting")).to_have_text("Nothing is left to cut.")
        for batch in (1, 2):
            await staged.api("POST", f"batches/{batch}/dismiss")
        await looked.refresh()
        await expect(looked.page.locator("#verdict .waiting")).to_have_text("Nothing waits.")
        await staged.post([{"id": "store-78", "type": "customer.stopped", "data": {"id": "c-4712"}}], "store")
        await looked.refresh()
        await expect(looked.page.locator("#verdict .waiting")).to_have_text("Nothing is left to cut.")


@pytest.mark.parametrize(
    ("state", "next_try_s", "headline", "marked", "told"),
    [
        pytest.param("half_open", 0, "All is well", "Idle", "the next upload tries whether it answers", id="half-open"),
        pytest.param("open", 21.4, "1 thing to look at", "No answer", "does not answer; next try in 21 s", id="open"),
    ],
)
async def test_a_host_that_nobody_has_asked_since(
    staged: Stage, browser: Browser, state: str, next_try_s: float, headline: str, marked: str, told: str
) -> None:
    """Only while nothing is sent to a host is that a finding; then the next upload tries it, as the lane tells."""

    async def answer(route: Route) -> None:
        answered = await (await route.fetch()).json()
        for login in answered["logins"]:
            if login["name"] == "blast":
                login["breaker"] = {"host": "blast.example.jp", "state": state, "next_try_s": next_try_s}
        await route.fulfill(json=answered)

    async with looking(browser, staged) as looked:
        await looked.page.route("**/v1/logins", answer)
        await looked.enter()
        page, blast = looked.page, looked.page.get_by_role("article", name="blast")
        await expect(page.locator("#verdict .headline")).to_have_text(headline)
        found = page.locator("#verdict .findings li")
        await expect(found).to_have_text(
            ["blast gets no answer; the host blast.example.jp is tried again in 21 s"] if state == "open" else []
        )
        await expect(blast.locator(".mark")).to_have_text(marked)
        await expect(blast.locator(".facts")).to_contain_text(f"blast.example.jp: {told}")


async def test_the_lanes_and_their_accounts(troubled: Stage, browser: Browser) -> None:
    """Each login has its state, what it is paused for and since when, its calls, and a row for each account."""
    async with looking(browser, troubled) as looked:
        await looked.enter()
        hai = looked.page.get_by_role("article", name="hai")
        await expect(hai.locator(".mark")).to_have_text("Paused")
        await expect(hai.locator(".facts")).to_contain_text("by an operator: maintenance until noon, since ")
        await expect(hai.locator(".facts")).to_contain_text("86,400 of 86,400 left")
        await expect(hai.get_by_role("table").get_by_role("row")).to_have_count(3)
        await expect(hai.get_by_role("row").nth(1)).to_have_text(re.compile("shop.*2.*24 min.*24 min", re.DOTALL))
        blast = looked.page.get_by_role("article", name="blast")
        await expect(blast.locator(".mark")).to_have_text("Idle")
        await looked.page.get_by_label("Find").fill("campai")
        await expect(looked.page.get_by_role("article")).to_have_count(1)
        await expect(hai).to_be_visible()


async def test_batches_are_filtered_and_opened(troubled: Stage, browser: Browser) -> None:
    """The list narrows by account, state and operation; a batch tells its uploads, and its refused lines."""
    async with looking(browser, troubled) as looked:
        await looked.enter()
        page, rows = looked.page, looked.page.locator("#batches tbody tr")
        await expect(rows).to_have_count(4)
        await page.get_by_label("Account", exact=True).select_option("members")
        await expect(rows).to_have_count(2)
        await page.get_by_label("Operation").select_option("upsert")
        await expect(rows).to_have_count(1)
        await page.get_by_label("State").select_option("failed")
        await expect(page.locator("#batches")).to_contain_text("No batch fits.")
        await page.get_by_label("State").select_option("")
        await rows.get_by_role("button").click()
        batch = page.get_by_role("dialog")
        await expect(batch.get_by_role("heading", level=2)).to_have_text(re.compile("batch 2"))
        upload = batch.get_by_role("table", name="Uploads of batch 2").locator("tbody tr")
        await expect(upload).to_have_text(re.compile("1.*delivered.*200.*1 of 2 lines delivered", re.DOTALL))
        line = batch.get_by_role("table", name="Rejected lines of batch 2").locator("tbody tr")
        await expect(line).to_have_text(re.compile("3.*crm.*msg_0002.*Dead letter", re.DOTALL))


async def test_a_vendors_message_is_hidden_until_it_is_asked_for(troubled: Stage, browser: Browser) -> None:
    """A refused line shows what the vendor said only on a press, which relay records; without it nothing is asked."""
    async with looking(browser, troubled) as looked:
        await looked.enter()
        page = looked.page
        await page.get_by_role("button", name="Open batch 1").click()
        batch = page.get_by_role("dialog")
        await expect(batch.get_by_text("Dead letter")).to_be_visible()
        await looked.refresh()
        assert REFUSAL not in await page.content()
        assert await troubled.sql("select 1 from act where act = 'see_rejections'") == []
        await batch.get_by_role("button", name="Show the vendor’s messages").click()
        await expect(batch.get_by_text(REFUSAL)).to_be_visible()
        acts = await troubled.sql("select who, batch_id from act where act = 'see_rejections'")
        assert [tuple(act) for act in acts] == [("oncall", 1)]
        await batch.get_by_role("button", name="Hide the vendor’s messages").click()
        await expect(batch.get_by_text(REFUSAL)).to_have_count(0)
        assert len(await troubled.sql("select 1 from act where act = 'see_rejections'")) == 1


async def test_why_a_batch_waits(staged: Stage, browser: Browser) -> None:
    """A batch that waits for its next try says why, and what its upload came to."""
    staged.blast.faults.arm({"fault": "status", "status": 503, "times": None})
    await staged.say("created", "taro@example.jp")
    async with looking(browser, staged) as looked:
        await looked.enter()
        await looked.refresh_until(looked.page.locator("#batches .mark", has_text="waiting"))
        await looked.page.locator("#batches tbody tr", has_text="waiting").get_by_role("button").first.click()
        batch = looked.page.get_by_role("dialog")
        await expect(batch.locator(".why")).to_contain_text(re.compile("Why it waits: .*next try in|host has failed"))
        await expect(batch.get_by_role("table").locator("tbody tr").first).to_contain_text("503")


async def test_a_webhook_is_found(troubled: Stage, browser: Browser) -> None:
    """By source and id: each account's event, its state and why, its batch, and how far an opt-out is proven."""
    async with looking(browser, troubled) as looked:
        await looked.enter("reader")
        page, found = looked.page, looked.page.locator("#webhook-found")
        await page.get_by_label("Source").fill("crm")
        await page.get_by_label("Webhook id").fill("msg_0003")
        await page.get_by_label("Webhook id").press("Enter")
        await expect(found.locator("tbody tr")).to_have_count(2)
        await expect(found.locator("tbody tr").first).to_contain_text("Opt-out: confirmed by the vendor")
        await page.get_by_label("Webhook id").fill("no such/id?#")
        await page.get_by_label("Webhook id").press("Enter")
        await expect(found).to_contain_text("There is no such webhook")
        await found.get_by_role("button", name="Clear").click()
        await expect(found).to_be_empty()
        await expect(page.get_by_label("Source")).to_be_focused()


async def test_a_webhook_s_messages_are_told_when_asked_for(troubled: Stage, browser: Browser) -> None:
    """What the vendor said of a refused webhook is fetched only by the button, and that look is on record."""
    looks = "select source, message_id from act where act = 'see_rejections'"
    refused = "select e.message_id from rejection r join event e on (e.account, e.id) = (r.account, r.event_id) limit 1"
    async with looking(browser, troubled) as looked:
        await looked.enter("oncall")
        page, found = looked.page, looked.page.locator("#webhook-found")
        (webhook,) = await troubled.sql(refused)
        await page.get_by_label("Source").fill("crm")
        await page.get_by_label("Webhook id").fill(webhook["message_id"])
        await page.get_by_label("Webhook id").press("Enter")
        await expect(found.get_by_role("button", name="Show the vendor’s messages")).to_be_visible()
        assert REFUSAL not in await found.inner_text()
        assert await troubled.sql(looks) == []
        await found.get_by_role("button", name="Show the vendor’s messages").click()
        await expect(found.get_by_text(REFUSAL).first).to_be_visible()
        assert [tuple(act) for act in await troubled.sql(looks)] == [("crm", webhook["message_id"])]


async def test_a_customer_is_found_and_forgotten(troubled: Stage, browser: Browser) -> None:
    """By address, in a body: how the customer stands, and what happened; cleared on demand, and recorded."""
    async with looking(browser, troubled) as looked:
        await looked.enter("auditor")
        page, found = looked.page, looked.page.locator("#customer-found")
        await page.get_by_label("E-mail address").fill("Hanako@example.jp")
        await page.get_by_label("E-mail address").press("Enter")
        await expect(found.get_by_role("table", name="How the customer stands").locator("tbody tr")).to_have_count(2)
        assert REFUSAL not in await found.inner_text()
        await found.get_by_role("button", name="Show the vendor’s messages").click()
        await expect(found.get_by_text(REFUSAL)).to_have_count(2)
        await found.get_by_role("button", name="Clear").click()
        await expect(found).to_be_empty()
        assert "hanako" not in (await page.content()).lower()
        assert await page.get_by_label("E-mail address").input_value() == ""
        assert not any("hanako" in request.url.lower() for request in looked.asked)
        assert [act["who"] for act in await troubled.sql("select who from act where act = 'search'")] == ["auditor"]


async def test_the_last_hours_are_drawn_and_told(troubled: Stage, browser: Browser) -> None:
    """The chart's sums, each bin by keyboard, and the same as a table, which has every bin."""
    async with looking(browser, troubled) as looked:
        await looked.enter("reader")
        page, chart = looked.page, looked.page.locator("#chart")
        await expect(chart.locator(".legend li")).to_have_text(
            ["Received 8", "Delivered 4", "Accepted 0", "Rejected 2"]
        )
        await expect(chart.get_by_role("img", name="The last hours")).to_be_visible()
        bins = await chart.locator("rect.touch").count()
        time = chart.get_by_label("Time")
        await time.focus()
        await time.press("Home")
        await expect(chart.locator("output")).to_have_text(
            re.compile("0 received, 0 delivered, 0 accepted, 0 rejected$")
        )
        first = await chart.locator("output").inner_text()
        await time.press("ArrowRight")
        await expect(chart.locator("output")).not_to_have_text(first)
        await chart.get_by_text("As a table").click()
        await expect(chart.locator("tbody tr")).to_have_count(bins)
        cells = [int(text) for text in await chart.locator("tbody td.number").all_inner_texts()]
        assert [sum(cells[column::4]) for column in range(4)] == [8, 4, 0, 2]
        await page.get_by_label("Period").select_option("1")
        await expect(chart.locator("rect.touch")).not_to_have_count(bins)


async def test_what_is_only_accepted_is_not_told_as_delivered(staged: Stage, browser: Browser) -> None:
    """配配メール takes files without a word about their lines: a series of its own, told apart by its shape as well."""
    await staged.say("created", "taro@example.jp", source="store")
    await staged.say("created", "hanako@example.jp")
    await staged.settled()
    async with looking(browser, staged, locale="ja-JP") as looked:
        await looked.enter()
        page, chart = looked.page, looked.page.locator("#chart")
        await expect(chart.locator(".legend li")).to_have_text(["受信 3", "反映 2", "受付済み 1", "拒否 0"])
        await page.get_by_role("button", name="English").click()
        await expect(chart.locator(".legend li")).to_have_text(
            ["Received 3", "Delivered 2", "Accepted 1", "Rejected 0"]
        )
        told = re.compile("delivered, 1 accepted, 0 rejected$")
        bin_ = chart.locator("rect.touch", has=page.locator("title", has_text=told))
        await expect(bin_).to_have_count(1)
        await bin_.click()
        await expect(chart.locator("output")).to_have_text(told)
        await expect(chart.get_by_label("Time")).to_have_attribute("aria-valuetext", told)
        drawn = "(bars) => bars.map((bar) => getComputedStyle(bar).strokeDasharray)"
        assert await chart.locator("svg rect.accepted").evaluate_all(drawn) == ["3px, 2px"]
        assert set(await chart.locator("svg rect.delivered").evaluate_all(drawn)) == {"none"}
        await chart.get_by_text("As a table").click()
        await expect(chart.locator("tbody tr")).to_have_count(await chart.locator("rect.touch").count())
        cells = [int(text) for text in await chart.locator("tbody td.number").all_inner_texts()]
        assert [sum(cells[column::4]) for column in range(4)] == [3, 2, 1, 0]


async def test_the_audit_record(troubled: Stage, browser: Browser) -> None:
    """Who, when, what and on what, the newest first."""
    async with looking(browser, troubled) as looked:
        await looked.enter("reader")
        row = looked.page.locator("#acts tbody tr").first
        await expect(row).to_have_text(re.compile("oncall API.*pause.*hai.*maintenance until noon", re.DOTALL))


async def test_times_are_the_readers(troubled: Stage, browser: Browser) -> None:
    """Moments are in the browser's zone and language, with the exact moment in UTC as their title."""
    at = (await troubled.sql("select to_char(at at time zone 'Asia/Tokyo', 'HH24:MI:SS') as at from act"))[0]["at"]
    async with looking(browser, troubled) as looked:
        await looked.enter("reader")
        time = looked.page.locator("#acts time").first
        await expect(time).to_have_text(at)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", await time.get_attribute("title") or "")
