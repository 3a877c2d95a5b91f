"""A log of millions of events for the benchmark of the search, made by Postgres itself.

Customers are numbered: number 0 has 20,000 events, the next ones 1,000 each, all others about three. Their events lie
scattered over the whole log, as where many customers take turns. What a search joins is there as well: small batches
with their uploads, what later words replaced, refused lines, words that relay appended again, events that wait.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import asyncpg

from relay.events import Keys

HEAVY_EVENTS = 20_000
BUSY_EVENTS = 1_000
BUSY_SHARE = 0.04
"""The part of the log that belongs to customers of 1,000 events."""

ORDINARY_EVENTS = 3.2
"""The mean; as many customers have so few that nine in ten have one to five."""

EVENTS_A_WEBHOOK = 1.91
CHUNKS = 10

FORMER = "former"
LOGINS: Mapping[str, str] = {"news": "blast", "letter": "blast", "shop": "blayn", "event": "blayn", "club": FORMER}
"""Accounts and their logins. The settings know nothing of the last one any more."""


@dataclass(frozen=True, slots=True)
class Customers:
    """How many busy and ordinary customers there are; their numbers begin at 1."""

    busy: int
    ordinary: int

    @classmethod
    def of(cls, events: int) -> "Customers":
        """Divide a log of so many events among them."""
        rest = events * (1 - BUSY_SHARE) - HEAVY_EVENTS
        return cls(round(events * BUSY_SHARE / BUSY_EVENTS), round(rest / ORDINARY_EVENTS))


def address(number: int) -> str:
    """Return a customer's address."""
    return f"c{number}@example.jp"


async def fill(connection: asyncpg.Connection, keys: Keys, events: int) -> None:
    """Append about so many events, and cut, upload and settle all but the last."""
    customers = Customers.of(events)
    numbers = range(1 + customers.busy + customers.ordinary)
    await connection.execute(
        "set work_mem = '256MB'; create temp table customer (number int, address text, hash bytea)"
    )
    hashed = ((number, address(number), keys.customer(address(number))) for number in numbers)
    await connection.copy_records_to_table("customer", records=hashed)
    await connection.execute("alter table customer add primary key (number); analyze customer")
    webhooks = round(events / EVENTS_A_WEBHOOK)
    began = time.monotonic()
    for chunk in range(CHUNKS):
        behind = await connection.fetchval("select coalesce(max(id), 0) from event")
        first, last = 1 + webhooks * chunk // CHUNKS, webhooks * (chunk + 1) // CHUNKS
        every = events // HEAVY_EVENTS
        busy = round(every * BUSY_SHARE)
        await connection.execute(APPEND, first, last, webhooks, every, busy, customers.busy, customers.ordinary)
        await connection.execute(APPEND_AGAIN, behind)
        print(f"\r{(chunk + 1) * 100 // CHUNKS} % appended, {time.monotonic() - began:.0f} s ", end="", flush=True)  # noqa: T201
    for statement in SETTLE:
        await connection.execute(statement)
    for account, login in LOGINS.items():
        await connection.execute("update batch set login = $1 where account = $2", login, account)
    pause = "insert into lane (login, paused_at, pause_reason) values ($1, now(), 'operator')"
    await connection.executemany(pause, [(login,) for login in set(LOGINS.values())])
    print(f"settled, {time.monotonic() - began:.0f} s")  # noqa: T201


APPEND = """
insert into event (account, source, message_id, digest, operation, customer, layout, line, occurred_at, received_at)
select account, source, 'evt_' || w, substring(sha256(int8send(w)) for 16), operation, customer.hash, 1,
       convert_to(format('"%s","髙橋 %s","タカハシ","1990-04-01","東京都","有料"', address, w), 'SJIS') || '\\x0d0a',
       now() - (1 - w / $3::float8) * interval '400 days', now() - (1 - w / $3::float8) * interval '400 days'
from (
    select w, case when random % $4::int = 0 then 0
                   when random % $4::int <= $5::int then 1 + random / $4::int % $6::int
                   else 1 + $6::int + random / $4::int % $7::int end as number,
           case when other < 88 then 'upsert' when other < 92 then 'stop' when other < 96 then 'delete'
                else 'allow' end as operation,
           case when w % 10 < 6 then 'crm' when w % 10 < 9 then 'web' else 'former' end as source,
           case when w % 10 < 6 then '{news,letter}' when w % 10 < 9 then '{shop,event}'
                else '{club}' end::text[] as accounts
    from (
        select w, hashint8(w) & 2147483647 as random, (hashint8(-w) & 2147483647) % 100 as other
        from generate_series($1::bigint, $2::bigint) w
    ) drawn
) webhook
join customer using (number)
cross join unnest(accounts) account
order by w, account
"""

APPEND_AGAIN = """
insert into event
    (account, source, message_id, digest, operation, customer, layout, line, occurred_at, received_at, again_of)
select account, 'relay', 'again:' || id || ':1.1', digest, operation, customer, layout, line, occurred_at, received_at,
       id
from event
where operation = 'stop' and id > $1 and id % 5 = 0
"""

SETTLE = (
    """
    insert into cursor (account, operation, position)
    select account, operation, (select max(id) - 20000 from event) / 2000 * 2000
    from (select distinct account from event) a,
         unnest(array['upsert', 'delete', 'stop', 'allow']) operation
    """,
    """
    insert into superseded
    select account, id, by_id, 1
    from (
        select account, id, lead(id) over w as by_id
        from event where source <> 'relay'
        window w as (partition by account, customer, operation in ('upsert', 'delete') order by id)
    ) word
    where by_id < id + 200000 and id <= (select max(position) from cursor)
    """,
    """
    insert into batch
        (account, id, login, operation, layout, header, cut_from, cut_to, rows, bytes, state, reason,
         oldest_received_at, ended_at)
    select account, nextval('batch_id_seq'), '', operation, 1, array['E-Mail', '氏名'], part * 2000, part * 2000 + 2000,
           rows, bytes, case part % 50 when 7 then 'failed' when 9 then 'unconfirmed' else 'delivered' end,
           'lost reply', oldest, oldest + interval '2 min'
    from (
        select e.account, e.operation, (e.id - 1) / 2000 as part, count(*) as rows, sum(octet_length(line)) as bytes,
               min(received_at) as oldest
        from event e
        join cursor c on c.account = e.account and c.operation = e.operation and e.id <= c.position
        left join superseded s on s.account = e.account and s.event_id = e.id
        where s.event_id is null
        group by 1, 2, 3
    ) cut
    order by part, account, operation
    """,
    """
    insert into upload (account, batch_id, number, started_at, ended_at, outcome, bytes_sent)
    select account, id, number, ended_at - interval '10 s', ended_at, 'delivered', bytes
    from batch, generate_series(1, 1 + (id % 10 = 0)::int) number
    """,
    """
    insert into rejection (account, batch_id, line, event_id, message)
    select b.account, b.id, 1 + row_number() over (partition by b.account, b.id), e.id, 'メールアドレスが不正です'
    from event e
    join batch b on b.account = e.account and b.operation = e.operation and b.cut_from = (e.id - 1) / 2000 * 2000
    left join superseded s on s.account = e.account and s.event_id = e.id
    where e.id % 1000 = 1 and s.event_id is null
    """,
)
