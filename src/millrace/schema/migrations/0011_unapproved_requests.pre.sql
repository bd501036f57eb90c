-- What was asked for while nobody had to approve goes back to be approved, once somebody has to.
create or replace function refuse_other_request() returns trigger language plpgsql as $$
begin
    if (old.state, new.state) not in (
           ('proposed', 'approved'), ('proposed', 'rejected'), ('proposed', 'cancelled'),
           ('approved', 'applied'), ('approved', 'failed'), ('approved', 'cancelled'),
           ('approved', 'proposed'))
       or (new.state = 'proposed' and old.decided_by <> '')
       or (old.request_id, old.flag_key, old.move, old.content, old.owner, old.base_version,
           old.reason, old.proposed_by, old.proposed_at, old.due_at, old.wait)
          is distinct from
          (new.request_id, new.flag_key, new.move, new.content, new.owner, new.base_version,
           new.reason, new.proposed_by, new.proposed_at, new.due_at, new.wait) then
        raise exception 'a request that is % does not become %', old.state, new.state
            using errcode = 'check_violation', constraint = 'flag_request_moves',
                  table = tg_table_name;
    end if;
    return new;
end
$$;
