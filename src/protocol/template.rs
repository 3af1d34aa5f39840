//! Templates: of a route's path (R1), and of a resource or a probe (R5, V1).

mod path;
mod value;

use std::fmt;

pub use path::{Captures, PathTemplate, Specificity};
pub use value::{Lookup, Template, Unrendered};

/// What is wrong with a template, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateProblem {
    /// In bytes from the template's start.
    pub offset: usize,
    pub reason: String,
}

impl TemplateProblem {
    fn new(offset: usize, reason: impl Into<String>) -> Self {
        Self { offset, reason: reason.into() }
    }
}

impl fmt::Display for TemplateProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for TemplateProblem {}
