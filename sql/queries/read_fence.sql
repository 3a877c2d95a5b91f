-- Read the last id that was drawn, or 0 from a sequence that none was drawn from.
select last_value - (not is_called)::int from event_id_seq
