-- Say whether retention may have deleted events of a batch.
select b.cut_from < c.pruned_to
from batch b
join cursor c on c.account = b.account and c.operation = b.operation
where b.account = $1 and b.id = $2
