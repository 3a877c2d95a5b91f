"""One login at a simulated vendor with a few customers, two replicas, and what must hold at every step."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Literal

import asyncpg

from relay import csvline
from relay.demo.sim_readers import ALREADY_THERE
from relay.events import Event, EventState, Operation
from relay.flush import LoginPlan, login_plans
from relay.settings import Account, BmeLogin, HaihaiLogin, Login, Secret, Settings, Source
from relay.spool import Spool
from relay.status.proof import proof
from relay.store import FoundEvent, Store, ToldEvent
from tests.integration.model import EPOCH, KEYS, World, truth
from tests.integration.opt_out_replicas import Replica, with_due, with_header, with_login
from tests.integration.opt_out_vendors import PASSWORD, Blast, Hai, Vendor, carried, done, mailable

ADDRESSES = tuple(f"{name}@example.jp" for name in ("a", "b", "c", "d", "e"))
"""Two customers of whom anything is said, and some who are only created."""

REST_S = 600.0
"""More than what a replica rests after failures."""

ROUNDS_MAX = 60
WORKS_MAX = 300
RETRIES_MAX = 3
"""An allow for somebody whom the vendor does not have is refused each time; so is who is to be created and is there."""

REPLACED_LINES = """
select b.id, e.id as event_id, l.id as later_id
from batch b
join event e on e.account = b.account and e.operation = b.operation and e.id > b.cut_from and e.id <= b.cut_to
join event l on l.account = e.account and l.customer = e.customer and l.id <= $3
where b.account = $1 and b.id > $2
  and not exists (select from superseded s where s.account = b.account and s.event_id = e.id and s.batch_id <= b.id)
  and (e.operation, l.operation) in (
      ('upsert', 'upsert'), ('upsert', 'delete'), ('delete', 'upsert'), ('delete', 'delete'),
      ('stop', 'stop'), ('stop', 'ban'), ('stop', 'allow'), ('stop', 'delete'),
      ('ban', 'stop'), ('ban', 'ban'), ('ban', 'allow'), ('ban', 'delete'),
      ('allow', 'stop'), ('allow', 'ban'), ('allow', 'allow'), ('allow', 'delete'))
  and (l.occurred_at, l.operation in ('delete', 'stop', 'ban'), l.received_at, l.id)
      > (e.occurred_at, e.operation in ('delete', 'stop', 'ban'), e.received_at, e.id)
"""

WHOSE = {KEYS.customer(address): address for address in ADDRESSES}

EVENTS = """
select id as event_id, source, message_id, operation, occurred_at, received_at, again_of, customer
from event where account = $1
"""

DUE_OPT_OUTS = """
select exists (
    select from event e join cursor c on c.account = e.account and c.operation = e.operation
    where e.account = $1 and e.operation in ('delete', 'stop', 'ban') and e.id > c.position and e.id <= $2
      and (e.operation = any($3::text[]) or e.again_of is not null)
) or exists (
    select from batch
    where account = $1 and operation in ('delete', 'stop', 'ban') and state in ('ready', 'waiting', 'uploading')
)
"""


def login_of(vendor: Vendor, name: str, rows_max: int | None) -> Login:
    """The settings of a login at a simulated vendor."""
    common = {"name": name, "rows_max": rows_max, "attempts_max": 3, "upload_timeout_s": 60, "connect_timeout_s": 60}
    if isinstance(vendor, Blast):
        return BmeLogin.model_validate(
            common
            | {"vendor": "blastmail", "base_url": vendor.base_url, "username": "user"}
            | {"password": Secret(PASSWORD), "api_key": Secret(PASSWORD)}
            | {"unknown_address_messages": ["登録されていないメールアドレスです"]}
        )
    return HaihaiLogin.model_validate(
        common
        | {"vendor": "haihai", "base_url": vendor.url, "aid": 1, "login_id": "user", "calls_per_day_limit": 10**9}
        | {"transport_password": Secret(PASSWORD), "settle_wait_s": 60}
    )


def name_of(event: Event | ToldEvent) -> str:
    """The name that an upsert gives its customer: no two upserts the same."""
    return f"name {event.message_id}"


@dataclass
class Case:
    """A login, its vendor and its replicas. `log` says what happened, for who reads a failure."""

    store: Store
    connection: asyncpg.Connection
    directory: Path
    number: int
    vendor: Vendor
    rows_max: int | None
    mode: str = "all"
    words: dict[str, list[Event]] = field(default_factory=lambda: {address: [] for address in ADDRESSES})
    begun: list[Operation] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    passed_s: float = 0
    dismissed: set[str] = field(default_factory=set)
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    w: World = field(init=False)
    replicas: list[Replica] = field(init=False)

    @property
    def name(self) -> str:
        """The login's name, and the account's."""
        return f"case-{self.number}"

    @property
    def plan(self) -> LoginPlan:
        """The plan of the right settings."""
        return self.w.plans[self.name]

    @property
    def contract(self) -> str:
        """The vendor's name for the login."""
        return "user" if isinstance(self.vendor, Blast) else "1"

    def clock(self) -> float:
        """The time by which replicas let a vendor rest that has failed."""
        return time.monotonic() + self.passed_s

    async def open(self) -> None:
        """Open the vendor, make lane, cursors and layouts."""
        await self.stack.enter_async_context(self.vendor.serve())
        login = login_of(self.vendor, self.name, self.rows_max)
        address = "E-Mail" if isinstance(self.vendor, Blast) else "メールアドレス"
        columns = {address: "email", "氏名": "name"}
        account = {"name": self.name, "login": self.name, "columns": columns, "mode": self.mode}
        never_waits = {"flush_after_s": 0, "flush_opt_outs_after_s": 0}
        settings = Settings(
            sources={"crm": Source(bearer_tokens=(Secret("x" * 20),), accounts=(self.name,))},
            logins={self.name: login},
            accounts={self.name: Account.model_validate(account | never_waits)},
        )
        self.w = World(self.store, self.connection, Spool(self.directory / "0"), login_plans(settings, KEYS))
        self.w._number = self.number * 1_000_000  # noqa: SLF001 - cases share a log
        await self.w.prepare()
        self.replicas = [
            Replica(self.store, self.directory / str(n), self.begun, self.log.append, self.clock) for n in range(2)
        ]
        await self.work(0, due=())  # the vendor's columns are compared with the settings once, before anything goes up

    async def close(self) -> None:
        """End all."""
        for replica in self.replicas:
            replica.lease_ends()
            await replica.close()
        await self.vendor.import_all()
        await self.stack.aclose()

    # -- what happens ------------------------------------------------------------------------------------------------

    def operations(self) -> list[Operation]:
        """What this vendor can do."""
        return [operation for operation in Operation if operation in self.plan.login.operations]

    async def say(self, address: str, operation: Operation, at: int) -> None:
        """Append a word that was said at a time, before or after others."""
        plain = self.w.event(self.name, operation, address, at)
        columns = self.plan.columns[self.name, operation].values()
        cells = [c.constant or (address if c.path == "email" else name_of(plain)) for c in columns]
        event = replace(plain, line=csvline.record(cells))
        self.log.append(f"{operation} {address[0]} at {at}")
        await self.append(event)
        self.words[address].append(event)

    async def append(self, event: Event) -> str:
        """Append an event, perhaps once more; say what became of it."""
        (appended,) = await self.store.append([event])
        return appended.status

    async def work(
        self,
        replica: int,
        *,
        due: Sequence[Operation],
        fence: int | None = None,
        settings: Literal["right", "other headers", "unreachable", "impatient"] = "right",
        fate: tuple[str, Literal["dies", "freezes"]] | None = None,
    ) -> None:
        """Do a piece of work, perhaps up to an older fence; what goes up first is an opt-out if one is due."""
        stale = fence is not None
        fence = await self.w.fence() if fence is None else fence
        plan = with_due(self.plan, due)
        match settings:
            case "other headers":
                plan = with_header(plan, {"氏名": "名前"}, "other settings")
            case "unreachable":
                plan = with_login(plan, base_url="http://127.0.0.1:1")
            case "impatient":
                plan = with_login(plan, upload_timeout_s=0.3)
            case _:
                pass
        opt_outs = await self.connection.fetchval(DUE_OPT_OUTS, self.name, fence, list(due))
        before = len(self.begun)
        last_batch, last_event = await self._last()
        await self.replicas[replica].work(plan, fence, fate)
        replaced = await self.connection.fetch(REPLACED_LINES, self.name, last_batch, last_event)
        assert not replaced, f"a file was cut with what a later word had replaced: {replaced}"
        begun = self.begun[before:]
        older = "older fence, " if stale else ""
        self.log.append(f"work {replica} due {[*map(str, due)]}, {older}{settings}, {fate}: {[*map(str, begun)]}")
        assert not opt_outs or all(operation.opt_out for operation in begun), "an opt-out was due, but data went up"

    async def _last(self) -> tuple[int, int]:
        """The last batch and the last event as they are now."""
        query = "select (select last_value from batch_id_seq), (select last_value from event_id_seq)"
        row = await self.connection.fetchrow(query)
        assert row is not None
        return row[0], row[1]

    async def delays_pass(self) -> None:
        """Every next try comes due."""
        self.log.append("delays pass")
        self.passed_s += REST_S
        await self.connection.execute("update cursor set not_before = '-infinity' where account = $1", self.name)

    async def lane_rests(self, order: int) -> None:
        """The lane's wait ends: by then the vendor has imported what it accepted, in some order."""
        self.log.append(f"the vendor imports, {order}")
        await self.vendor.import_all(order)
        self.passed_s += REST_S
        query = "update lane set not_before = '-infinity', wait_reason = '' where login = $1"
        await self.connection.execute(query, self.name)

    async def lease_ends(self) -> None:
        """The lease of whoever has the lane runs out."""
        self.log.append("the lease runs out")
        await self.connection.execute("update lane set leased_until = now() where login = $1", self.name)
        for replica in self.replicas:
            replica.lease_ends()

    async def retry(self) -> int:
        """Retry all dead letters, as an operator would."""
        batches = await self.w.connection_fetch("select id from batch where account = $1 order by id", self.name)
        retried = sum([await self.store.retry_batch(self.name, row["id"]) for row in batches])
        self.log.append(f"{retried} retried")
        return retried

    async def dismiss(self) -> None:
        """Dismiss all dead letters: for their customers nothing is promised any more."""
        dead = (EventState.REJECTED, EventState.FAILED, EventState.UNCONFIRMED)
        for address, event in (await self.told()).values():
            if event.state in dead and event.batch_id:
                self.dismissed.add(address)
                await self.store.dismiss_batch(self.name, event.batch_id)
        self.log.append(f"dismissed: {self.dismissed}")

    async def calm(self) -> None:
        """Let everything heal: no faults, time passes, operators retry, until there is nothing left to do."""
        self.vendor.faults.disarm()
        self.vendor.told.breaks_at = None
        await self.lease_ends()
        for replica in self.replicas:
            await replica.thaw()
        retries = 0
        for _ in range(ROUNDS_MAX):
            await self.delays_pass()
            await self.lane_rests(0)
            # Whatever the lane waits or pauses for, also what it may not do before tomorrow.
            await self.connection.execute("delete from lane where login = $1", self.name)
            await self.store.ensure_lanes([self.name])
            if await self._work_all():
                continue
            retries += 1
            if retries > RETRIES_MAX or not await self.retry():
                break
        else:
            raise AssertionError("no end of it")
        await self.vendor.import_all()

    async def _work_all(self) -> int:
        worked = 0
        replica = self.replicas[0]
        while True:
            choices = await replica.worker.survey([self.plan], await self.w.fence(), replica.worker.owner)
            if not choices:
                return worked
            await self.work(0, due=self.operations())
            if not replica.worked.progress:
                return worked  # the vendor's host rests
            worked += 1
            assert worked < WORKS_MAX, "no end of it"

    # -- what must hold ----------------------------------------------------------------------------------------------

    async def told(self) -> dict[int, tuple[str, ToldEvent]]:
        """What relay tells of all events, by id, each with whom it is about."""
        rows = await self.connection.fetch(EVENTS, self.name)
        whose = {row["event_id"]: WHOSE[row["customer"]] for row in rows}
        found = [
            FoundEvent(self.name, **{**row, "operation": Operation(row["operation"])})
            for row in ({name: value for name, value in one.items() if name != "customer"} for one in rows)
        ]
        told = await self.store.tell_events(found)
        assert len(told) == len(rows), "an event is in no state, or in two"
        return {event.event_id: (whose[event.event_id], event) for event in told}

    async def check(self) -> None:
        """Every event is in one state, and nothing is told that the vendor's own records do not show."""
        told = await self.told()
        if isinstance(self.vendor, Hai):
            assert len(self.vendor.accepted) <= 1, "a file was sent while another one may still be imported"
        batches = await self.connection.fetch("select id, sha256 from batch where account = $1", self.name)
        sha256 = {row["id"]: row["sha256"] for row in batches}
        taken = {hashlib.sha256(file).hexdigest() for _, file in self.vendor.record.files}
        for address, event in told.values():
            sent = sha256.get(event.batch_id or 0)
            if event.state is EventState.DELIVERED:
                assert carried(self.vendor.told.imported, sent, address), f"{event.event_id} is told as delivered"
            if event.state is EventState.REJECTED and event.message == ALREADY_THERE and event.again_of is None:
                # In the mode `create`, what has arrived is refused the second time.
                assert not done(self.vendor.told.imported, name_of(event)), f"{event.event_id} is told as rejected"
            if event.state is EventState.ACCEPTED:
                assert sent in taken, f"{event.event_id} is told as accepted"
        await self._check_proofs(told)

    async def _check_proofs(self, told: Mapping[int, tuple[str, ToldEvent]]) -> None:
        events = [event for _, event in told.values()]
        words = [(self.name, e.event_id) for e in events if e.operation.opt_out and e.again_of is None]
        chains = await self.store.tell_proofs(words)
        assert chains.keys() == set(words)
        for (_, event_id), chain in chains.items():
            last = max((e for e in events if event_id in (e.event_id, e.again_of)), key=lambda e: e.event_id)
            found = proof(chain, last, None, {})
            confirming = [upload for upload in found.uploads if upload.proves == "confirmed"]
            for upload in confirming:
                address = told[event_id][0]
                assert carried(self.vendor.told.imported, upload.sha256, address, upload.line), upload
            assert (found.confirmed_at is not None) == bool(confirming)
            assert (found.result == "confirmed") == (last.state is EventState.DELIVERED)
            assert isinstance(self.vendor, Blast) or not confirming, "配配メール confirms nothing"

    def _mails(self, address: str) -> bool:
        return mailable(self.vendor, self.contract, address)

    def wrong(self) -> list[str]:
        """Whom the vendor's list has wrong: mailed who opted out, there or not, not mailed who never opted out."""
        readers = self.vendor.readers_of(self.contract)
        return [
            f"{address}: {[(w.operation.value, (w.occurred_at - EPOCH) // timedelta(seconds=1)) for w in said]}"
            for address, said in self.words.items()
            if address not in self.dismissed
            and (
                self._mails(address) > truth(said)[1]
                or (not any(w.operation.opt_out for w in said) and not self._mails(address) and truth(said)[1])
                or (readers.find(address) is not None) != truth(said)[0]
            )
        ]

    async def verdict(self) -> None:
        """When all is calm: nothing is left, and each customer stands at the vendor as the last word says."""
        events = [event for _, event in (await self.told()).values()]
        left = [e for e in events if e.state in (EventState.PENDING, EventState.READY, EventState.WAITING)]
        assert not left, f"left: {left}"
        lost = {e.operation for e in events if e.state in (EventState.REJECTED, EventState.FAILED)}
        refused = {Operation.ALLOW, Operation.UPSERT} if self.mode == "create" else {Operation.ALLOW}
        assert self.dismissed or lost <= refused, f"dead letters: {lost}"
        assert not self.wrong(), f"wrong: {self.wrong()}"


VENDORS: Mapping[str, type[Blast] | type[Hai]] = {"blastmail": Blast, "配配メール": Hai}
