-- List every account and operation that the log or a cursor has, with one look-up in an index for each.
with recursive logged as (
    (select account, operation from event order by account, operation limit 1)
    union all
    select next.account, next.operation
    from logged l
    cross join lateral (
        select e.account, e.operation from event e
        where (e.account, e.operation) > (l.account, l.operation)
        order by e.account, e.operation
        limit 1
    ) next
)
select account, operation from logged
union
select account, operation from cursor
order by account, operation
