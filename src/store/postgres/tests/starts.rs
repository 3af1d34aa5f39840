//! How a start finds its schema, and makes it.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::{look, open, options, schema, server};
use crate::store::postgres::Postgres;
use crate::store::{Shared, Store};

async fn refused(change: impl FnOnce(&mut super::Options)) -> String {
    let mut options = options(&server().await.url(), &schema());
    change(&mut options);
    match Postgres::open(options).await {
        Ok(_) => panic!("it opened"),
        Err(why) => why,
    }
}

// S3: several start together on a database that knows nothing of them, and are on one store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_start_together() {
    let (url, schema) = (server().await.url(), schema());
    let mut starting = JoinSet::new();
    for _ in 0..8 {
        let (url, schema) = (url.clone(), schema.clone());
        starting.spawn(async move { Postgres::open(options(&url, &schema)).await.unwrap() });
    }
    let started = starting.join_all().await;
    let tag = |store: &Arc<Postgres>| store.minted_tag(crate::protocol::record::ResourceId([1; 16]), 1);
    assert!(started.iter().all(|store| store.is_alive() && tag(store) == tag(&started[0])));
}

// S3: whatever the server is set to, no step is compiled each time: that would cost more than all else of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_function_is_compiled() {
    let (url, schema) = (server().await.url(), schema());
    let _store = Postgres::open(options(&url, &schema)).await.unwrap();
    let sql = "select count(*), count(*) filter (where 'jit=off' = any (p.proconfig))
        from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname = $1";
    let row = look(server().await).await.query_one(sql, &[&schema]).await.unwrap();
    let (all, off): (i64, i64) = (row.get(0), row.get(1));
    assert!(all > 20 && off == all, "{off} of {all}");
}

// V8: another store in the same place has another epoch, and who was on the first one notices.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_made_anew_has_another_epoch() {
    let (url, schema) = (server().await.url(), schema());
    let first = Postgres::open(options(&url, &schema)).await.unwrap();
    let resource = crate::protocol::record::ResourceId([1; 16]);
    let before = first.minted_tag(resource, 1);
    look(server().await).await.batch_execute(&format!("drop schema \"{schema}\" cascade")).await.unwrap();
    let second = Postgres::open(options(&url, &schema)).await.unwrap();
    assert_ne!(second.minted_tag(resource, 1), before);
    let began = tokio::time::Instant::now();
    while first.minted_tag(resource, 1) != second.minted_tag(resource, 1) {
        assert!(began.elapsed() < std::time::Duration::from_secs(20), "it did not notice");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

// S1: a schema that a newer build needs is left alone, with the way out; one that only has more is worked with.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_schema_is_refused_if_it_has_to_be() {
    let (url, schema) = (server().await.url(), schema());
    drop(open(&url, &schema).await);
    let look = look(server().await).await;
    let set = |version, needs| format!("update \"{schema}\".schema set version = {version}, needs = {needs}");
    look.batch_execute(&set(9, 1)).await.unwrap();
    let store = open(&url, &schema).await;
    store.next_number().await.unwrap();
    look.batch_execute(&set(9, 9)).await.unwrap();
    let Err(why) = Postgres::open(options(&url, &schema)).await else { panic!("it opened") };
    assert!(why.contains("version 9") && why.contains("store.schema"), "{why}");
    // Who is on it already goes on: what it calls is still there.
    store.next_number().await.unwrap();
}

// S1: what cannot be opened is said in a sentence, and never with the password.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_says_why_and_no_secret() {
    let nobody = refused(|options| {
        options.url = "postgres://a:hush@127.0.0.1:1/b".to_owned();
        options.patience = std::time::Duration::from_millis(300);
    })
    .await;
    assert!(nobody.contains("127.0.0.1:1"), "{nobody}");
    let broken = refused(|options| options.url = "postgres://a:hush@h:hush/b".to_owned()).await;
    let none = refused(|options| options.url = "postgres://a:hush@h/b?hush=hush".to_owned()).await;
    let gone = refused(|options| options.url = options.url.replace("/postgres", "/nowhere")).await;
    assert!(gone.contains("nowhere"), "{gone}");
    let tls = refused(|options| options.url += "?sslmode=require").await;
    assert!(tls.contains("TLS"), "it has none: {tls}");
    let roots = refused(|options| options.url += "?sslmode=require&sslrootcert=/nowhere").await;
    assert!(roots.contains("/nowhere"), "{roots}");
    let named = refused(|options| options.schema = "a\"b".to_owned()).await;
    assert!(named.contains("store.schema"), "{named}");
    for why in [nobody, broken, none, gone, tls, roots, named] {
        assert!(!why.replace("`hush`", "").contains("hush"), "{why}");
    }
}

// S1: a server that can is spoken to in TLS; one that has to prove its name does, or is not spoken to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_is_as_the_url_says() {
    let server = super::servers::Postgres::with_tls().await;
    let sql = "select bool_and(ssl) and count(*) > 2 from pg_stat_ssl join pg_stat_activity using (pid)
        where application_name = 'onceward'";
    let look = look(&server).await;
    let wanted = format!("sslmode=verify-full&sslrootcert={}", server.authority());
    for (mode, is_wrapped) in [("sslmode=disable", false), ("sslmode=prefer", true), (wanted.as_str(), true)]
    {
        let store = open(&format!("{}?{mode}", server.url()), &schema()).await;
        store.next_number().await.unwrap();
        assert_eq!(look.query_one(sql, &[]).await.unwrap().get::<_, bool>(0), is_wrapped, "{mode}");
        store.close().await.unwrap();
        // Its sessions end a moment later, and are not to be taken for the next one's.
        let left = "select count(*) from pg_stat_activity where application_name = 'onceward'";
        while look.query_one(left, &[]).await.unwrap().get::<_, i64>(0) > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }
    let unknown = Postgres::open(options(&format!("{}?sslmode=require", server.url()), &schema())).await;
    let Err(why) = unknown else { panic!("anybody would do") };
    assert!(why.contains("certificate"), "{why}");
}

// S1: a server that starts with its instances is waited for, as long as a step may take.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_may_start_a_little_later() {
    let mut server = super::servers::Postgres::start().await;
    server.kill();
    let mut late = options(&server.url(), "onceward");
    late.patience = std::time::Duration::from_secs(60);
    let opening = tokio::spawn(Postgres::open(late));
    server.start_again().await;
    opening.await.unwrap().unwrap().next_number().await.unwrap();
}

// S1: a role that may not make a schema is told what to ask for, and works in one that it is given.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_may_be_given_its_schema() {
    let look = look(server().await).await;
    let (role, schema) = (format!("role-{}", std::process::id()), schema());
    look.batch_execute(&format!("create role \"{role}\" login password 'secret'")).await.unwrap();
    let url = server().await.url().replace("//postgres:", &format!("//{role}:"));
    let stricter = format!("alter role \"{role}\" set default_transaction_isolation = ");
    look.batch_execute(&format!("{stricter}'serializable'")).await.unwrap();
    let Err(why) = Postgres::open(options(&url, &schema)).await else { panic!("it opened") };
    assert!(why.contains("serializable") && why.contains("read committed"), "{why}");
    look.batch_execute(&format!("{stricter}'read committed'")).await.unwrap();
    let Err(why) = Postgres::open(options(&url, &schema)).await else { panic!("it opened") };
    assert!(why.contains(&format!("create schema \"{schema}\" authorization")), "{why}");
    look.batch_execute(&format!("create schema \"{schema}\" authorization \"{role}\"")).await.unwrap();
    open(&url, &schema).await.next_number().await.unwrap();
}
