-- Turns that are held by session locks too (store.turns = "advisory").
--
-- Between instances the rows decide, as in 001_turns.sql. The lock of a resource keeps other programs out while its turn
-- is held, and a life's own lock tells all others at once when its session is gone. One life is one session: it takes
-- both locks there, and only there they are let go.
--
-- The order of locks goes on: after the row of `turn` the row of `instance`. Session locks are only tried for.

-- The server process of the session that holds this life's turns; null: rows alone hold them, or it is over.
alter table {s}.instance add column pid int;

-- The number of a resource's lock: the first 8 bytes of a SHA-256.
create function {s}.turn_key_1(p_name bytea) returns bigint language sql immutable as $$
    select ('x' || encode(substr(sha256('onceward:{schema}:turn:'::bytea || p_name), 1, 8), 'hex'))::bit(64)::bigint
$$;

-- The number of a life's lock.
create function {s}.life_key_1(p_instance bigint) returns bigint language sql immutable as $$
    select ('x' || encode(substr(sha256(('onceward:{schema}:life:' || p_instance)::bytea), 1, 8), 'hex'))::bit(64)::bigint
$$;

-- A life begins on this session; the one before is over. The epoch.
create function {s}.hello_2(p_instance bigint, p_alive_ms bigint, p_listens boolean, p_before bigint) returns bigint
language plpgsql as $$
begin
    -- Before anybody can know of it: where the lock is free the session is gone.
    perform pg_advisory_lock({s}.life_key_1(p_instance));
    update {s}.instance i set until = clock_timestamp(), listens = false
    where i.id = p_before and i.until > clock_timestamp();
    insert into {s}.instance (id, until, listens, pid)
    values (p_instance, clock_timestamp() + p_alive_ms * interval '1 millisecond', p_listens, pg_backend_pid());
    return (select s.epoch from {s}.schema s);
end $$;

-- As take_turn_1, with the resource's lock on this session, which is the instance's.
create function {s}.take_turn_2(
    p_resource uuid, p_name bytea, p_token bigint, p_instance bigint, p_now bigint,
    out turned int, out rest_ms bigint, out fence bigint, out minted bigint,
    out first_number bigint, out second_number bigint
) language plpgsql set enable_seqscan = off as $$
declare
    t {s}.turn;
    moment timestamptz;
    is_free boolean;
begin
    if not {s}.alive_1(p_instance) then
        turned := 4;
        return;
    end if;
    loop
        select * into t from {s}.turn x where x.resource = p_resource for update;
        exit when found;
        insert into {s}.turn (resource, name) values (p_resource, p_name) on conflict do nothing;
    end loop;
    moment := clock_timestamp();
    if t.token is null and t.rest_until > moment then
        turned := 3;
        rest_ms := ceil(extract(epoch from t.rest_until - moment) * 1000);
        return;
    end if;
    -- Or it was granted to an earlier life of this instance, and the reply was lost with that one's session.
    is_free := t.token is null or t.token = p_token and t.instance <> p_instance;
    if is_free and not pg_try_advisory_lock({s}.turn_key_1(p_name)) then
        -- Another program has it, or a session whose instance is gone has it a moment longer. Nobody tells when it is
        -- let go, so whose time it is keeps it.
        turned := 2;
        update {s}.turn x set
            line = case when p_instance = any (t.line) then t.line else t.line || p_instance end,
            offer_until = case when t.line[1] = p_instance then null else t.offer_until end
        where x.resource = p_resource;
        return;
    end if;
    if is_free and t.token = p_token then
        update {s}.turn x set instance = p_instance, name = p_name where x.resource = p_resource;
    end if;
    select x.* into turned, rest_ms, fence, minted, first_number, second_number
    from {s}.take_turn_1(p_resource, p_name, p_token, p_instance, p_now) x;
    if is_free and turned <> 1 then
        perform pg_advisory_unlock({s}.turn_key_1(p_name));
    end if;
end $$;

-- After a take that failed, on the same session: a lock outlasts the transaction that took it.
create function {s}.let_go_1(p_resource uuid, p_name bytea, p_instance bigint) returns void
language plpgsql set enable_seqscan = off as $$
begin
    if exists (
        select from {s}.turn t where t.resource = p_resource and t.token is not null and t.instance = p_instance
    ) then
        return;
    end if;
    while pg_advisory_unlock({s}.turn_key_1(p_name)) loop
    end loop;
end $$;

-- As end_turn_1. The lock is let go where it was taken: elsewhere its session is gone or will be.
create function {s}.end_turn_2(p_resource uuid, p_token bigint, p_rest_ms bigint) returns void
language plpgsql set enable_seqscan = off as $$
declare
    t {s}.turn;
begin
    select * into t from {s}.turn x where x.resource = p_resource and x.token = p_token for update;
    if not found then
        return;
    end if;
    perform {s}.end_turn_1(p_resource, p_token, p_rest_ms);
    if exists (select from {s}.instance i where i.id = t.instance and i.pid = pg_backend_pid()) then
        perform pg_advisory_unlock({s}.turn_key_1(t.name));
    end if;
end $$;

-- As claim_1, with a turn of take_turn_2.
create function {s}.claim_2(
    p_id uuid, p_owner bigint, p_phase smallint, p_fingerprint uuid, p_started_at bigint, p_route bytea,
    p_resource bytea, p_resource_id uuid, p_state bytea, p_followed boolean, p_expires_at bigint,
    p_instance bigint, p_now bigint, p_turn uuid, p_turn_name bytea, p_turn_token bigint,
    out claimed int, out owner bigint, out phase smallint, out fingerprint uuid, out started_at bigint,
    out route bytea, out resource bytea, out state bytea, out followed boolean, out answer bytea,
    out turned int, out rest_ms bigint, out fence bigint, out minted bigint,
    out first_number bigint, out second_number bigint
) language plpgsql set enable_seqscan = off as $$
begin
    select x.* into claimed, owner, phase, fingerprint, started_at, route, resource, state, followed, answer,
        turned, rest_ms, fence, minted, first_number, second_number
    from {s}.claim_1(
        p_id, p_owner, p_phase, p_fingerprint, p_started_at, p_route, p_resource, p_resource_id, p_state, p_followed,
        p_expires_at, p_instance, p_now, null, null, null
    ) x;
    if claimed <> 1 or p_turn is null then
        return;
    end if;
    -- The reply may have been lost with the session of the life before, which is to settle nothing of it now.
    update {s}.record r set instance = p_instance
    where r.id = p_id and r.owner = p_owner and r.phase in (0, 1) and r.instance <> p_instance;
    select x.* into turned, rest_ms, fence, minted, first_number, second_number
    from {s}.take_turn_2(p_turn, p_turn_name, p_turn_token, p_instance, p_now) x;
    if turned = 4 then
        raise exception 'the instance lapsed in between' using errcode = 'serialization_failure';
    end if;
end $$;

-- As commit_1, with the end of a turn by end_turn_2: before the record's step, but in the same order of locks.
create function {s}.commit_2(
    p_id uuid, p_owner bigint, p_fits int, p_set int, p_goes_out boolean, p_now bigint, p_instance bigint,
    p_new_owner bigint, p_phase smallint, p_fingerprint uuid, p_started_at bigint, p_route bytea, p_resource bytea,
    p_resource_id uuid, p_state bytea, p_followed boolean, p_expires_at bigint, p_answer bytea,
    p_move uuid, p_to bigint, p_later_at bigint, p_later bigint, p_ends_rest boolean,
    p_executed boolean, p_who bytea, p_why bytea, p_moment bigint, p_kept_until bigint,
    p_turn uuid, p_turn_token bigint, p_turn_rest_ms bigint
) returns boolean language plpgsql set enable_seqscan = off as $$
begin
    -- Where the session is gone, so is the lock: what this life had not sent yet is not sent any more.
    if p_goes_out and exists (
        select from {s}.record x
        where x.id = p_id and x.owner = p_owner and x.instance is not null and not {s}.alive_1(x.instance)
    ) then
        return false;
    end if;
    if p_turn is not null then
        perform from {s}.record x
        where x.id = p_id or p_goes_out and x.unsettled
            and x.resource_id = (select y.resource_id from {s}.record y where y.id = p_id)
        order by x.id for update;
        perform {s}.end_turn_2(p_turn, p_turn_token, p_turn_rest_ms);
    end if;
    return {s}.commit_1(
        p_id, p_owner, p_fits, p_set, p_goes_out, p_now, p_instance, p_new_owner, p_phase, p_fingerprint,
        p_started_at, p_route, p_resource, p_resource_id, p_state, p_followed, p_expires_at, p_answer, p_move, p_to,
        p_later_at, p_later, p_ends_rest, p_executed, p_who, p_why, p_moment, p_kept_until, null, null, null
    );
end $$;

-- Instances past their time that left anything behind, with those whose session is gone: their time is over now (S3).
create function {s}.lapsed_1() returns table (instance bigint, ago bigint) language plpgsql as $$
declare
    one bigint;
begin
    for one in
        select i.id from {s}.instance i where i.pid is not null and i.until > clock_timestamp() order by i.id
    loop
        if pg_try_advisory_xact_lock({s}.life_key_1(one)) then
            update {s}.instance i set until = clock_timestamp(), listens = false
            where i.id = one and i.until > clock_timestamp();
        end if;
    end loop;
    return query
        select i.id, floor(extract(epoch from clock_timestamp() - i.until) * 1000)::bigint
        from {s}.instance i
        where i.until <= clock_timestamp() and (
            i.pid is not null
            or exists (select from {s}.record r where r.instance = i.id)
            or exists (select from {s}.turn t where t.instance = i.id or i.id = any (t.line))
        )
        union all
        -- Whose sign of life is gone while something of it came late. Each instance costs one look at the index.
        select o.id, 0::bigint from (
            with recursive owners (id) as (
                (select r.instance from {s}.record r where r.instance is not null order by r.instance limit 1)
                union all
                select (select r.instance from {s}.record r where r.instance > o.id order by r.instance limit 1)
                from owners o where o.id is not null
            ) select owners.id from owners where owners.id is not null
        ) o where not exists (select from {s}.instance i where i.id = o.id);
end $$;

-- As bury_1. A process that stands still may have its session still, and by that keep everybody from what it had.
create function {s}.bury_2(p_instance bigint) returns void language plpgsql as $$
declare
    process int;
begin
    if {s}.alive_1(p_instance) then
        return;
    end if;
    perform {s}.bury_1(p_instance);
    select i.pid into process from {s}.instance i where i.id = p_instance;
    if process is null then
        return;
    end if;
    begin
        perform pg_terminate_backend(l.pid) from pg_locks l
        where l.pid = process and l.locktype = 'advisory' and l.objsubid = 1
            and l.database = (select d.oid from pg_database d where d.datname = current_database())
            and (l.classid::bigint << 32 | l.objid::bigint) = {s}.life_key_1(p_instance);
        update {s}.instance i set pid = null where i.id = p_instance;
    exception when insufficient_privilege then
        raise warning 'onceward: the session of a lapsed instance belongs to another role, and holds its locks still';
    end;
end $$;
