"""Commands quote what is wrong, which may be a secret in the wrong place or a customer: they say where, and not what.

The fixture `watched` searches everything that a test has made relay say, and fails where it finds a canary.
"""

import asyncio
import json
from pathlib import Path
from typing import Any

from tests.acceptance.processes import until
from tests.acceptance.settings_file import account, bme, haihai, toml
from tests.acceptance.test_canary import CRM, NOBODY, started
from tests.acceptance.watched import (
    API_TOKENS,
    CUSTOMER,
    DATABASE_PASSWORD,
    EMAIL,
    KEY,
    SECRETS,
    UNMISTAKABLE,
    VENDOR_TOKEN,
    Watched,
    signed,
    webhook,
)
from tests.acceptance.wire import request

PASSWORD = SECRETS["VENDOR_PASSWORD"]

WRONG_LOGINS: dict[str, dict[str, Any]] = {
    "inline": {**bme(NOBODY, ""), "password": [PASSWORD], "api_key": {"value": SECRETS["VENDOR_API_KEY"]}},
    "misplaced": {**bme(NOBODY, "user"), "password": {"env": PASSWORD}, "api_key": {"file": SECRETS["VENDOR_API_KEY"]}},
    "url": bme(f"https://user:{PASSWORD[:8]}@api.example.com/rest/{VENDOR_TOKEN}?x={KEY}", "user"),
    "numbers": {**bme(NOBODY, "user"), "attempts_max": PASSWORD, "rows_max": [PASSWORD], "file_field": {KEY: KEY}},
    "hai": {**haihai(NOBODY, 1), "aid": PASSWORD, "server": PASSWORD, "extra_fields": [SECRETS["EXTRA_FIELD"]]},
    "hai2": {**haihai(NOBODY, 1), "transport_password": 7, "extra_fields": {"x": {"file": SECRETS["EXTRA_FIELD"]}}},
    "tag": {**bme(NOBODY, "user"), "vendor": PASSWORD},
}
WRONG_SOURCES: dict[str, dict[str, Any]] = {
    "whsec": {"signing_secrets": [f"whsec_{KEY}", {"env": SECRETS["CRM_RAW_SECRET"]}], "accounts": ["news"]},
    "tokens": {"bearer_tokens": SECRETS["CRM_TOKEN"], "accounts": [7]},
    "order": {**CRM, "order_by": EMAIL, "networks": [EMAIL], "webhooks_per_s": SECRETS["CRM_TOKEN"]},
    "shop": {**CRM, "body_signature": {"header": "X", "secrets": [{"env": SECRETS["SHOP_SECRET"]}], "algorithm": KEY}},
}
TOKEN = API_TOKENS["watcher"][0]

DATABASE_URLS = (
    f"postgresql://relay:{DATABASE_PASSWORD}@127.0.0.1:9/relay",
    f"postgresql://relay:x@127.0.0.1:9/relay?sslmode={DATABASE_PASSWORD[:6]}&passfile={DATABASE_PASSWORD[:6]}",
    f"postgresql://relay@{DATABASE_PASSWORD[-8:].replace(' ', '')}.invalid/relay",
    DATABASE_PASSWORD,
)


async def test_settings_with_secrets_in_the_wrong_places(watched: Watched) -> None:
    """Inline where a table should be, as the name of a variable or file, in a URL, as a number, as a key's value."""
    watched.write(
        WRONG_LOGINS, {"news": account("inline", mode=KEY), "old": account("url")}, {**WRONG_SOURCES, "crm": CRM}
    )
    with watched.config.open("a", encoding="utf-8") as file:
        file.write(toml({"x": 1}).strip("{} ").replace("x", "y") + "\n")
    settings = watched.config.read_text(encoding="utf-8")
    texts = {
        "wrong values": settings.replace(next(iter(API_TOKENS.values()))[0], TOKEN),
        "no TOML": settings + f"\npassword = {KEY}\n",
        "no end of a string": settings + f'\npassword = "{KEY}\n',
        "another encoding": settings + f"\n# {UNMISTAKABLE}\n",
    }
    for what, text in texts.items():
        watched.config.write_bytes(text.encode("cp932" if what == "another encoding" else "utf-8"))
        commands = [("check", "--offline"), ("serve",)] if what == "wrong values" else [("check",)]
        ended = await asyncio.gather(*(watched.run(f"{' '.join(words)}, {what}", *words) for words in commands))
        assert all(done.code == 2 and done.err for done in ended)


async def test_database_urls_with_a_password_that_is_not_escaped(watched: Watched) -> None:
    """The library that takes a URL apart quotes half of a password where it fails."""
    watched.write({"blast": bme(NOBODY, "user")}, {"news": account("blast")}, {"crm": CRM})
    envs = [watched.env(RELAY_DATABASE_URL=url) for url in DATABASE_URLS]
    ended = await asyncio.gather(*(watched.run("migrate", "migrate", env=env) for env in envs))
    for done in ended:
        assert done.code in (1, 2)
        assert "Traceback" not in done.err


async def test_lists_with_wrong_lines(watched: Watched, tmp_path: Path) -> None:
    """Lines that are no CSV or JSON, that relay refuses, that have no header: told by number, with what is expected."""
    relay = await started(watched)
    rows = [{"email": f"{EMAIL}@", "name": "金糸雀子"}, {"email": EMAIL, "name": "x" * 5000 + "金糸雀子"}, CUSTOMER]
    lists = {
        "customers.ndjson": "\n".join(
            [*(json.dumps(row) for row in rows), UNMISTAKABLE, json.dumps(CUSTOMER)[:-9], "[]"]
        ),
        "customers.csv": f'email,name\n{EMAIL},金糸雀子\n{EMAIL}\n"{EMAIL}"x,金糸雀子\n{UNMISTAKABLE},"金糸雀子',
        "headless.csv": f"{EMAIL},金糸雀子,金糸雀子\n{EMAIL},金糸雀子,鸚鵡谷\n",
        "grouped.csv": f"{EMAIL},{EMAIL}.x,金糸雀子\n",
        "taken.csv": f"email,name\n{EMAIL},金糸雀子 𠮷\n",
        "utf16.csv": UNMISTAKABLE,
    }
    for name, text in lists.items():
        (tmp_path / name).write_bytes(text.encode("utf-16" if name == "utf16.csv" else "utf-8"))
    taken = ("send", "--source", "crm", "--file", tmp_path / "taken.csv", "--url", relay.url)
    token = ("--token-env", "CRM_TOKEN")
    wrong = [
        (*taken, "--secret-env", "WRONG"),
        (*taken, "--secret-env", "VENDOR_PASSWORD"),
        (*taken, "--token-env", SECRETS["CRM_TOKEN"]),
        (*taken, *token, "--url", f"http://user:{KEY}@127.0.0.1:9"),
        (*taken, *token, "--id-prefix", f"金糸雀子{KEY}"),
        *((*taken, *token, "--file", tmp_path / name) for name in lists if name != "taken.csv"),
    ]
    reports = [("--report", tmp_path / f"report {number}") for number in range(len(wrong))]
    env = watched.env(WRONG=f"whsec_{KEY}")
    ended = await asyncio.gather(
        watched.run("send what is taken", *taken, *token),
        *(watched.run(f"send, {n}", *words, *reports[n], env=env) for n, words in enumerate(wrong)),
    )
    assert [done.code != 0 for done in ended] == [False] + [True] * len(wrong)
    watched.heard += [("a report", path.read_bytes()) for _, path in reports if path.exists()]
    await watched.look(relay)
    assert await relay.stop() == 0


async def test_commands_for_operators(watched: Watched) -> None:
    """Whatever they are asked for, and whatever they tell of customers' events, without being asked for customers."""
    relay = await started(watched)
    for message_id in ("created", "deleted"):
        body = webhook(f"customer.{message_id}")
        sent = request("POST", "/v1/webhooks/crm", signed(message_id, body), body)
        assert (await watched.say("a webhook", relay.url, sent)).status == 202

    async def tried() -> bool:
        return bool(await watched.value("select count(*) from upload where ended_at is not null"))

    await until("a batch has been tried", tried)
    batch = str(await watched.value("select min(batch_id) from upload"))
    insert = (
        "insert into rejection (account, batch_id, line, event_id, message) select account, id, 2, 1, $1 from batch"
    )
    await watched.database.execute(insert, UNMISTAKABLE)
    looks = [
        ("lanes",),
        ("batches", "--all"),
        ("batch", batch),
        ("batch", batch, "--rejections"),
        ("webhook", "crm", "created"),
    ]
    acts = [("pause", "blast", "--reason", "maintenance"), ("flush", "blast"), ("resume", "blast"), ("retry", batch)]
    wrong = [
        ("batches", "--account", EMAIL),
        ("batch", EMAIL),
        ("webhook", EMAIL, EMAIL),
        ("webhook", "crm", UNMISTAKABLE),
        ("pause", EMAIL),
        ("pause", "blast", "--reason", f"{UNMISTAKABLE}\n"),
        ("flush", SECRETS["CRM_TOKEN"]),
        ("dismiss", EMAIL),
    ]
    good = [*looks, *((*words, "--json") for words in looks), *acts]
    ended = await asyncio.gather(*(watched.run(" ".join(words), *words) for words in good))
    assert {done.code for done in ended} == {0}
    ended = await asyncio.gather(*(watched.run(f"{words[0]} of a canary", *words) for words in wrong))
    assert {done.code for done in ended} <= {1, 2}
    named = await watched.run("by a canary", "dismiss", batch, env=watched.env(RELAY_OPERATOR=UNMISTAKABLE * 3))
    assert named.code == 2
    await watched.look(relay)
    assert await relay.stop() == 0
