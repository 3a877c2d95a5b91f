-- Begin an upload of a batch by a login; none if the batch is not waiting for one.
with begun as (
    update batch set state = 'uploading', login = $3 where account = $1 and id = $2 and state in ('ready', 'waiting')
    returning account, id
)
insert into upload (account, batch_id, number)
select account, id, 1 + (select count(*) from upload u where u.account = begun.account and u.batch_id = begun.id) from begun
returning number
