//! To come.

/// A route's path (R1).
#[derive(Debug, Clone, PartialEq)]
pub struct PathTemplate;

/// A resource or probe template (R5).
#[derive(Debug, Clone, PartialEq)]
pub struct Template;
