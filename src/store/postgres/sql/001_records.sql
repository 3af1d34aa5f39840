-- Records and their steps (section K, invariant 2). The order of locks stands in 001_turns.sql.

-- Moves a minted version; never back (V8).
create function {s}.move_1(
    p_resource uuid, p_to bigint, p_later_at bigint, p_later bigint, p_ends_rest boolean, p_now bigint
) returns void language plpgsql set enable_seqscan = off as $$
declare
    c {s}.counter;
    stands bigint;
begin
    loop
        select * into c from {s}.counter x where x.resource = p_resource for update;
        exit when found;
        insert into {s}.counter (resource, number) values (p_resource, 0) on conflict do nothing;
    end loop;
    stands := greatest(case when c.later_at <= p_now then c.later else c.number end, p_to);
    if c.later_at > p_now and not p_ends_rest then
        p_later_at := greatest(c.later_at, p_later_at);
        p_later := greatest(c.later, p_later);
    end if;
    -- Numbers are given in another order than they are due, and none goes back.
    if p_later < stands then
        p_later := {s}.number_1();
    end if;
    update {s}.counter x set number = stands, later_at = p_later_at, later = p_later where x.resource = p_resource;
end $$;

-- A write goes out: what else is unsettled of its resource is not the last one any more (K12).
create function {s}.follow_1(p_id uuid, p_resource_id uuid) returns void
language plpgsql set enable_seqscan = off as $$
begin
    update {s}.record r set followed = true
    where r.resource_id = p_resource_id and r.unsettled and r.id <> p_id and not r.followed;
end $$;

-- Puts a record where there is none, or only an expired one, and asks for a turn if there is a name for it.
-- claimed: 1 it stands now, 2 this stood there already, 3 the instance is not alive.
create function {s}.claim_1(
    p_id uuid, p_owner bigint, p_phase smallint, p_fingerprint uuid, p_started_at bigint, p_route bytea,
    p_resource bytea, p_resource_id uuid, p_state bytea, p_followed boolean, p_expires_at bigint,
    p_instance bigint, p_now bigint, p_turn uuid, p_turn_name bytea, p_turn_token bigint,
    out claimed int, out owner bigint, out phase smallint, out fingerprint uuid, out started_at bigint,
    out route bytea, out resource bytea, out state bytea, out followed boolean, out answer bytea,
    out turned int, out rest_ms bigint, out fence bigint, out minted bigint,
    out first_number bigint, out second_number bigint
) language plpgsql set enable_seqscan = off as $$
declare
    r {s}.record;
begin
    for attempt in 1..100 loop
        -- Without a lock: a replay writes nothing.
        select * into r from {s}.record x where x.id = p_id;
        if not found then
            if not {s}.alive_1(p_instance) then
                claimed := 3;
                return;
            end if;
            insert into {s}.record (
                id, owner, phase, fingerprint, started_at, route, resource, resource_id, state, followed, unsettled,
                expires_at, instance
            ) values (
                p_id, p_owner, p_phase, p_fingerprint, p_started_at, p_route, p_resource, p_resource_id, p_state,
                p_followed, p_phase = 3, p_expires_at, case when p_phase in (0, 1) then p_instance end
            ) on conflict do nothing;
            if found then
                claimed := 1;
                exit;
            end if;
        elsif r.expires_at <= p_now then
            if not {s}.alive_1(p_instance) then
                claimed := 3;
                return;
            end if;
            update {s}.record x set
                owner = p_owner, phase = p_phase, fingerprint = p_fingerprint, started_at = p_started_at,
                route = p_route, resource = p_resource, resource_id = p_resource_id, state = p_state,
                followed = p_followed, unsettled = (p_phase = 3), expires_at = p_expires_at,
                instance = case when p_phase in (0, 1) then p_instance end, watched = false, answer = null
            where x.id = p_id and x.expires_at <= p_now;
            if found then
                claimed := 1;
                exit;
            end if;
        elsif r.owner = p_owner and r.phase in (0, 1) then
            -- The reply was lost.
            claimed := 1;
            exit;
        else
            claimed := 2;
            owner := r.owner;
            phase := r.phase;
            fingerprint := r.fingerprint;
            started_at := r.started_at;
            route := r.route;
            resource := r.resource;
            state := r.state;
            followed := r.followed;
            answer := r.answer;
            return;
        end if;
    end loop;
    if claimed is null then
        -- Where the database makes transactions stricter than they have to be here, one of them never sees the other.
        raise exception 'a record comes and goes' using errcode = 'serialization_failure';
    end if;
    if p_phase = 1 then
        perform {s}.follow_1(p_id, p_resource_id);
    end if;
    if p_turn is not null then
        select x.* into turned, rest_ms, fence, minted, first_number, second_number
        from {s}.take_turn_1(p_turn, p_turn_name, p_turn_token, p_instance, p_now) x;
        if turned = 4 then
            raise exception 'the instance lapsed in between' using errcode = 'serialization_failure';
        end if;
    end if;
end $$;

-- One step, with what goes with it in the same commit. p_fits: the phases it may start from, as bits. p_set: 0 another
-- state, 1 another execution's record, 2 none.
create function {s}.commit_1(
    p_id uuid, p_owner bigint, p_fits int, p_set int, p_goes_out boolean, p_now bigint, p_instance bigint,
    p_new_owner bigint, p_phase smallint, p_fingerprint uuid, p_started_at bigint, p_route bytea, p_resource bytea,
    p_resource_id uuid, p_state bytea, p_followed boolean, p_expires_at bigint, p_answer bytea,
    p_move uuid, p_to bigint, p_later_at bigint, p_later bigint, p_ends_rest boolean,
    p_executed boolean, p_who bytea, p_why bytea, p_moment bigint, p_kept_until bigint,
    p_turn uuid, p_turn_token bigint, p_turn_rest_ms bigint
) returns boolean language plpgsql set enable_seqscan = off as $$
declare
    r {s}.record;
    done boolean;
    applied boolean := false;
begin
    if p_goes_out then
        -- Those that will be marked as followed too, in the order of locks.
        perform from {s}.record x
        where x.id = p_id or x.unsettled and x.resource_id = (select y.resource_id from {s}.record y where y.id = p_id)
        order by x.id for update;
    end if;
    select * into r from {s}.record x where x.id = p_id for update;
    if not found then
        done := p_set = 2;
    elsif r.owner = p_owner and (p_fits >> r.phase) & 1 = 1 then
        done := true;
        applied := true;
    else
        done := case p_set
            when 0 then r.owner = p_owner and r.phase = p_phase
            when 1 then r.owner = p_new_owner
            else false
        end;
    end if;
    if applied then
        if p_set = 0 then
            update {s}.record x set
                phase = p_phase,
                state = p_state,
                followed = p_followed or (p_phase in (1, 3) and r.phase in (1, 3) and r.followed),
                unsettled = (p_phase = 3 or p_phase = 1 and r.unsettled),
                expires_at = p_expires_at,
                instance = case when p_phase in (0, 1) then coalesce(r.instance, p_instance) end,
                watched = (r.watched and p_phase in (0, 1)),
                answer = p_answer
            where x.id = p_id;
        elsif p_set = 1 then
            update {s}.record x set
                owner = p_new_owner, phase = p_phase, fingerprint = p_fingerprint, started_at = p_started_at,
                route = p_route, resource = p_resource, resource_id = p_resource_id, state = p_state,
                followed = p_followed or (p_phase in (1, 3) and r.phase in (1, 3) and r.followed),
                unsettled = (p_phase = 3 or p_phase = 1 and r.unsettled),
                expires_at = p_expires_at,
                instance = case when p_phase in (0, 1) then p_instance end,
                watched = (r.watched and p_phase in (0, 1)),
                answer = p_answer
            where x.id = p_id;
        else
            delete from {s}.record x where x.id = p_id;
        end if;
        if r.watched and (p_set = 2 or p_phase in (2, 3)) then
            perform pg_notify('{channel}', 'e' || p_id);
        end if;
        if p_goes_out then
            perform {s}.follow_1(p_id, r.resource_id);
        end if;
    end if;
    -- A turn ends by its token, whatever became of the record.
    if p_turn is not null then
        perform {s}.end_turn_1(p_turn, p_turn_token, p_turn_rest_ms);
    end if;
    if applied and p_move is not null then
        perform {s}.move_1(p_move, p_to, p_later_at, p_later, p_ends_rest, p_now);
    end if;
    if applied and p_executed is not null then
        insert into {s}.resolution (id, executed, who, why, moment, expires_at)
        values (p_id, p_executed, p_who, p_why, p_moment, p_kept_until);
    end if;
    return done;
end $$;

-- What stands there; its end will be told to those that listen.
create function {s}.watch_1(p_id uuid, p_now bigint) returns setof {s}.record
language plpgsql set enable_seqscan = off as $$
begin
    -- A mark that a crash loses is lost with everybody's connection, and they look again.
    perform set_config('synchronous_commit', 'off', true);
    update {s}.record x set watched = true where x.id = p_id and x.phase in (0, 1) and not x.watched;
    return query select * from {s}.record x where x.id = p_id and coalesce(x.expires_at > p_now, true);
end $$;

-- Forgets at most p_most expired records and resolutions. p_all: also turns that nobody has used for a while, and
-- instances that left nothing behind. How many records it were.
create function {s}.sweep_1(p_now bigint, p_most int, p_all boolean) returns int language plpgsql as $$
declare
    n int;
begin
    -- What a crash brings back is forgotten again.
    perform set_config('synchronous_commit', 'off', true);
    delete from {s}.record r using (
        select x.id from {s}.record x where x.expires_at <= p_now
        order by x.expires_at limit p_most for update skip locked
    ) gone where r.id = gone.id;
    get diagnostics n = row_count;
    if not p_all then
        return n;
    end if;
    delete from {s}.resolution r using (
        select x.n from {s}.resolution x where x.expires_at <= p_now limit p_most for update skip locked
    ) gone where r.n = gone.n;
    delete from {s}.turn t using (
        select x.resource from {s}.turn x
        where x.token is null and x.line = '{}' and coalesce(x.rest_until <= clock_timestamp(), true)
            and x.used_at < clock_timestamp() - interval '1 minute'
        limit p_most for update skip locked
    ) gone where t.resource = gone.resource;
    delete from {s}.instance i using (
        select x.id from {s}.instance x
        where x.until < clock_timestamp() - interval '1 minute'
            and not exists (select from {s}.record r where r.instance = x.id)
            and not exists (select from {s}.turn t where t.instance = x.id or x.id = any (t.line))
        limit p_most for update skip locked
    ) gone where i.id = gone.id;
    return n;
end $$;
