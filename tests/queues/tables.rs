//! Tasks from a Postgres table, on a real server.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio_postgres::{Client, NoTls};

use super::ack_with_write::is_one_with_its_write;
use super::drained::{EACH, KILLS, Source, drains};
use super::{Claim, claims, none, routed};
use crate::harness::servers::postgres::Postgres;
use crate::harness::{Agent, Proxy, Upstream, within};

async fn client(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}

/// A table with so many tasks.
async fn filled(count: u32) -> (Postgres, Client) {
    let postgres = Postgres::start().await;
    let client = client(&postgres.url()).await;
    let made = format!(
        "create table tasks (id bigint primary key, status text not null default 'open', payload jsonb not null);
         insert into tasks select n, 'open', jsonb_build_object('id', n) from generate_series(1, {count}) n"
    );
    client.batch_execute(&made).await.expect("a table");
    (postgres, client)
}

/// The same, and a proxy over it.
async fn table(count: u32, lines: &str) -> (Postgres, Client, Proxy) {
    let (postgres, client) = filled(count).await;
    let proxy = Proxy::start(&config(&postgres.url(), lines)).await;
    (postgres, client, proxy)
}

fn config(url: &str, lines: &str) -> String {
    format!(
        "[server]\n\n[[routes]]\npath = \"/x\"\nupstream = \"http://127.0.0.1:9\"\n\n[[queues]]\nname = \"tasks\"\n\
         source = \"{url}\"\ntable = \"tasks\"\ntask = \"payload\"\nready = \"status = 'open'\"\n{lines}\n"
    )
}

async fn count(client: &Client, of: &str) -> i64 {
    client.query_one(&format!("select count(*) from {of}"), &[]).await.expect("a count").get(0)
}

// J2, J3
async fn a_table_hands_out_its_rows(lines: &str) {
    let (_postgres, client, proxy) =
        table(2, &format!("done = \"status = 'done'\"\nvisibility = \"600ms\"\n{lines}")).await;
    let agent = Agent::new(&proxy);
    let first = claims(&agent, "a").await;
    assert_eq!((first.task.clone(), first.attempt), (json!({"id": 1}), 1));
    let second = claims(&agent, "b").await;
    assert_eq!(second.task, json!({"id": 2}));
    agent.post(&first.path("ack")).await.is(204);
    assert_eq!(count(&client, "tasks where status = 'done'").await, 1);
    let again = claims(&agent, "c").await;
    assert_eq!((again.task.clone(), again.attempt), (json!({"id": 2}), 2));
    assert!(again.fence > second.fence);
    agent.post(&second.path("ack")).await.refused("claim-lost");
    agent.post(&again.path("release")).await.is(204);
    let third = claims(&agent, "d").await;
    assert_eq!(third.attempt, 3);
    agent.post(&third.path("ack")).await.is(204);
    none(&agent, "e").await;
    assert_eq!(count(&client, "tasks where status = 'done'").await, 2);
    // Agents put tasks in, where the rest of a row has defaults.
    client
        .batch_execute("create sequence ids start 10; alter table tasks alter id set default nextval('ids')")
        .await
        .unwrap();
    let put = agent.post("/.onceward/queues/tasks/tasks").key("p").json(&json!({"n": 1})).await;
    assert_eq!(put.is(201).json(), json!({"id": "10"}));
    agent.post("/.onceward/queues/tasks/tasks").key("p").json(&json!({"n": 1})).await.replays(&put);
    assert_eq!(count(&client, "tasks where status = 'open'").await, 1);
    agent
        .post("/.onceward/queues/tasks/tasks")
        .key("q")
        .body("no json")
        .await
        .refused("upstream-unreachable");
    assert_eq!(claims(&agent, "f").await.task, json!({"n": 1}));
}

#[tokio::test]
async fn a_table_hands_out_its_rows_by_rows() {
    a_table_hands_out_its_rows("").await;
}

#[tokio::test]
async fn a_table_hands_out_its_rows_by_advisory_locks() {
    a_table_hands_out_its_rows("locks = \"advisory\"").await;
}

// J2: by the numbers, not by their digits
#[tokio::test]
async fn rows_come_in_their_order() {
    for locks in ["rows", "advisory"] {
        let (_postgres, _client, proxy) = table(12, &format!("order = \"id\"\nlocks = \"{locks}\"")).await;
        let agent = Agent::new(&proxy);
        for n in 1..=12 {
            assert_eq!(claims(&agent, &format!("{n}")).await.task, json!({"id": n}), "{locks}");
        }
    }
}

// J2: what another program has locked is passed over, each by its own kind of lock
#[tokio::test]
async fn what_others_have_locked_is_passed_over() {
    let (postgres, client, proxy) = table(3, "").await;
    client.batch_execute("begin; select * from tasks where id = 1 for update").await.unwrap();
    let agent = Agent::new(&proxy);
    assert_eq!(claims(&agent, "a").await.task, json!({"id": 2}));
    let advisory = Proxy::start(&config(&postgres.url(), "locks = \"advisory\"")).await;
    let agent = Agent::new(&advisory);
    client.batch_execute("rollback; select pg_advisory_lock(hashtextextended('tasks:1', 0))").await.unwrap();
    let claim = claims(&agent, "a").await;
    assert_eq!(claim.task, json!({"id": 2}));
    // And what is claimed is locked for as long.
    let free = "select pg_try_advisory_lock(hashtextextended('tasks:2', 0))";
    let is_free = || async { client.query_one(free, &[]).await.expect("an answer").get::<_, bool>(0) };
    assert!(!is_free().await);
    agent.post(&claim.path("ack")).await.is(204);
    assert!(is_free().await);
    assert_eq!(count(&client, "tasks where id = 2").await, 0, "done is deleted where nothing else is said");
}

// J2: an advisory queue needs no right to change the table where its agents finish tasks themselves
#[tokio::test]
async fn a_reader_may_hand_out_tasks() {
    let (postgres, client, _proxy) = table(1, "").await;
    client
        .batch_execute("create role reader login password 'secret'; grant select on tasks to reader")
        .await
        .unwrap();
    let url = postgres.url().replace("postgres:secret@", "reader:secret@");
    let proxy = Proxy::start(&config(&url, "locks = \"advisory\"\ndone = \"\"")).await;
    let agent = Agent::new(&proxy);
    let claim = claims(&agent, "a").await;
    agent.post(&claim.path("ack")).await.is(204);
    none(&agent, "b").await;
    assert_eq!(count(&client, "tasks where status = 'open'").await, 1);
}

// J3
#[tokio::test]
async fn a_dead_task_goes_to_its_table() {
    let (_postgres, client, proxy) = table(1, "max_attempts = 1\ndead_letter = \"tasks.dead\"").await;
    client.batch_execute("create schema tasks; create table tasks.dead (like public.tasks)").await.unwrap();
    let agent = Agent::new(&proxy);
    let claim = claims(&agent, "a").await;
    agent.post(&claim.path("release")).await.is(204);
    within("the task to be in its place", async {
        while count(&client, "tasks.dead").await == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(count(&client, "public.tasks").await, 0);
    none(&agent, "b").await;
}

/// Until somebody waits for the queue's notifications.
async fn is_listened_to(client: &Client) {
    let listens = "pg_stat_activity where query = 'listen \"onceward:tasks\"' and state = 'idle'";
    within("a listener", async { while count(client, listens).await == 0 {} }).await;
}

// J2: woken, not polled
#[tokio::test]
async fn a_notification_wakes_who_waits() {
    let (_postgres, client, proxy) = table(0, "").await;
    let agent = Agent::new(&proxy);
    let mut waits = Vec::new();
    for n in 0..20 {
        let wait = agent.post("/.onceward/queues/tasks/claim").key(&format!("{n}")).wait(15).spawn();
        // In its wait, somewhere between two looks.
        is_listened_to(&client).await;
        tokio::time::sleep(Duration::from_millis(30 + fastrand::u64(0..60))).await;
        let added = Instant::now();
        let add = format!("insert into tasks values ({n}, 'open', '{{}}'); notify \"onceward:tasks\"");
        client.batch_execute(&add).await.unwrap();
        Claim::of(&wait.await.unwrap());
        waits.push(added.elapsed());
    }
    waits.sort_unstable();
    println!("woken by a notification after {:?} in the middle, {:?} at the most", waits[10], waits[19]);
    assert!(waits[10] < Duration::from_millis(500), "{waits:?}");
}

// J2: without one the table is looked at, and a server that was away is found again
#[tokio::test]
async fn a_table_is_looked_at_while_somebody_waits() {
    let (mut postgres, client, proxy) = table(0, "").await;
    let agent = Agent::new(&proxy);
    let wait = agent.post("/.onceward/queues/tasks/claim").key("a").wait(15).spawn();
    // It waits when its look has found nothing.
    is_listened_to(&client).await;
    client.batch_execute("insert into tasks values (1, 'open', '{}')").await.unwrap();
    Claim::of(&wait.await.unwrap());
    postgres.kill();
    // Its sessions end a moment after it.
    within("an outage that is told", async {
        loop {
            let answer = agent.post("/.onceward/queues/tasks/claim").key("b").await;
            if answer.status != 204 {
                break answer.refused("upstream-unreachable");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    postgres.start_again().await;
    let client = self::client(&postgres.url()).await;
    client.batch_execute("insert into tasks values (2, 'open', '{}')").await.unwrap();
    within("a task after the outage", async {
        while agent.post("/.onceward/queues/tasks/claim").key("b").wait(1).await.status != 200 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

// J2, K7
#[tokio::test]
async fn a_row_is_done_with_its_write() {
    for locks in ["rows", "advisory"] {
        let (postgres, client, _proxy) = table(1, "").await;
        let upstream = Upstream::start().await;
        let lines = format!("done = \"status = 'done'\"\nlocks = \"{locks}\"");
        let proxy = Proxy::start(&routed(&config(&postgres.url(), &lines), &upstream)).await;
        let hears = async |done: bool| {
            within("the row to be as it is", async {
                while count(&client, "tasks where status = 'done'").await != i64::from(done) {}
            })
            .await;
        };
        is_one_with_its_write(&proxy, &upstream, hears).await;
    }
}

/// A table that tasks are taken from by one kind of lock, and whose server can be away.
struct Table {
    postgres: Postgres,
    locks: &'static str,
}

impl Table {
    async fn with(tasks: u32, locks: &'static str) -> Table {
        Table { postgres: filled(tasks).await.0, locks }
    }
}

impl Source for Table {
    type Server = Postgres;

    fn config(&self, lines: &str) -> String {
        config(&self.postgres.url(), &format!("locks = \"{}\"\n{lines}", self.locks))
    }

    fn server(&mut self) -> &mut Postgres {
        &mut self.postgres
    }

    async fn has_heard(&self) {
        let client = client(&self.postgres.url()).await;
        within("the table to be told", async {
            while count(&client, "tasks").await != 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }
}

// J2, J3, S5
#[tokio::test]
async fn eight_workers_do_each_row_once_whatever_ends() {
    drains(&mut Table::with(100, "rows").await, 100, 8, &EACH).await;
}

// J2, J3, S5
#[tokio::test]
async fn eight_workers_do_each_locked_row_once_whatever_ends() {
    drains(&mut Table::with(100, "advisory").await, 100, 8, &EACH).await;
}

// J2, J3, S5
#[tokio::test]
async fn sixty_four_workers_do_each_row_once_whatever_ends() {
    drains(&mut Table::with(200, "rows").await, 200, 64, &KILLS).await;
}

// J2, J3, S5
#[tokio::test]
async fn sixty_four_workers_do_each_locked_row_once_whatever_ends() {
    drains(&mut Table::with(200, "advisory").await, 200, 64, &KILLS).await;
}
