//! A session of our own, where there is none in between (S3).
//!
//! Behind a pooler that gives out server sessions for a transaction at a time, what is set in a session is seen by
//! others, and what is told to it reaches nobody. Two connections find out: the first sets a word of its own and looks
//! twice whether it is still in the same server process with the same word; the second must be in another process and
//! must not see the word. A pooler that gives the server session used last shows it to the second, one that takes them
//! in turn moves the first.

use std::future::poll_fn;

use tokio::sync::mpsc;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{AsyncMessage, Client};
use tokio_util::sync::CancellationToken;

use super::core::Core;
use super::link::describe;

/// How often it is looked whether the session is ours: where others behind the same pooler come in between, one look in
/// four or five finds nothing odd.
const LOOKS: usize = 10;

/// A session of our own.
pub(super) struct Session {
    pub(super) client: Client,
    word: String,
    pub(super) messages: mpsc::Receiver<String>,
    /// Its connection has ended.
    pub(super) ended: CancellationToken,
}

impl Session {
    /// Opens one that hears what is told; `None` where the server's sessions are not ours.
    pub(super) async fn open(core: &Core) -> Result<Option<Self>, String> {
        let listening = async {
            let Some(session) = Self::open_now(core).await? else { return Ok(None) };
            let listen = format!("listen \"{}\"", core.schema.channel());
            session.client.batch_execute(&listen).await.map_err(|error| describe(&error))?;
            Ok(Some(session))
        };
        in_time(core, listening).await
    }

    /// The same without news.
    pub(super) async fn silent(core: &Core) -> Result<Option<Self>, String> {
        in_time(core, Self::open_now(core)).await
    }

    async fn open_now(core: &Core) -> Result<Option<Self>, String> {
        let word = format!("{:016x}", fastrand::u64(..));
        let (client, messages, ended) = connect(core).await?;
        let (other, ..) = connect(core).await?;
        let failed = |error: tokio_postgres::Error| describe(&error);
        for _ in 0..LOOKS {
            let sql = "select set_config('onceward.session', $1, false), pg_backend_pid()";
            let set = look(&client, sql, Some(&word)).await.map_err(failed)?;
            let sql = "select current_setting('onceward.session', true), pg_backend_pid()";
            let again = look(&client, sql, None).await.map_err(failed)?;
            let seen = look(&other, sql, None).await.map_err(failed)?;
            if set != again || seen.0 == set.0 || seen.1 == set.1 {
                return Ok(None);
            }
        }
        Ok(Some(Self { client, word, messages, ended }))
    }

    /// Whether it answers, and as itself.
    pub(super) async fn is_still_ours(&self, core: &Core) -> bool {
        let sql = "select current_setting('onceward.session', true), pg_backend_pid()";
        match tokio::time::timeout(core.patience, look(&self.client, sql, None)).await {
            Ok(Ok((word, _))) => word.as_deref() == Some(self.word.as_str()),
            Ok(Err(_)) | Err(_) => false,
        }
    }
}

async fn in_time(
    core: &Core,
    opens: impl Future<Output = Result<Option<Session>, String>>,
) -> Result<Option<Session>, String> {
    let opened = tokio::time::timeout(core.patience * 2, opens).await;
    opened.unwrap_or_else(|_| Err("it takes connections, and says nothing".to_owned()))
}

async fn connect(core: &Core) -> Result<(Client, mpsc::Receiver<String>, CancellationToken), String> {
    let (client, mut connection) = core.config.connect(core.tls.clone()).await.map_err(|e| describe(&e))?;
    let (sender, messages) = mpsc::channel(1024);
    let ended = CancellationToken::new();
    let ends = ended.clone().drop_guard();
    // Ends with the client, or with the connection.
    core.tasks.spawn(async move {
        let _ends = ends;
        while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notification(told) = message
                && sender.send(told.payload().to_owned()).await.is_err()
            {
                // Nobody hears it any more, but there may be answers to come.
                continue;
            }
        }
    });
    Ok((client, messages, ended))
}

/// The session's word, and the process it is in.
async fn look(
    client: &Client,
    sql: &str,
    word: Option<&String>,
) -> Result<(Option<String>, i32), tokio_postgres::Error> {
    let word: Vec<(&(dyn ToSql + Sync), Type)> =
        word.into_iter().map(|word| (word as &(dyn ToSql + Sync), Type::TEXT)).collect();
    let row = client.query_typed_one(sql, &word).await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}
