"""What relay uploads, read by PHP with its own means: form, encoding and CSV, by code that relay has no part in."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import unicodedata
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from relay import csvline
from relay.batches import Accepted, Delivered
from relay.client import Client, UploadJob
from relay.columns import Plan
from relay.events import Operation
from relay.metrics import Metrics
from relay.settings import Account, Login
from relay.spool import Spool
from relay.vendors import vendor_of
from tests.unit.vendors.made import account, bme_login, haihai_login

RECEIVER = Path(__file__).with_name("receiver.php")
PHP = shutil.which("php")


@cache
def _missing() -> str:
    if PHP is None:
        return "php is not installed here (as root: make packages)"
    probe = subprocess.run([PHP, "-m"], capture_output=True, text=True, check=True)  # noqa: S603 - PHP's own path
    return "" if "mbstring" in probe.stdout.split() else "php-mbstring is not installed here (as root: make packages)"


pytestmark = pytest.mark.skipif(bool(_missing()), reason=_missing())


@asynccontextmanager
async def php_receiver(folder: Path) -> AsyncIterator[str]:
    """Run PHP's own web server; give its URL."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        place = "{}:{}".format(*free.getsockname())
    limits = ("-d", "upload_max_filesize=64M", "-d", "post_max_size=64M", "-d", "memory_limit=512M")
    process = await asyncio.create_subprocess_exec(
        str(PHP),
        *limits,
        *("-d", "max_input_vars=100", "-S", place, str(RECEIVER)),
        env={**os.environ, "RELAY_TEST_FOLDER": str(folder)},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(20):
            while b"started" not in (said := await process.stderr.readline()):
                assert said, "PHP's server did not start"
            yield f"http://{place}"
    finally:
        process.send_signal(signal.SIGTERM)
        await process.communicate()


async def read_by_php(
    tmp_path: Path,
    make: Callable[..., Login],
    operation: Operation,
    customers: Sequence[dict[str, str]],
) -> tuple[object, Login, Account, dict[str, Any]]:
    """Render customers as the door does, upload them as a lane does, and give back what PHP read."""
    spool = Spool(tmp_path)
    async with php_receiver(tmp_path) as url, Client(Metrics(), spool) as client:
        login = make(base_url=url)
        to = account(login)
        columns = vendor_of(login).columns(login, to, operation)
        plan = Plan(columns, to.address)

        async def lines() -> AsyncIterator[bytes]:
            yield csvline.record(list(columns))
            for data in customers:
                yield csvline.record(plan.render(data, to.unencodable).cells)

        file = await spool.write("batch-1.csv", lines(), len(customers))
        uploaded = await client.upload(UploadJob(login, to, operation, file, lambda: 60.0))
    return uploaded.outcome, login, to, json.loads((tmp_path / "read.json").read_text("utf-8"))


def sendable() -> list[str]:
    """Every character that relay sends as it is: it has a CP932 form, and folding leaves it alone."""
    planes = (chr(code) for code in range(0x11_0000) if not 0xD800 <= code < 0xE000)
    return [
        c for c in planes if not csvline.unencodable(c) and csvline.fold(c) == c and unicodedata.category(c) != "Cc"
    ]


async def test_every_character_comes_back_as_it_was_sent(tmp_path: Path) -> None:
    """Each of the 7,000 and more in a cell of its own, between letters, at both ends, before a quote and a comma."""
    characters = sendable()
    assert len(characters) > 7_000
    customers = [{"email": f"c{number}@example.jp", "name": f'{c}x{c}"{c},{c}'} for number, c in enumerate(characters)]
    outcome, _, _, read = await read_by_php(tmp_path, bme_login, Operation.UPSERT, customers)
    assert isinstance(outcome, Delivered)
    assert read["valid"]
    header, *records = read["records"]
    assert header == ["E-Mail", "氏名", "生年月日"]
    wrong = [
        (c, got)
        for c, sent, got in zip(characters, customers, records, strict=True)
        if got != [sent["email"], sent["name"], ""]
    ]
    assert wrong == []


HARD = [
    "表ソ能十予申",  # each ends in a byte 5C
    "髙﨑①㈱～－",  # NEC's and IBM's characters, and what plain Shift_JIS writes otherwise
    "ﾊﾝｶｸ ｶﾅ",
    'says "hello", twice ""',
    "ends in a backslash \\",
    " 全角　空白 ",
    "=1+1",
]


@pytest.mark.parametrize("make", [haihai_login, bme_login], ids=["haihai", "bme"])
@pytest.mark.parametrize("operation", [Operation.UPSERT, Operation.DELETE, Operation.STOP])
async def test_the_form_is_what_php_expects(tmp_path: Path, make: Callable[..., Login], operation: Operation) -> None:
    """`$_FILES` holds the file under its name, `$_POST` every text part; the records are those that were rendered."""
    customers = [{"email": f"c{number}@example.jp", "name": name} for number, name in enumerate(HARD)]
    outcome, login, to, read = await read_by_php(tmp_path, make, operation, customers)
    assert isinstance(outcome, Delivered | Accepted)
    form = vendor_of(login).upload_form(login, to, operation, "php-token" if vendor_of(login).needs_token else None)
    assert (read["error"], read["part"], read["name"]) == (0, form.file_field, form.file_name)
    assert read["fields"] == dict(form.fields)
    assert read["path"].endswith(form.path)
    columns = vendor_of(login).columns(login, to, operation)
    cells = {"email": [c["email"] for c in customers], "name": [csvline.fold(c["name"]) for c in customers]}
    wanted = [cells.get(column.path, [column.constant or ""] * len(customers)) for column in columns.values()]
    assert read["records"] == [list(columns), *map(list, zip(*wanted, strict=True))]
