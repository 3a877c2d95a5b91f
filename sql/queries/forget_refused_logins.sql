-- Forget the logins that the vendor refused, because it has let relay in since; a wait because of them is over.
update lane
set refused_logins = '{}',
    not_before = case when wait_reason = 'logins_refused' then '-infinity' else not_before end,
    wait_reason = case when wait_reason = 'logins_refused' then '' else wait_reason end
where login = $1 and refused_logins <> '{}'
