-- Tell the columns of all layouts of an account's operation.
select id, columns from layout where account = $1 and operation = $2
