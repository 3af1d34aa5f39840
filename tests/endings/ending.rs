//! One ending, as an upstream plays it.

use std::any::Any;
use std::time::Duration;

use crate::harness::{Gate, Reply};

/// What an answer says that is passed on as it came.
pub const WHOLE: &str = "a whole body";

/// More than the buffers between two sockets take, so that a body of this size is still going out.
pub const LARGE_UPLOAD: usize = 16 << 20;

pub struct Ending {
    pub at: At,
    /// Lines of both routes to the upstream.
    pub limits: &'static str,
    /// How long the write's body is.
    pub upload: usize,
    /// What an answer to GET or PUT that is passed on as it came carries.
    pub content: String,
    /// The connection is opened by another write that is answered like this, and kept.
    pub kept: Option<Reply>,
    /// The proxy is told to stop while the call is under way.
    pub shutdown: bool,
    /// It is about HEAD alone.
    pub head: bool,
}

/// Where the call goes.
pub enum At {
    /// Nobody answers there; what holds the place is kept.
    Nowhere {
        url: String,
        _place: Box<dyn Any + Send>,
    },
    Script(Box<dyn Fn() -> Reply + Send + Sync>),
}

impl Ending {
    fn at(at: At) -> Ending {
        let content = WHOLE.to_owned();
        Ending { at, limits: "", upload: 5, content, kept: None, shutdown: false, head: false }
    }

    /// No call comes through.
    pub fn nowhere(url: String, place: impl Any + Send) -> Ending {
        Ending::at(At::Nowhere { url, _place: Box::new(place) })
    }

    /// The upstream does this, each time it is asked to.
    pub fn with(script: impl Fn() -> Reply + Send + Sync + 'static) -> Ending {
        Ending::at(At::Script(Box::new(script)))
    }

    pub fn reply(reply: Reply) -> Ending {
        Ending::with(move || reply.clone())
    }

    pub fn verbatim(bytes: &str) -> Ending {
        Ending::reply(Reply::verbatim(bytes))
    }

    pub fn limits(self, limits: &'static str) -> Ending {
        Ending { limits, ..self }
    }

    /// While a body is going out that is larger than all buffers.
    pub fn while_sending(self) -> Ending {
        Ending { upload: LARGE_UPLOAD, limits: "limits.body = \"32MiB\"", ..self }
    }

    pub fn carries(self, content: impl Into<String>) -> Ending {
        Ending { content: content.into(), ..self }
    }

    /// Over a connection that was kept after this answer to another write.
    pub fn kept_after(self, reply: Reply) -> Ending {
        Ending { kept: Some(reply), limits: "limits.upstream_keep = \"60s\"", ..self }
    }

    pub fn at_shutdown(self) -> Ending {
        Ending { shutdown: true, ..self }
    }

    pub fn asked_by_head(self) -> Ending {
        Ending { head: true, ..self }
    }
}

/// A gate that opens when so much time is over.
pub fn opens_after(time: Duration) -> Gate {
    let gate = Gate::closed();
    let opens = gate.clone();
    tokio::spawn(async move {
        tokio::time::sleep(time).await;
        opens.open();
    });
    gate
}
