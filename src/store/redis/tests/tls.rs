//! The suite once more, within TLS. Whom a process trusts stands in its environment (`SSL_CERT_FILE`), so one of its own runs
//! it.

use std::path::PathBuf;
use std::process::Command;

use super::server::certificates::Certificates;
use super::{Redis, options, server};

/// Where the certificates are, in a process that runs the suite within TLS.
const FOLDER: &str = "ONCEWARD_TEST_TLS";

/// One that forgets everything when it ends, within TLS where this process is for that.
pub(super) async fn volatile() -> server::Redis {
    match std::env::var_os(FOLDER) {
        Some(folder) => server::Redis::within_tls(&PathBuf::from(folder), &["save", ""]).await,
        None => server::Redis::start().await,
    }
}

// S1, S3
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_holds_within_tls() {
    let certificates = Certificates::made_for(None);
    let mut suite = Command::new(std::env::current_exe().unwrap());
    // Those of several instances count time, which so many handshakes take.
    suite.args(["store::redis::tests::on_memory::", "--skip=::shared::", "--test-threads=2"]);
    suite.env("SSL_CERT_FILE", certificates.authority()).env(FOLDER, certificates.folder());
    let output = tokio::task::spawn_blocking(move || suite.output()).await.unwrap().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}");
    assert!(told.matches(" ... ok").count() > 15, "{told}");
    // This process trusts nobody of these.
    let server = server::Redis::within_tls(certificates.folder(), &["save", ""]).await;
    let Err(why) = Redis::open(options(server.url())).await else { panic!("it was trusted") };
    assert!(why.contains(&server.port_of_clients().to_string()), "{why}");
}
