-- Tell the columns that lines of a layout were rendered with.
select columns from layout where account = $1 and id = $2
