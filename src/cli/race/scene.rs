//! What all agents of one row do.

use http::header::HeaderName;
use http::{HeaderMap, Method};
use reqwest::Url;

use super::field::Field;

#[derive(Debug, Clone)]
pub(crate) struct Scene {
    pub(crate) url: Url,
    pub(crate) write: Write,
    /// Goes into every key, so that no other row's and no other run's is the same.
    pub(crate) run: String,
    pub(crate) headers: HeaderMap,
    /// Each agent shows an identity of its own.
    pub(crate) identified: bool,
    /// A field of a read's answer that goes back with the write, for the upstream's own bookkeeping.
    pub(crate) echo: Option<HeaderName>,
}

#[derive(Debug, Clone)]
pub(crate) enum Write {
    /// Read the document, add one, write it back.
    Document { field: Field, method: Method, under: Under },
    /// POST, and the upstream adds one.
    Increment,
}

/// What a write of a whole document is protected by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Under {
    Nothing,
    /// The version that was read.
    Version,
    /// A lease that was held while it was read, with the version where the read carried one.
    Lease,
}

impl Write {
    /// Its agent holds the resource from before the reading until it is done.
    pub(crate) fn is_leased(&self) -> bool {
        match self {
            Self::Document { under, .. } => *under == Under::Lease,
            Self::Increment => false,
        }
    }

    /// All of the document is written back.
    pub(crate) fn is_whole(&self) -> bool {
        match self {
            Self::Document { method, .. } => *method != Method::PATCH,
            Self::Increment => false,
        }
    }
}
