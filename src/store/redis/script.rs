//! The steps as scripts: one each, so that a step is atomic and one round trip.
//!
//! What a script costs the server is its calls and the functions that it makes anew each time it is run. So those of each
//! write read all they need in one call, and what is seldom needed stands behind where they have returned.

use std::sync::LazyLock;

use bytes::Bytes;
use redis::Cmd;

/// One step's code.
pub(super) struct Script {
    code: String,
    /// By which the server knows it.
    hash: String,
}

impl Script {
    fn new(parts: &[&str]) -> Self {
        let code = parts.concat();
        let hash = redis::Script::new(&code).get_hash().to_owned();
        Self { code, hash }
    }

    /// By which a server is asked for it.
    pub(super) fn hash(&self) -> &str {
        &self.hash
    }

    /// Makes it known to a server, so that its first use is one round trip too.
    pub(super) fn load(&self) -> Cmd {
        let mut command = redis::cmd("SCRIPT");
        command.arg("LOAD").arg(&self.code);
        command
    }
}

macro_rules! scripts {
    ($($name:ident = [$($part:ident)*];)*) => {
        $(pub(super) static $name: LazyLock<Script> = LazyLock::new(|| Script::new(&[$(part::$part),*]));)*

        /// All of them.
        pub(super) fn all() -> impl Iterator<Item = &'static Script> {
            [$(&$name),*].into_iter().map(LazyLock::force)
        }
    };
}

/// The files that scripts are made of.
mod part {
    macro_rules! files {
        ($($name:ident = $file:literal;)*) => {
            $(pub(super) const $name: &str = include_str!(concat!("lua/", $file, ".lua"));)*
        };
    }

    files! {
        STEP = "step"; RECORD = "record"; TURN = "turn";
        HELLO = "hello"; RENEW = "renew"; CLOSE = "close"; LAPSED = "lapsed"; LEFT = "left"; BURY = "bury";
        CLAIM = "claim"; FOLLOW = "follow"; ASKS = "asks"; TAKE = "take"; GRANT = "grant"; GRANT_ELSE = "grant_else";
        COMMIT = "commit"; CELLS = "cells"; APPLY = "apply"; REST = "rest"; VERSION = "version"; EVENT = "event";
        ENDS = "ends"; ENDS_ELSE = "ends_else"; END = "end"; SWAP = "swap"; SWAPPED = "swapped"; CELL = "cell";
        KIND = "kind"; LAST = "last"; EVENTS = "events"; READ = "read"; ANSWER = "answer";
        RESOLUTIONS = "resolutions"; NEXT = "next"; MOVE = "move"; MOVED = "moved"; MINTED = "minted";
        LEAVE = "leave"; END_REST = "end_rest"; BUSY = "busy"; RUNNING = "running"; UNKNOWN = "unknown";
        DONE = "done"; COUNT = "count"; REACH = "reach"; LASTS = "lasts"; SWEEP = "sweep";
    }
}

scripts! {
    HELLO = [HELLO];
    RENEW = [STEP RENEW];
    CLOSE = [STEP CLOSE];
    LAPSED = [STEP LAPSED];
    LEFT = [STEP RECORD LEFT];
    BURY = [STEP RECORD TURN BURY];
    CLAIM = [CLAIM FOLLOW ASKS GRANT TURN GRANT_ELSE];
    COMMIT = [COMMIT CELLS APPLY FOLLOW REST VERSION EVENT ENDS TURN ENDS_ELSE];
    READ = [READ];
    ANSWER = [STEP ANSWER];
    RESOLUTIONS = [STEP RESOLUTIONS];
    NEXT = [STEP NEXT];
    MOVE = [MOVE VERSION MOVED];
    MINTED = [STEP MINTED];
    TAKE = [TAKE GRANT TURN GRANT_ELSE];
    END = [END ENDS TURN ENDS_ELSE];
    SWAP = [SWAP CELLS SWAPPED EVENT ENDS TURN ENDS_ELSE];
    CELL = [STEP CELL];
    KIND = [STEP KIND];
    LAST = [STEP LAST];
    EVENTS = [STEP EVENTS];
    LEAVE = [STEP TURN LEAVE];
    END_REST = [STEP TURN END_REST];
    BUSY = [STEP BUSY];
    RUNNING = [STEP RECORD RUNNING];
    UNKNOWN = [STEP RECORD UNKNOWN];
    DONE = [STEP RECORD DONE];
    COUNT = [STEP COUNT];
    REACH = [STEP REACH];
    LASTS = [STEP LASTS];
    SWEEP = [STEP RECORD SWEEP];
}

/// One step that is asked for.
pub(super) struct Call {
    script: &'static Script,
    arguments: Vec<Bytes>,
    durable: bool,
    told: bool,
}

impl Call {
    pub(super) fn of(script: &'static Script) -> Self {
        Self { script, arguments: Vec::new(), durable: false, told: false }
    }

    pub(super) fn arg(mut self, argument: impl AsRef<[u8]>) -> Self {
        self.arguments.push(Bytes::copy_from_slice(argument.as_ref()));
        self
    }

    /// Without a copy.
    pub(super) fn bytes(mut self, argument: Bytes) -> Self {
        self.arguments.push(argument);
        self
    }

    /// Lua has no whole numbers: all here are below 2^53, or cut to it.
    pub(super) fn number(self, number: u64) -> Self {
        self.arg(number.min(1 << 53).to_string())
    }

    pub(super) fn flag(self, flag: bool) -> Self {
        self.arg(if flag { "1" } else { "" })
    }

    /// So many replicas must have it as are configured, before it is answered.
    pub(super) fn durable(mut self, durable: bool) -> Self {
        self.durable = durable;
        self
    }

    pub(super) fn is_durable(&self) -> bool {
        self.durable
    }

    /// The record that it finds may be told outside: it has to last, whoever wrote it.
    pub(super) fn told(mut self) -> Self {
        self.told = true;
        self
    }

    pub(super) fn is_told(&self) -> bool {
        self.told
    }

    /// As the server is asked; `whole`: it may not know the script.
    pub(super) fn command(&self, prefix: &str, epoch: u64, whole: bool) -> Cmd {
        let length = self.arguments.iter().map(Bytes::len).sum::<usize>();
        let mut command = Cmd::with_capacity(self.arguments.len() + 5, length + self.script.hash.len() + 64);
        if whole {
            command.arg("EVAL").arg(&self.script.code);
        } else {
            command.arg("EVALSHA").arg(self.script.hash());
        }
        command.arg(0).arg(prefix).arg(epoch);
        for argument in &self.arguments {
            command.arg(&argument[..]);
        }
        command
    }
}
