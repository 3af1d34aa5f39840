//! The routes of a campaign, one per kind of guard, version and rule for unknown ends.

use std::time::Duration;

/// A route and what may be asked of its resources.
#[derive(Clone, Copy, Debug)]
pub struct Course {
    pub name: &'static str,
    lines: &'static str,
    /// Documents are read, swapped, created and deleted; otherwise `POST` adds.
    pub register: bool,
    /// Writes to one resource take turns.
    pub turns: bool,
    /// A version is refused as stale only where another value is there. A minted one also moves without.
    pub exact: bool,
}

const fn register(name: &'static str, lines: &'static str) -> Course {
    Course { name, lines, register: true, turns: true, exact: true }
}

const fn adding(name: &'static str, lines: &'static str, turns: bool) -> Course {
    Course { name, lines, register: false, turns, exact: true }
}

pub const COURSES: [Course; 10] = [
    register("hash", ""),
    register("field", "version = { field = \"/rev\" }"),
    register("etag", "version = \"etag\""),
    Course { exact: false, ..register("mint", "version = \"mint\"") },
    register("upstream", "version = \"upstream\""),
    register(
        "hold",
        "idempotency = { on_unknown = \"hold\", in_flight = \"wait\" }\nversion.refresh = false",
    ),
    register("wait", "idempotency = { in_flight = \"wait\", on_5xx = \"hold\" }\nqueue.reads = \"wait\""),
    adding("queue", "version = \"none\"", true),
    adding("rerun", "version = \"none\"\nidempotency.on_unknown = \"rerun\"", true),
    adding("tool", "guard = \"tool\"", false),
];

/// Where the tasks are written: whoever has one finishes it there.
const TASKS: Course = adding("tasks", TASK_LINES, true);
/// A claim whose acknowledgment carries the write is kept for as long as that may take, also where Onceward is killed
/// meanwhile: so much, and the longest wait for a turn.
const TASK_LINES: &str = "guard = \"tool\"\nresource = \"/tasks/{id}\"\nlimits.upstream_total = \"5s\"";

/// How long a claim is kept for the write that its acknowledgment carries: `queue.max_wait` and what [`TASK_LINES`] says.
pub const ACK_HOLD: Duration = Duration::from_secs(2 + 5);

/// How long a claim lives that is not acknowledged.
pub const VISIBILITY: Duration = Duration::from_millis(1_500);

/// How many resources each route has.
pub const RESOURCES: usize = 4;

/// Unknown ends rest for so long (Q5), which is longer than a request can live in this upstream and on the way to it.
const SETTLE: &str = "1s";
/// How long a request lives in the upstream; the relay to it holds what it has for at most [`HOLD`].
pub const LIFE: Duration = Duration::from_millis(350);
pub const HOLD: Duration = Duration::from_millis(200);

pub fn course_of(resource: &str) -> &'static Course {
    let name = resource.split('/').nth(1).unwrap_or_default();
    let mut all = COURSES.iter().chain([&TASKS]);
    all.find(|course| course.name == name).unwrap_or_else(|| panic!("no route for {resource}"))
}

pub fn resources() -> impl Iterator<Item = String> {
    COURSES.iter().flat_map(|course| (0..RESOURCES).map(move |n| format!("/{}/{n}", course.name)))
}

/// The configuration, with waits so short that all of them happen within seconds; with or without jobs.
/// `lines`: what there is to say of the store besides.
pub fn configuration((store, lines): (&str, &str), upstream: &str, jobs: bool) -> String {
    let secret = "00".repeat(32);
    let mut text = format!(
        "[server]\nshutdown_grace = \"1s\"\n[log]\nlevel = \"warn\"\n[store]\nurl = \"{store}\"\n{lines}alive = \"1s\"\n\
         secret = \"{secret}\"\n[idempotency]\nsettle = \"{SETTLE}\"\nmax_wait = \"2s\"\n[queue]\nmax_wait = \"2s\"\nmax_waiting = 12\n\
         [limits]\nupstream_response = \"600ms\"\nupstream_idle = \"600ms\"\n\
         [events]\nhistory = 1000000\nheartbeat = \"500ms\"\n"
    );
    for Course { name, lines, .. } in COURSES.iter().chain([&TASKS]) {
        text += &format!(
            "[[routes]]\npath = \"/{name}/{{id}}\"\nupstream = \"{upstream}\"\nasync = {jobs}\n{lines}\n"
        );
    }
    let visibility = VISIBILITY.as_millis();
    text + &format!(
        "[[queues]]\nname = \"tasks\"\nsource = \"{upstream}\"\nlist = \"GET /tasks?status=open\"\npoll = \"100ms\"\n\
         visibility = \"{visibility}ms\"\nmax_attempts = 1000\nmax_wait = \"2s\"\n"
    )
}
