-- What stands beside the records: cells, what was told, and the log of events.
--
-- The order of locks goes on: after rows of `record` those of `cell` (those that stand before those that are new, and by
-- kind and name), then those of `turn`. Who numbers events or lets go of them has the lock of number_events_3 and then
-- the row of `log`; no write waits for either.

-- Small things by kind and name. When somebody has to look at one is by this server's clock; null: nobody has to.
create table {s}.cell (
    kind bigint not null,
    name uuid not null,
    stamp bigint not null,
    due timestamptz,
    value bytea not null,
    primary key (kind, name)
) with (fillfactor = 80);
create index cell_due on {s}.cell (kind, due) where due is not null;

-- What was told of late to those that do not listen.
create table {s}.told (
    topic uuid primary key,
    moment timestamptz not null
) with (fillfactor = 60);

-- Events in the order in which they were written, not numbered yet. Of two writes the one that began after the other was
-- committed has the higher id.
create table {s}.outbox (
    id bigint generated always as identity primary key,
    moment timestamptz not null default clock_timestamp(),
    value bytea not null
);

-- The log (E1). Numbers are given one transaction after the other, so that who has read up to one has missed none.
create table {s}.event (
    n bigint primary key,
    moment timestamptz not null,
    value bytea not null
);

-- One row: the number of the last event, the one before the first that is kept, and when somebody last read.
create table {s}.log (
    epoch bigint not null,
    timeline text not null,
    last bigint not null,
    before bigint not null,
    read_at timestamptz not null
) with (fillfactor = 20);

-- The server's history: after a failover or a restore it is another one, in which numbers may have been given again.
create function {s}.timeline_3() returns text language plpgsql as $$
begin
    return substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8);
exception when others then
    -- Some servers do not tell.
    return '';
end $$;

insert into {s}.log
values ((extract(epoch from clock_timestamp()) * 1000000)::bigint, {s}.timeline_3(), 0, 0, '-infinity');

-- How long until then, in milliseconds, and not less than none; null for never.
create function {s}.left_3(p_due timestamptz) returns bigint language sql volatile as $$
    select case when p_due is not null then
        greatest(ceil(extract(epoch from p_due - clock_timestamp()) * 1000)::bigint, 0)
    end
$$;

-- The lease of a resource whose turn was just granted (turned = 1): read behind the lock of the turn, by a statement of
-- its own.
create function {s}.lease_3(
    p_resource uuid, p_turned int, out lease_stamp bigint, out lease_left bigint, out lease_value bytea
) language plpgsql set enable_seqscan = off as $$
begin
    if p_turned = 1 then
        select c.stamp, {s}.left_3(c.due), c.value into lease_stamp, lease_left, lease_value
        from {s}.cell c where c.kind = 1 and c.name = p_resource;
    end if;
end $$;

-- Locks cells that are to be swapped. 0 other content stands in one of them, 1 they are to be swapped, 2 they were.
create function {s}.fit_3(p_kinds bigint[], p_names uuid[], p_was bigint[], p_stamps bigint[]) returns int
language plpgsql set enable_seqscan = off as $$
declare
    fit int := 2;
    one record;
    standing bigint;
begin
    for one in
        select * from unnest(p_kinds, p_names, p_was, p_stamps) u(kind, name, was, stamp) order by u.kind, u.name
    loop
        select c.stamp into standing from {s}.cell c where c.kind = one.kind and c.name = one.name for update;
        if standing is not distinct from one.stamp then
            continue;
        end if;
        fit := case when standing is not distinct from one.was then least(fit, 1) else 0 end;
    end loop;
    return fit;
end $$;

-- Swaps cells that fit, and tells the other instances of it.
create function {s}.put_3(
    p_instance bigint, p_kinds bigint[], p_names uuid[], p_was bigint[], p_stamps bigint[], p_lefts bigint[],
    p_values bytea[], p_topics uuid[]
) returns void language plpgsql set enable_seqscan = off as $$
declare
    one record;
begin
    for one in
        select u.kind, u.name, u.was, u.stamp, u.value,
            clock_timestamp() + u.left_ms * interval '1 millisecond' as due
        from unnest(p_kinds, p_names, p_was, p_stamps, p_lefts, p_values) u(kind, name, was, stamp, left_ms, value)
        order by u.kind, u.name
    loop
        if one.stamp is null then
            delete from {s}.cell c where c.kind = one.kind and c.name = one.name and c.stamp = one.was;
            continue;
        end if;
        update {s}.cell c set stamp = one.stamp, due = one.due, value = one.value
        where c.kind = one.kind and c.name = one.name and c.stamp in (one.was, one.stamp);
        continue when found;
        -- Where none stood there was no lock either.
        insert into {s}.cell (kind, name, stamp, due, value)
        values (one.kind, one.name, one.stamp, one.due, one.value) on conflict do nothing;
        if not found then
            raise exception 'another was first' using errcode = 'serialization_failure';
        end if;
    end loop;
    for one in select distinct u.topic from unnest(p_topics) u(topic) where u.topic is not null order by 1 loop
        if exists (select from {s}.instance i where i.listens and i.id <> p_instance) then
            perform pg_notify('{channel}', 't' || one.topic);
        end if;
        if exists (
            select from {s}.instance i where not i.listens and i.id <> p_instance and i.until > clock_timestamp()
        ) then
            insert into {s}.told (topic, moment) values (one.topic, clock_timestamp())
            on conflict (topic) do update set moment = excluded.moment;
        end if;
    end loop;
end $$;

-- Writes an event down. Whether somebody reads the log: then it is to be numbered soon.
create function {s}.tell_3(p_event bytea) returns boolean language plpgsql as $$
begin
    if p_event is null then
        return false;
    end if;
    insert into {s}.outbox (value) values (p_event);
    return exists (select from {s}.log l where l.read_at > clock_timestamp() - interval '1 minute');
end $$;

-- As commit_1, or commit_2 where turns are held by session locks too, with cells and an event. Phase 4 is queued: a job
-- that is nobody's.
create function {s}.commit_3(
    p_id uuid, p_owner bigint, p_fits int, p_set int, p_goes_out boolean, p_now bigint, p_instance bigint,
    p_new_owner bigint, p_phase smallint, p_fingerprint uuid, p_started_at bigint, p_route bytea, p_resource bytea,
    p_resource_id uuid, p_state bytea, p_followed boolean, p_expires_at bigint, p_answer bytea,
    p_move uuid, p_to bigint, p_later_at bigint, p_later bigint, p_ends_rest boolean,
    p_executed boolean, p_who bytea, p_why bytea, p_moment bigint, p_kept_until bigint,
    p_turn uuid, p_turn_token bigint, p_turn_rest_ms bigint,
    p_advisory boolean, p_event bytea, p_kinds bigint[], p_names uuid[], p_was bigint[], p_stamps bigint[],
    p_lefts bigint[], p_values bytea[], p_topics uuid[],
    out done boolean, out awaited boolean
) language plpgsql set enable_seqscan = off as $$
declare
    r {s}.record;
    fit int := 1;
    applied boolean;
begin
    if p_goes_out then
        perform from {s}.record x
        where x.id = p_id or x.unsettled and x.resource_id = (select y.resource_id from {s}.record y where y.id = p_id)
        order by x.id for update;
    end if;
    select * into r from {s}.record x where x.id = p_id for update;
    applied := found and r.owner = p_owner and (p_fits >> r.phase) & 1 = 1
        and not (p_advisory and p_goes_out and r.instance is not null and not {s}.alive_1(r.instance));
    -- A job is taken by nobody who is taken for dead.
    if applied and r.phase = 4 and p_set = 1 and not {s}.alive_1(p_instance) then
        done := false;
        return;
    end if;
    if p_names <> '{}' then
        fit := {s}.fit_3(p_kinds, p_names, p_was, p_stamps);
    end if;
    if fit <> 1 then
        done := fit = 2;
        if p_turn is not null and p_advisory then
            perform {s}.end_turn_2(p_turn, p_turn_token, p_turn_rest_ms);
        elsif p_turn is not null then
            perform {s}.end_turn_1(p_turn, p_turn_token, p_turn_rest_ms);
        end if;
        return;
    end if;
    -- Before the turn ends: a session lock that is let go is not taken back with the transaction.
    if applied then
        if p_names <> '{}' then
            perform {s}.put_3(p_instance, p_kinds, p_names, p_was, p_stamps, p_lefts, p_values, p_topics);
        end if;
        awaited := {s}.tell_3(p_event);
        -- Who waits for its end waits for a job from now on, and looks again.
        if p_phase = 4 and r.watched then
            perform pg_notify('{channel}', 'e' || p_id);
        end if;
    end if;
    if p_advisory then
        done := {s}.commit_2(
            p_id, p_owner, p_fits, p_set, p_goes_out, p_now, p_instance, p_new_owner, p_phase, p_fingerprint,
            p_started_at, p_route, p_resource, p_resource_id, p_state, p_followed, p_expires_at, p_answer, p_move,
            p_to, p_later_at, p_later, p_ends_rest, p_executed, p_who, p_why, p_moment, p_kept_until, p_turn,
            p_turn_token, p_turn_rest_ms
        );
    else
        done := {s}.commit_1(
            p_id, p_owner, p_fits, p_set, p_goes_out, p_now, p_instance, p_new_owner, p_phase, p_fingerprint,
            p_started_at, p_route, p_resource, p_resource_id, p_state, p_followed, p_expires_at, p_answer, p_move,
            p_to, p_later_at, p_later, p_ends_rest, p_executed, p_who, p_why, p_moment, p_kept_until, p_turn,
            p_turn_token, p_turn_rest_ms
        );
    end if;
    if applied and not done then
        raise exception 'the instance lapsed in between' using errcode = 'serialization_failure';
    end if;
end $$;

-- Cells that are swapped without a record, with the end of a turn and an event.
create function {s}.swap_3(
    p_turn uuid, p_turn_token bigint, p_turn_rest_ms bigint, p_advisory boolean, p_instance bigint, p_event bytea,
    p_kinds bigint[], p_names uuid[], p_was bigint[], p_stamps bigint[], p_lefts bigint[], p_values bytea[],
    p_topics uuid[], out done boolean, out awaited boolean
) language plpgsql set enable_seqscan = off as $$
declare
    -- Nothing at all is no swap that could have been done before.
    fit int := case when cardinality(p_kinds) > 0 then {s}.fit_3(p_kinds, p_names, p_was, p_stamps) else 1 end;
begin
    done := fit <> 0;
    if fit = 1 then
        perform {s}.put_3(p_instance, p_kinds, p_names, p_was, p_stamps, p_lefts, p_values, p_topics);
        awaited := {s}.tell_3(p_event);
    end if;
    if p_turn is not null and p_advisory then
        perform {s}.end_turn_2(p_turn, p_turn_token, p_turn_rest_ms);
    elsif p_turn is not null then
        perform {s}.end_turn_1(p_turn, p_turn_token, p_turn_rest_ms);
    end if;
end $$;

-- Gives numbers to at most a thousand events, in the order of their ids. How many.
create function {s}.number_events_3() returns bigint language plpgsql set enable_seqscan = off as $$
declare
    l {s}.log;
    line text;
    many bigint;
begin
    if not exists (select from {s}.outbox) then
        return 0;
    end if;
    perform pg_advisory_xact_lock({lock}, 2);
    line := {s}.timeline_3();
    select * into l from {s}.log for update;
    if l.timeline <> line then
        l.epoch := greatest(l.epoch + 1, (extract(epoch from clock_timestamp()) * 1000000)::bigint);
    end if;
    with taken as (
        delete from {s}.outbox o
        where o.id = any (array(select x.id from {s}.outbox x order by x.id limit 1000))
        returning o.id, o.moment, o.value
    ), numbered as (
        insert into {s}.event (n, moment, value)
        select l.last + row_number() over (order by t.id), t.moment, t.value from taken t
        returning 1
    ) select count(*) into many from numbered;
    update {s}.log set epoch = l.epoch, timeline = line, last = l.last + many;
    if many > 0 and exists (select from {s}.instance i where i.listens) then
        perform pg_notify('{channel}', 'v');
    end if;
    return many;
end $$;

-- The end of the log.
create function {s}.last_event_3(out epoch bigint, out number bigint) language plpgsql as $$
begin
    perform {s}.number_events_3();
    update {s}.log l set read_at = clock_timestamp() where l.read_at < clock_timestamp() - interval '5 seconds';
    select l.epoch, l.last into epoch, number from {s}.log l;
end $$;

-- Events behind a number; one without any: what follows it is not held.
create function {s}.events_3(p_epoch bigint, p_after bigint, p_most int) returns table (n bigint, value bytea)
language plpgsql set enable_seqscan = off as $$
declare
    l {s}.log;
begin
    perform {s}.number_events_3();
    update {s}.log x set read_at = clock_timestamp() where x.read_at < clock_timestamp() - interval '5 seconds';
    select * into l from {s}.log;
    if l.epoch <> p_epoch or p_after < l.before or p_after > l.last then
        return query select null::bigint, null::bytea;
        return;
    end if;
    return query select e.n, e.value from {s}.event e where e.n > p_after order by e.n limit p_most;
end $$;

-- Lets go of at most p_most events that are too many or too old, and of what was told to those that do not listen.
-- Whether there is more to do.
create function {s}.trim_3(p_history bigint, p_ttl_ms bigint, p_most int) returns boolean
language plpgsql set enable_seqscan = off as $$
declare
    l {s}.log;
    numbered bigint;
    cut bigint;
begin
    numbered := {s}.number_events_3();
    select * into l from {s}.log for update;
    select greatest(max(e.n), l.last - p_history, l.before) into cut from (
        select x.n, x.moment from {s}.event x order by x.n limit p_most
    ) e where e.moment < clock_timestamp() - p_ttl_ms * interval '1 millisecond';
    cut := least(cut, l.before + p_most);
    if cut > l.before then
        delete from {s}.event e where e.n <= cut;
        update {s}.log set before = cut;
    end if;
    delete from {s}.told t where t.moment < clock_timestamp() - interval '1 minute';
    return numbered >= 1000 or cut - l.before >= p_most;
end $$;

-- As watch_1, also of what is queued.
create function {s}.watch_3(p_id uuid, p_now bigint) returns setof {s}.record
language plpgsql set enable_seqscan = off as $$
begin
    perform set_config('synchronous_commit', 'off', true);
    update {s}.record x set watched = true where x.id = p_id and x.phase in (0, 1, 4) and not x.watched;
    return query select * from {s}.record x where x.id = p_id and coalesce(x.expires_at > p_now, true);
end $$;
