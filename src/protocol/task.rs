//! The rules of a task's claim (J2, J3): what it stands as, and what each step makes of it.

/// What a task is about, as agents get it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// The text of one JSON value.
    Json(Box<str>),
    /// Bytes: given to agents as JSON where they are JSON, as a string where they are UTF-8, else as
    /// `{"base64": "…"}`.
    Bytes(Box<[u8]>),
}
