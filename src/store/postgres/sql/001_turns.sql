-- Turns, lines and numbers (Q4, Q5, L3, V8).
--
-- The order of locks, for every function here and beside: rows of `record` (more than one: by id), then the row of
-- `turn` (more than one: by resource), then the row of `counter`, then the lock of number_1. Who keeps to it waits for
-- nobody who waits for him.
--
-- Functions never change: another meaning is another function with a higher number, so that builds of two versions
-- work side by side.

-- A number above all that were ever given. It keeps up with the clock (microseconds), so that it grows also over a tail
-- of commits that a failover lost.
create function {s}.number_1() returns bigint language plpgsql as $$
declare
    clock bigint := (extract(epoch from clock_timestamp()) * 1000000)::bigint;
    n bigint := nextval('{s}.number');
begin
    if n >= clock - 50000 then
        return n;
    end if;
    perform pg_advisory_xact_lock({lock}, 1);
    n := nextval('{s}.number');
    if n >= clock - 50000 then
        return n;
    end if;
    perform setval('{s}.number', clock);
    return nextval('{s}.number');
end $$;

create function {s}.alive_1(p_instance bigint) returns boolean language plpgsql as $$
begin
    return exists (select from {s}.instance i where i.id = p_instance and i.until > clock_timestamp());
end $$;

-- The line without the dead at its head.
create function {s}.living_1(p_line bigint[]) returns bigint[] language plpgsql as $$
begin
    while cardinality(p_line) > 0 and not {s}.alive_1(p_line[1]) loop
        p_line := p_line[2:];
    end loop;
    return p_line;
end $$;

-- Tells an instance that it may ask for a turn; 0: all of them. Only who listens: a transaction that tells something
-- is committed alone in its database.
create function {s}.tell_freed_1(p_instance bigint, p_resource uuid) returns void language plpgsql as $$
begin
    if exists (select from {s}.instance i where i.listens and (i.id = p_instance or p_instance = 0)) then
        perform pg_notify('{channel}', 'f' || p_instance || ' ' || p_resource);
    end if;
end $$;

-- turned: 1 granted, 2 busy, 3 rests (for rest_ms), 4 the instance is not alive.
create function {s}.take_turn_1(
    p_resource uuid, p_name bytea, p_token bigint, p_instance bigint, p_now bigint,
    out turned int, out rest_ms bigint, out fence bigint, out minted bigint,
    out first_number bigint, out second_number bigint
) language plpgsql set enable_seqscan = off as $$
declare
    t {s}.turn;
    moment timestamptz;
    waits bigint[];
    offered timestamptz;
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
    if t.token = p_token then
        -- The reply was lost: it is the same turn.
        turned := 1;
        fence := t.fence;
        first_number := t.first_number;
        second_number := t.second_number;
    elsif t.token is not null then
        turned := 2;
        if not p_instance = any (t.line) then
            update {s}.turn x set line = t.line || p_instance where x.resource = p_resource;
        end if;
        return;
    elsif t.rest_until > moment then
        turned := 3;
        rest_ms := ceil(extract(epoch from t.rest_until - moment) * 1000);
        return;
    else
        waits := t.line;
        offered := t.offer_until;
        while cardinality(waits) > 0 and waits[1] <> p_instance loop
            exit when coalesce(offered > moment, true) and {s}.alive_1(waits[1]);
            waits := waits[2:];
            offered := null;
        end loop;
        if cardinality(waits) > 0 and waits[1] <> p_instance then
            turned := 2;
            if offered is null then
                offered := moment + interval '1 second';
                perform {s}.tell_freed_1(waits[1], p_resource);
            end if;
            if not p_instance = any (waits) then
                waits := waits || p_instance;
            end if;
            update {s}.turn x set line = waits, offer_until = offered where x.resource = p_resource;
            return;
        end if;
        turned := 1;
        fence := {s}.number_1();
        first_number := {s}.number_1();
        second_number := {s}.number_1();
        update {s}.turn x set
            name = p_name, token = p_token, instance = p_instance, fence = take_turn_1.fence,
            first_number = take_turn_1.first_number, second_number = take_turn_1.second_number,
            rest_until = null, line = array_remove(waits, p_instance), offer_until = null, used_at = moment
        where x.resource = p_resource;
    end if;
    minted := coalesce((
        select case when c.later_at <= p_now then c.later else c.number end
        from {s}.counter c where c.resource = p_resource
    ), 0);
end $$;

-- Who is first in the line of a free resource has the first word now, and is told. The caller has the row.
create function {s}.offer_1(p_resource uuid, p_line bigint[], p_rest_until timestamptz) returns void
language plpgsql set enable_seqscan = off as $$
declare
    moment timestamptz := clock_timestamp();
    waits bigint[] := {s}.living_1(p_line);
    offered timestamptz;
begin
    -- From a rest all come back by themselves.
    if cardinality(waits) > 0 and coalesce(p_rest_until <= moment, true) then
        offered := moment + interval '1 second';
        perform {s}.tell_freed_1(waits[1], p_resource);
    end if;
    update {s}.turn x set
        token = null, instance = null, rest_until = p_rest_until, line = waits, offer_until = offered, used_at = moment
    where x.resource = p_resource;
end $$;

create function {s}.end_turn_1(p_resource uuid, p_token bigint, p_rest_ms bigint) returns void
language plpgsql set enable_seqscan = off as $$
declare
    t {s}.turn;
begin
    select * into t from {s}.turn x where x.resource = p_resource and x.token = p_token for update;
    if found then
        perform {s}.offer_1(p_resource, t.line, clock_timestamp() + p_rest_ms * interval '1 millisecond');
    end if;
end $$;

create function {s}.leave_line_1(p_resource uuid, p_instance bigint) returns void
language plpgsql set enable_seqscan = off as $$
declare
    t {s}.turn;
begin
    select * into t from {s}.turn x where x.resource = p_resource for update;
    if not found or not p_instance = any (t.line) then
        return;
    end if;
    if t.token is null and t.line[1] = p_instance then
        perform {s}.offer_1(p_resource, t.line[2:], t.rest_until);
    else
        update {s}.turn x set line = array_remove(t.line, p_instance) where x.resource = p_resource;
    end if;
end $$;

create function {s}.end_rest_1(p_resource uuid) returns void language plpgsql set enable_seqscan = off as $$
declare
    t {s}.turn;
begin
    select * into t from {s}.turn x where x.resource = p_resource and x.token is null for update;
    if found and t.rest_until > clock_timestamp() then
        perform {s}.offer_1(p_resource, t.line, null);
        -- Who was told of the rest stands in no line.
        perform {s}.tell_freed_1(0, p_resource);
    end if;
end $$;

-- Ends the turns of a dead instance in which nothing was forwarded, and takes it out of the lines (S3). The rest of it
-- is forgotten by sweep_1, once nothing is left.
create function {s}.bury_1(p_instance bigint) returns void language plpgsql as $$
declare
    t {s}.turn;
begin
    if {s}.alive_1(p_instance) then
        return;
    end if;
    for t in
        select * from {s}.turn x where x.instance = p_instance or p_instance = any (x.line)
        order by x.resource for update
    loop
        if t.token is null or t.instance <> p_instance then
            if t.token is null and t.line[1] = p_instance then
                perform {s}.offer_1(t.resource, t.line[2:], t.rest_until);
            else
                update {s}.turn x set line = array_remove(t.line, p_instance) where x.resource = t.resource;
            end if;
        elsif not exists (
            select from {s}.record r where r.instance is not null and r.owner = t.token and r.phase = 1
        ) then
            perform {s}.offer_1(t.resource, array_remove(t.line, p_instance), null);
        end if;
    end loop;
end $$;
