//! The statements, each one round trip. They are parsed and planned by the server whenever they come: what is behind
//! them is kept by functions, whose plans the server's sessions keep.

use super::rows::RECORD;
use super::schema::Schema;

/// All of them, for one schema.
pub(super) struct Sql {
    pub(super) claim: String,
    pub(super) claim_in_turn: String,
    pub(super) claim_and_lease: String,
    pub(super) commit: String,
    /// A commit with what stands beside.
    pub(super) commit_beside: String,
    pub(super) swap: String,
    pub(super) cell: String,
    pub(super) due: String,
    pub(super) cells: String,
    pub(super) last_event: String,
    pub(super) events: String,
    pub(super) number_events: String,
    pub(super) trim_events: String,
    pub(super) poll_told: String,
    pub(super) read: String,
    pub(super) answer: String,
    pub(super) resolutions: String,
    pub(super) number: String,
    pub(super) moves: String,
    pub(super) minted: String,
    pub(super) unknown: String,
    pub(super) scan_done: String,
    pub(super) scan_running: String,
    pub(super) scan_queued: String,
    pub(super) scan_unknown: String,
    pub(super) scan_all: String,
    pub(super) sweep: String,
    pub(super) take_turn: String,
    pub(super) end_turn: String,
    pub(super) leave_line: String,
    pub(super) end_rest: String,
    pub(super) busy: String,
    pub(super) watch: String,
    pub(super) lapsed: String,
    pub(super) left_by: String,
    pub(super) bury: String,
    pub(super) hello: String,
    pub(super) renew: String,
    pub(super) bye: String,
    pub(super) poll: String,
    pub(super) let_go: String,
}

/// Whether it takes writes.
pub(super) const REACH: &str = "select current_setting('transaction_read_only') = 'off' as takes_writes";

const HELLO: &str = "
    insert into {s}.instance (id, until, listens)
    values ($1, clock_timestamp() + $2 * interval '1 millisecond', $3)
    returning (select epoch from {s}.schema) as epoch";

const BYE: &str = "
    update {s}.instance set until = clock_timestamp(), listens = false where id = $1 and until > clock_timestamp()";

/// On the session of the life that begins.
const LOCKED_HELLO: &str = "select {s}.hello_2($1, $2, $3, $4) as epoch";

/// On the session of the life that ends.
const LOCKED_BYE: &str = "
    with over as (
        update {s}.instance set until = clock_timestamp(), listens = false, pid = null
        where id = $1 and until > clock_timestamp()
    ) select pg_advisory_unlock_all()";

const POLL: &str = "
    select 0 as kind, w.id from unnest($1) w(id)
    left join {s}.record r on r.id = w.id where r.id is null or r.phase not in (0, 1)
    union all
    select 1, t.resource from {s}.turn t
    where t.resource = any ($2) and t.token is null
        and coalesce(t.rest_until <= clock_timestamp(), true) and (t.line = '{}' or t.line[1] = $3)";

/// What was told to those that do not listen since a moment and a little before, and the end of the log.
const POLL_TOLD: &str = "
    select 0 as kind, t.topic as id, (extract(epoch from t.moment) * 1000000)::bigint as at
    from {s}.told t where t.moment > to_timestamp($1 / 1000000.0) - interval '2 seconds'
    union all
    select 1, null, l.last + (select count(*) from (select from {s}.outbox limit 1) o) from {s}.log l";

impl Sql {
    /// `advisory`: turns are held by session locks too.
    pub(super) fn new(schema: &Schema, advisory: bool) -> Self {
        let sql = |text: &str| schema.fill(text);
        let call = |function: &str, parameters: usize| {
            let numbered: Vec<_> = (1..=parameters).map(|n| format!("${n}")).collect();
            schema.fill(&format!("select * from {{s}}.{function}({})", numbered.join(", ")))
        };
        // The lease is read behind the turn's lock, by a function that looks anew. `taken`: the column that says 1 where it is
        // to be told.
        let with_lease = |function: &str, parameters: usize, resource: &str, taken: &str| {
            let asked = call(function, parameters);
            schema.fill(&format!("{asked} x, lateral {{s}}.lease_3({resource}, x.{taken}) l"))
        };
        let (claim, take_turn) =
            if advisory { ("claim_2", "take_turn_2") } else { ("claim_1", "take_turn_1") };
        let records =
            |rest: &str| schema.fill(&format!("select id, {RECORD} from {{s}}.record where {rest}"));
        Self {
            claim: call(claim, 16),
            claim_in_turn: with_lease(claim, 16, "$14", "turned"),
            claim_and_lease: with_lease(claim, 16, "$17", "claimed"),
            commit: call(if advisory { "commit_2" } else { "commit_1" }, 31),
            commit_beside: call("commit_3", 40),
            swap: call("swap_3", 13),
            cell: sql("select stamp, {s}.left_3(due) as left_ms, value from {s}.cell where kind = $1 and name = $2"),
            due: sql("select name, stamp, {s}.left_3(due) as left_ms, value from {s}.cell
                where kind = $1 and due <= clock_timestamp() + $2 * interval '1 millisecond' order by due limit $3"),
            cells: sql("select name, stamp, {s}.left_3(due) as left_ms, substring(value from 1 for $3::int) as value
                from {s}.cell where kind = $1 limit $2"),
            last_event: call("last_event_3", 0),
            events: call("events_3", 3),
            number_events: sql("select {s}.number_events_3() as many"),
            trim_events: sql("select {s}.trim_3($1, $2, $3) as more"),
            poll_told: sql(POLL_TOLD),
            read: records("id = $1 and coalesce(expires_at > $2, true)"),
            answer: sql("select answer from {s}.record where id = $1"),
            resolutions: sql("select executed, who, why, moment, expires_at from {s}.resolution
                where id = $1 and expires_at > $2 order by n desc limit 1000"),
            number: sql("select {s}.number_1() as number"),
            moves: call("move_1", 6),
            minted: sql("select case when later_at <= $2 then later else number end as number
                from {s}.counter where resource = $1"),
            unknown: sql("select count(*) as n from {s}.record where unsettled and phase = 3"),
            scan_done: records("expires_at > $2 and phase = 2 limit $1"),
            scan_running: records("instance is not null and phase = $3 and $2 = $2 limit $1"),
            // What waits has a cell, and no index of its own.
            scan_queued: records("id in (select c.name from {s}.cell c where c.kind = 4)
                and phase = 4 and $2 = $2 limit $1"),
            scan_unknown: records("unsettled and phase = 3 and expires_at > $2 limit $1"),
            scan_all: records("coalesce(expires_at > $2, true) limit $1"),
            sweep: call("sweep_1", 3),
            take_turn: with_lease(take_turn, 5, "$1", "turned"),
            end_turn: call(if advisory { "end_turn_2" } else { "end_turn_1" }, 3),
            leave_line: call("leave_line_1", 2),
            end_rest: call("end_rest_1", 1),
            busy: sql("select name, token is not null as in_flight,
                    ceil(extract(epoch from rest_until - clock_timestamp()) * 1000)::bigint as rest_ms
                from {s}.turn
                where token is not null or line <> '{}' or rest_until > clock_timestamp() limit $1"),
            watch: call("watch_3", 2),
            lapsed: call("lapsed_1", 0),
            left_by: records("instance = $1 limit $2"),
            bury: call("bury_2", 1),
            hello: sql(if advisory { LOCKED_HELLO } else { HELLO }),
            renew: sql("update {s}.instance
                set until = clock_timestamp() + $2 * interval '1 millisecond', listens = $3
                where id = $1 and until > clock_timestamp() returning (select epoch from {s}.schema) as epoch"),
            bye: sql(if advisory { LOCKED_BYE } else { BYE }),
            poll: sql(POLL),
            let_go: call("let_go_1", 3),
        }
    }
}
