-- What Onceward keeps. {s} is its schema. Texts that come from outside are bytes: they may hold what a text in the
-- database's encoding cannot.

-- Instances that are alive until then, by this server's clock (S3).
create table {s}.instance (
    id bigint primary key,
    until timestamptz not null,
    -- Whether it has a session that hears of what is told.
    listens boolean not null
) with (fillfactor = 50);

-- One operation each. Phases: 0 claimed, 1 forwarded, 2 done, 3 unknown. Times are milliseconds since the Unix epoch.
create table {s}.record (
    id uuid primary key,
    owner bigint not null,
    phase smallint not null,
    fingerprint uuid not null,
    started_at bigint not null,
    route bytea not null,
    resource bytea not null,
    resource_id uuid not null,
    state bytea not null,
    -- Another write has gone to the resource since (K12).
    followed boolean not null,
    -- Unknown, or unknown before and running again (K12).
    unsettled boolean not null,
    -- Null while it runs (K15).
    expires_at bigint,
    -- Whose it is while it runs.
    instance bigint,
    -- Somebody waits for its end.
    watched boolean not null default false,
    answer bytea
);
create index record_instance on {s}.record (instance) where instance is not null;
create index record_unsettled on {s}.record (resource_id) where unsettled;
create index record_expires_at on {s}.record (expires_at) where expires_at is not null;

-- Whose turn it is on a resource, and which instances wait for it, the first first (Q4). No index but the key, so that
-- a turn that comes and goes changes nothing but its row.
create table {s}.turn (
    resource uuid primary key,
    name bytea not null,
    token bigint,
    instance bigint,
    fence bigint,
    first_number bigint,
    second_number bigint,
    rest_until timestamptz,
    line bigint[] not null default '{}',
    -- Until then the head of the line has the first word, once it was told.
    offer_until timestamptz,
    used_at timestamptz not null default clock_timestamp()
) with (fillfactor = 60);

-- Minted versions (V8): the number now, and the one from a time on. Kept for good: no tag may come back.
create table {s}.counter (
    resource uuid primary key,
    number bigint not null,
    later_at bigint,
    later bigint
) with (fillfactor = 80);

-- What operators decided (O4).
create table {s}.resolution (
    n bigint generated always as identity primary key,
    id uuid not null,
    executed boolean not null,
    who bytea not null,
    why bytea not null,
    moment bigint not null,
    expires_at bigint not null
);
create index resolution_id on {s}.resolution (id);
create index resolution_expires_at on {s}.resolution (expires_at);

-- Fences and numbers of versions, see number_1.
create sequence {s}.number as bigint;
