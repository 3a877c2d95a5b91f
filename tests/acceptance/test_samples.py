"""The sample customers of the vendors' own documents, sent with `relay send`, arrive in all three reader lists."""

import csv
import io
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from relay.demo.sim_bme import BmeContract, BmeSim
from relay.demo.sim_haihai import HaihaiContract, HaihaiSim
from relay.demo.sim_server import Sim
from tests.acceptance.harness import World
from tests.acceptance.processes import Done, Relay
from tests.acceptance.settings_file import PASSWORD, bme, haihai

FIELDS = ("email", "name", "kana", "company", "company_kana", "errors")

HAIHAI_COLUMNS = {
    "メールアドレス": "email",
    "お名前": "name",
    "お名前(フリガナ)": "kana",
    "会社名": "company",
    "会社名(フリガナ)": "company_kana",
}
"""The header of the table in 配配メール's API document."""

BME_COLUMNS = {
    "エラーカウント": {"path": "errors", "type": "number"},
    "E-Mail": "email",
    "氏名": "name",
    "フリガナ": "kana",
    "会社名": "company",
}

SAMPLES = (
    ("11@example.jp", "山田太郎", "ヤマダタロウ", "株式会社ラクス", "ラクス", ""),
    ("22@example.jp", "山田花子", "ヤマダハナコ", "株式会社配配メール", "ハイハイメール", ""),
    ("sample@example.jp", "", "", "", "", "0"),
)
"""The two rows of that table, and `"配信中","0","sample@…"` of the other two: a reader with an error count of 0, who is
mailable because new. Only the addresses are others: nobody lives at example.jp."""


def customers_csv(directory: Path, encoding: str, *more: tuple[str, ...]) -> Path:
    """Write the samples and more rows as a CSV file with a header of field names."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([FIELDS, *SAMPLES, *more])
    path = directory / f"customers-{encoding}.csv"
    path.write_bytes(text.getvalue().encode(encoding))
    return path


class Vendors:
    """The three vendors, each with one contract that has the documents' columns."""

    def __init__(self) -> None:
        columns = tuple(header for header in BME_COLUMNS if header not in ("E-Mail", "エラーカウント"))
        self.haihai = HaihaiSim(HaihaiContract(1, "user", PASSWORD, columns=tuple(HAIHAI_COLUMNS)))
        self.blastmail = BmeSim(BmeContract("user", PASSWORD, PASSWORD, columns=columns))
        self.blaynmail = BmeSim(BmeContract("user", PASSWORD, PASSWORD, columns=columns), brand="blaynmail")

    @property
    def all(self) -> tuple[Sim, ...]:
        """All three."""
        return self.haihai, self.blastmail, self.blaynmail

    async def serve(self, stack: AsyncExitStack, world: World) -> None:
        """Serve them and write relay's settings."""
        for sim in self.all:
            await stack.enter_async_context(sim.serve())
        quick = {"flush_after_s": 0.3, "operations": {"customer.banned": "stop"}}
        world.write_settings(
            {
                "haihai": haihai(self.haihai.url, 1),
                "blastmail": bme(self.blastmail.base_url, "user"),
                "blaynmail": bme(self.blaynmail.base_url, "user", vendor="blaynmail"),
            },
            {
                "haihai": {"login": "haihai", "columns": HAIHAI_COLUMNS, **quick},
                "blastmail": {"login": "blastmail", "columns": BME_COLUMNS, **quick},
                "blaynmail": {"login": "blaynmail", "columns": BME_COLUMNS, **quick},
            },
        )

    def uploads(self) -> list[int]:
        """Return how many uploads each vendor has seen."""
        return [sim.record.seen for sim in self.all]


async def send(world: World, relay: Relay, file: Path, *more: str) -> Done:
    """Run `relay send` for a file."""
    signing = ("--secret-env", "SIGNING_SECRET")
    return await world.command("send", "--source", "crm", "--url", relay.url, "--file", file, *signing, *more)


@pytest.mark.parametrize("encoding", ["utf-8", "cp932"])
async def test_the_documents_samples_arrive_at_all_three_vendors(world: World, encoding: str) -> None:
    """A CSV of the samples, in either encoding, is in all reader lists; sending it again uploads nothing."""
    async with AsyncExitStack() as stack:
        vendors = Vendors()
        await vendors.serve(stack, world)
        relay = world.relay()
        await relay.start()
        file = customers_csv(world.directory, encoding)
        first = await send(world, relay, file)
        assert first.code == 0, first
        assert "3 accepted (9 events), 0 known already, 0 refused" in first.out
        await world.settled(*vendors.all)

        for address, name, kana, company, company_kana, _ in SAMPLES:
            reader = vendors.haihai.readers(1)[address]
            cells = (address, name, kana, company, company_kana)
            assert (reader.mailable, reader.fields) == (True, dict(zip(HAIHAI_COLUMNS, cells, strict=True)))
            for sim in (vendors.blastmail, vendors.blaynmail):
                seen = sim.readers("user")[address]
                assert (seen.mailable, seen.state) == (True, "配信中")
                assert (seen.fields["氏名"], seen.fields["フリガナ"], seen.fields["会社名"]) == (name, kana, company)
        for sim in (vendors.blastmail, vendors.blaynmail):
            assert sim.readers("user")["sample@example.jp"].fields["エラーカウント"] == "0"
        assert [len(readers) for sim in vendors.all for _, _, readers in sim.lists()] == [3, 3, 3]

        uploads = vendors.uploads()
        second = await send(world, relay, file)
        assert second.code == 0, second
        assert "0 accepted (0 events), 3 known already, 0 refused" in second.out
        await world.settled(*vendors.all)
        assert vendors.uploads() == uploads
        assert await relay.stop() == 0


async def test_refused_lines_are_named_and_the_others_arrive(world: World) -> None:
    """A file with lines that cannot be taken: exit code 1, each is named by its number, its neighbours arrive."""
    async with AsyncExitStack() as stack:
        vendors = Vendors()
        await vendors.serve(stack, world)
        relay = world.relay()
        await relay.start()
        file = customers_csv(
            world.directory,
            "utf-8",
            ("no address", "表", "ヒョウ", "", "", ""),
            ("33@example.jp", "too few cells"),
            ("44@example.jp", "髙橋", "タカハシ", "㈱能登", "ノト", "many"),
            ("55@example.jp", "﨑", "サキ", "", "", ""),
        )
        report = world.directory / "refused.csv"
        done = await send(world, relay, file, "--report", str(report))
        assert done.code == 1, done
        assert "4 accepted (12 events), 0 known already, 3 refused" in done.out
        told = [line.split(": ", 2)[:2] for line in done.out.splitlines() if line.startswith("line ")]
        assert told == [["line 5", "data.email"], ["line 6", "line"], ["line 7", "data.errors"]]
        with report.open(encoding="utf-8", newline="") as lines:
            assert sorted(row["line"] for row in csv.DictReader(lines)) == ["5", "6", "7"]
        assert "example.jp" not in done.out + done.err

        await world.settled(*vendors.all)
        taken = {*(row[0] for row in SAMPLES), "55@example.jp"}
        assert set(vendors.haihai.readers(1)) == taken
        assert set(vendors.blastmail.readers("user")) == taken
        assert set(vendors.blaynmail.readers("user")) == taken
        assert vendors.haihai.readers(1)["55@example.jp"].fields["お名前"] == "﨑"
