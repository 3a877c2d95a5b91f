-- Record what an operator did. What was done to a batch was done at its login, too.
insert into act (who, through, act, login, account, batch_id, source, message_id, events, detail)
values ($1, $2, $3, coalesce($4::text, (select login from batch where account = $5 and id = $6)), $5, $6, $7, $8, $9, $10)
