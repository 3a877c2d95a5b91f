"""Whatever a vendor answers, and whatever becomes of an upload: nothing of it that belongs to a customer is kept.

The fixture `watched` searches everything that a test has made relay say, and fails where it finds a canary.
"""

import json
import shutil
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

from relay.demo.sim_bme import BmeContract, BmeSim
from relay.demo.sim_haihai import HaihaiContract, HaihaiSim
from tests.acceptance.canary_requests import NDJSON
from tests.acceptance.processes import Relay, until
from tests.acceptance.settings_file import account, bme, haihai
from tests.acceptance.watched import (
    API_TOKENS,
    CUSTOMER,
    DOMAIN,
    EMAIL,
    LOCAL,
    SECRETS,
    UNMISTAKABLE,
    VENDOR_TOKEN,
    Watched,
)
from tests.acceptance.wire import request
from tests.integration.loopback import Connection, serving

HEADERS = {"氏名": "name", "フリガナ": "kana", "英名": "latin", "電話": "phone", "住所": "address.street"}
SAID = f"Failure_Invalid name Kanariyako {UNMISTAKABLE} Failure_Kanariyako {VENDOR_TOKEN}"
COUNTED = json.dumps(
    {
        "success": "0",
        "failure": "6",
        "details": {
            "detail": [{"lineNumber": n, "content": UNMISTAKABLE, "message": UNMISTAKABLE} for n in range(2, 8)]
        },
    },
    ensure_ascii=False,
)
ROWS = 6

BME: Mapping[str, Mapping[str, Any]] = {
    "good": {},
    "partial": {"fault": "reject_lines", "addresses": [EMAIL], "message": UNMISTAKABLE},
    "all": {"fault": "reject_lines", "every": 1, "message": f"{DOMAIN} Kanariyako"},
    "headers": {"fault": "reject_lines", "every": 1, "message": f"項目名 {EMAIL} 金糸雀子"},
    "xml": {"fault": "xml"},
    "ok-nonsense": {"fault": "status", "status": 200, "body": SAID},
    "ok-counted": {"fault": "status", "status": 200, "body": COUNTED},
    "ok-token": {"fault": "status", "status": 200, "body": json.dumps({"accessToken": UNMISTAKABLE})},
    "html": {"fault": "html", "body": f"<html><body>{UNMISTAKABLE}</body></html>"},
    "html-ok": {"fault": "html", "status": 200, "body": f"<html><body>{SAID}</body></html>"},
    **{
        f"status-{n}": {"fault": "status", "status": n, "body": SAID}
        for n in (301, 400, 401, 403, 404, 409, 413, 500, 503)
    },
    "later": {"fault": "retry_after", "status": 429, "body": SAID, "seconds": 60},
    "busy": {"fault": "busy", "body": f"Failure_Request during processing {UNMISTAKABLE}"},
    "refused": {"fault": "refuse_file", "address": EMAIL, "body": f"Failure_Data is incorrect {UNMISTAKABLE}"},
    "expired": {"fault": "expired_token", "body": SAID},
    "large": {"fault": "too_large", "n_bytes": 10},
    "counts": {"fault": "wrong_counts"},
    "lines": {"fault": "wrong_lines"},
    "lost": {"fault": "lost_reply"},
    "reset": {"fault": "reset_during_body", "n_bytes": 400},
    "reset-after": {"fault": "reset_after_body"},
    "hang": {"fault": "hang"},
    "login-401": {"fault": "status", "on": "login", "status": 401, "body": SAID},
    "login-500": {"fault": "html", "on": "login", "status": 500, "body": SAID},
    "login-ok": {"fault": "status", "on": "login", "status": 200, "body": SAID},
    "login-reset": {"fault": "reset_after_body", "on": "login"},
    "usage-ok": {"fault": "status", "on": "usage", "status": 200, "body": SAID},
    "usage-csv": {"fault": "status", "on": "usage", "status": 200, "body": f"状態,E-Mail\r\n配信中,{EMAIL}\r\n"},
    "usage-401": {"fault": "status", "on": "usage", "status": 401, "body": SAID, "times": 2},
    "usage-html": {"fault": "html", "on": "usage", "body": SAID},
}
"""What a simulated blastmail is told to do, by login."""

HAIHAI: Mapping[str, Mapping[str, Any]] = {
    "hai-good": {},
    "hai-code": {"fault": "code", "code": 81401, "body": f"81401 {UNMISTAKABLE}"},
    "hai-unknown": {"fault": "status", "status": 200, "body": f"81499 {SAID}"},
    "hai-400": {"fault": "status", "status": 400, "body": SAID},
    "hai-html": {"fault": "html", "body": SAID},
}

_TOLD = UNMISTAKABLE.encode()
RAW: Mapping[str, bytes] = {
    "raw-no-http": _TOLD,
    "raw-status": b"HTTP/1.1 200 " + _TOLD + b"\r\nContent-Length: 0\r\n\r\n",
    "raw-code": b"HTTP/1.1 " + _TOLD + b"\r\n\r\n",
    "raw-header": b"HTTP/1.1 200 OK\r\nX-" + _TOLD + b": x\r\nContent-Length: 0\r\n\r\n",
    "raw-type": b"HTTP/1.1 200 OK\r\nContent-Type: " + EMAIL.encode() + b"\r\nContent-Length: 2\r\n\r\n{}",
    "raw-charset": b"HTTP/1.1 400 x\r\nContent-Type: text/plain; charset="
    + _TOLD[:30]
    + b"\r\nContent-Length: 2\r\n\r\nxx",
    "raw-length": b"HTTP/1.1 200 OK\r\nContent-Length: " + EMAIL.encode() + b"\r\n\r\n",
    "raw-chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + EMAIL.encode() + b"\r\n",
    "raw-encoding": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 9\r\n\r\n" + EMAIL.encode()[:9],
    "raw-cookie": b"HTTP/1.1 200 OK\r\nSet-Cookie: " + EMAIL.encode() + b' (x)=1; "\r\nContent-Length: 0\r\n\r\n',
    "raw-location": b"HTTP/1.1 302 x\r\nLocation: http://" + EMAIL.encode() + b":x/\r\nContent-Length: 0\r\n\r\n",
    "raw-retry": b"HTTP/1.1 429 x\r\nRetry-After: " + EMAIL.encode() + b"\r\nContent-Length: 0\r\n\r\n",
    "raw-cut": b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n" + _TOLD,
}
"""What somebody answers who is no vendor."""


class Vendors:
    """A contract for each way in which an upload may end."""

    def __init__(self) -> None:
        self.bme = BmeSim(
            *(
                BmeContract(
                    name,
                    SECRETS["VENDOR_PASSWORD"],
                    SECRETS["VENDOR_API_KEY"],
                    columns=tuple(HEADERS),
                    token_begins=VENDOR_TOKEN,
                )
                for name in BME
            )
        )
        columns = ("メールアドレス", *HEADERS)
        extra = {"extra": SECRETS["EXTRA_FIELD"]}
        self.haihai = HaihaiSim(
            *(
                HaihaiContract(aid, "user", SECRETS["TRANSPORT_PASSWORD"], columns=columns, extra_fields=extra)
                for aid in range(1, len(HAIHAI) + 1)
            )
        )

    async def serve(self, stack: AsyncExitStack, watched: Watched) -> None:
        """Serve them, and write relay's settings: a login and an account for each, and one source for all."""
        await stack.enter_async_context(self.bme.serve())
        haihai_url = await stack.enter_async_context(self.haihai.serve())
        raw = await stack.enter_async_context(serving(_answer_raw))
        secrets = {"password": {"env": "VENDOR_PASSWORD"}, "api_key": {"env": "VENDOR_API_KEY"}}
        transport = {
            "transport_password": {"env": "TRANSPORT_PASSWORD"},
            "extra_fields": {"extra": {"env": "EXTRA_FIELD"}},
        }
        # the check of columns comes before any upload, and would meet what an upload's login is to meet
        unchecked = {name for name in BME if name.startswith("login-")}
        checks = {name: "off" if name in unchecked else "tell" for name in BME}
        logins = {
            name: bme(self.bme.base_url, name, **secrets, upload_timeout_s=2, template_check=checks[name])
            for name in BME
        }
        logins |= {name: haihai(haihai_url, aid, **transport) for aid, name in enumerate(HAIHAI, 1)}
        logins |= {name: haihai(f"{raw.url}/{name}", 1, **transport, upload_timeout_s=2) for name in RAW}
        accounts = {
            name: account(name, header, columns={header: "email", **HEADERS})
            for name in logins
            for header in ["E-Mail" if name in BME else "メールアドレス"]
        }
        crm = {"bearer_tokens": [{"env": "CRM_TOKEN"}], "accounts": list(accounts)}
        watched.write(logins, accounts, {"crm": crm})

    def go_wrong(self) -> None:
        """Tell each of them how."""
        for name, fault in BME.items():
            if fault:
                self.bme.faults.add(**fault, contract=name)
        for aid, fault in enumerate(HAIHAI.values(), 1):
            if fault:
                self.haihai.faults.add(**fault, contract=str(aid))


async def _answer_raw(connection: Connection) -> None:
    await connection.read()
    connection.writer.write(RAW[connection.path.split("/")[1]])
    await connection.writer.drain()


async def post_customers(watched: Watched, relay: Relay, kind: str) -> None:
    """Post the customer and some more who are nearly called the same."""
    told = [
        {
            "id": f"{kind}-{n}",
            "type": kind,
            "data": {**CUSTOMER, "email": f"{LOCAL}+{n}@{DOMAIN}.example.jp" if n else EMAIL},
        }
        for n in range(ROWS)
    ]
    body = "\n".join(json.dumps(one) for one in told).encode()
    answer = await watched.say("many webhooks", relay.url, request("POST", "/v1/webhooks/crm/batch", NDJSON, body))
    assert answer.status == 202, answer.raw


async def test_what_vendors_answer(watched: Watched) -> None:
    """Successes, refused lines that are repeated, errors of every kind, pages, broken HTTP, time-outs and resets."""
    async with AsyncExitStack() as stack:
        vendors = Vendors()
        await vendors.serve(stack, watched)
        vendors.go_wrong()
        relay = watched.relay()
        await relay.start()
        await post_customers(watched, relay, "customer.created")
        logins = {*BME, *HAIHAI, *RAW}

        async def all_have_ended() -> bool:
            rows = await watched.rows("select distinct account from upload where outcome is not null")
            return {row["account"] for row in rows} == logins

        await until("an upload of each has ended", all_have_ended)
        outcomes = {row["outcome"] for row in await watched.rows("select outcome from upload")}
        assert len(outcomes - {None}) >= 9, outcomes
        assert await watched.value("select count(*) from rejection where message like '%' || $1 || '%'", DOMAIN)
        read = {"Authorization": f"Bearer {API_TOKENS['watcher'][0]}"}
        for path in ("/v1/batches?limit=500", "/v1/logins", "/v1/accounts"):
            await watched.say(path, relay.url, request("GET", path, read))
        for row in await watched.rows("select id from batch"):
            for path in (f"/v1/batches/{row['id']}", f"/v1/batches/{row['id']}/rejections"):
                await watched.say(path, relay.url, request("GET", path, read))
        for n in range(ROWS):
            path = f"/v1/webhooks/crm/customer.created-{n}"
            await watched.say(path, relay.url, request("GET", path, read))
        await watched.say("/metrics", relay.ops_url, request("GET", "/metrics"))
        await watched.look(relay)
        assert await relay.stop() == 0


async def test_uploads_that_are_cut_short(watched: Watched) -> None:
    """The spool goes away, relay is killed in the middle of an upload, started again, and stopped in the next."""
    async with AsyncExitStack() as stack:
        vendors = Vendors()
        await vendors.serve(stack, watched)
        relay = watched.relay()
        await relay.start()
        spool = watched.directory / "relay-spool"
        shutil.rmtree(spool)
        spool.write_text("no folder", encoding="utf-8")
        await post_customers(watched, relay, "customer.created")
        await relay.says("round_failed")
        vendors.bme.faults.add(fault="hang", contract="good", times=None)
        spool.unlink()

        async def hangs() -> bool:
            return any(upload.fault == "hang" and upload.status is None for upload in vendors.bme.record.uploads)

        await until("an upload hangs", hangs)
        await watched.look(relay)
        await relay.kill()
        assert list(spool.iterdir())
        await watched.look(relay)
        await relay.start()
        await post_customers(watched, relay, "customer.stopped")
        await until("it hangs again", hangs)
        assert await relay.stop() == 0
        await watched.look(relay)
