//! To come.

/// How bodies are compared (K3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    /// JSON by meaning, multipart by its parts, all else by bytes.
    Json,
    Bytes,
}
