-- Make everything that waits in a lane now due.
update lane set flush_to = greatest(flush_to, (select last_value - (not is_called)::int from event_id_seq))
where login = $1
returning flush_to
