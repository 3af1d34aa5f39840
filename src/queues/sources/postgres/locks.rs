//! Tasks that are held by advisory locks of one session (`locks = "advisory"`).
//!
//! The locks are for other programs: between agents the cells decide. When the session ends so do its locks; claims live
//! on, and a task that is taken again is locked again.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::connection::{Connections, Direct, chosen};
use super::sql::Sql;
use crate::queues::source::{Identity, SourceError};

/// The session, and what it holds.
pub(super) struct Locks {
    connections: Arc<Connections>,
    session: tokio::sync::Mutex<Option<Arc<Direct>>>,
    held: Mutex<HashSet<Identity>>,
}

impl Locks {
    pub(super) fn new(connections: Arc<Connections>) -> Self {
        Self { connections, session: tokio::sync::Mutex::default(), held: Mutex::default() }
    }

    /// The session that stands, or a new one.
    async fn session(&self) -> Result<Arc<Direct>, SourceError> {
        let mut session = self.session.lock().await;
        if let Some(standing) = session.as_ref().filter(|standing| !standing.ended.is_cancelled()) {
            return Ok(Arc::clone(standing));
        }
        // What was locked in the last one is not any more.
        *session = None;
        self.held.lock().clear();
        let new = Arc::new(self.connections.direct(false).await?);
        *session = Some(Arc::clone(&new));
        Ok(new)
    }

    /// Tasks that this session could lock, at most so many.
    pub(super) async fn choose(
        &self,
        sql: &Sql,
        left_out: &[Identity],
        most: usize,
    ) -> Result<Vec<Row>, SourceError> {
        let mut left_out = left_out.to_vec();
        let session = self.session().await?;
        let mut taken = Vec::new();
        // Dropped or failed in between, its locks end with the session.
        let ends = session.ended.clone().drop_guard();
        // What others have locked is passed over, a batch at a time.
        loop {
            let (names, wanted) = chosen(&left_out, most);
            let rows =
                session.rows(&sql.choose, &[(&names, Type::TEXT_ARRAY), (&wanted, Type::INT8)]).await?;
            let (seen, before) = (rows.len(), taken.len());
            left_out.extend(rows.iter().filter_map(|row| row.try_get::<_, &str>(0).ok()).map(Identity::from));
            taken.extend(rows.into_iter().filter(|row| row.try_get(2).unwrap_or(false)));
            if taken.len() > before || seen < most {
                ends.disarm();
                return Ok(taken);
            }
        }
    }

    pub(super) fn took(&self, identities: impl Iterator<Item = Identity>) {
        self.held.lock().extend(identities);
    }

    pub(super) fn held(&self) -> Vec<Identity> {
        self.held.lock().iter().map(Identity::clone).collect()
    }

    /// Lets one go, if it is held here.
    pub(super) async fn release(&self, sql: &Sql, identity: &str) {
        if !self.held.lock().contains(identity) {
            return;
        }
        let session = self.session.lock().await.clone();
        let Some(session) = session.filter(|session| !session.ended.is_cancelled()) else {
            self.held.lock().remove(identity);
            return;
        };
        if session.rows(&sql.unlock, &[(&identity, Type::TEXT)]).await.is_err() {
            // A lock that is not known to be open is, when its session has ended.
            session.ended.cancel();
        }
        self.held.lock().remove(identity);
    }
}
