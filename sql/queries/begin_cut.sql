-- Hold a cursor for a cut and draw the cut's number.
select c.position, c.rows_max, c.bytes_max, nextval('batch_id_seq') as batch_id
from cursor c where c.account = $1 and c.operation = $2 for update
