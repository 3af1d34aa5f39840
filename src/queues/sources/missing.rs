//! A source that this build leaves out.

use super::super::source::{Busy, Source, SourceError, Taken, Told, Work};

/// What this build cannot ask: such a configuration is refused before it comes here.
pub(super) struct Missing;

impl Source for Missing {
    fn take<'a>(&'a self, _: usize, _: &'a dyn Busy) -> Work<'a, Result<Taken, SourceError>> {
        Box::pin(async { Err(SourceError::NotDone("this build has no such source".to_owned())) })
    }

    fn wake(&self) -> Work<'_, ()> {
        Box::pin(std::future::pending())
    }

    fn back<'a>(&'a self, _: &'a str) -> Work<'a, ()> {
        Box::pin(async {})
    }

    fn done<'a>(&'a self, _: &'a str) -> Work<'a, Result<Told, SourceError>> {
        Box::pin(async { Ok(Told::Elsewhere) })
    }

    fn has<'a>(&'a self, _: &'a str) -> Work<'a, Result<bool, SourceError>> {
        Box::pin(async { Ok(true) })
    }
}
