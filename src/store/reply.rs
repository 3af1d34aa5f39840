//! What a store answers: at once where it is memory, later where it is not.

use std::pin::Pin;
use std::task::{Context, Poll};

use super::StoreError;

type Later<T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send>>;

/// A store's answer; await it.
pub enum Reply<T> {
    /// Costs no allocation and no turn of the executor.
    Now(Option<Result<T, StoreError>>),
    Later(Later<T>),
}

impl<T> Reply<T> {
    /// An answer that is there already.
    pub fn now(result: Result<T, StoreError>) -> Self {
        Self::Now(Some(result))
    }

    /// An answer that takes its time.
    pub fn later(answer: impl Future<Output = Result<T, StoreError>> + Send + 'static) -> Self {
        Self::Later(Box::pin(answer))
    }
}

impl<T: Unpin> Future for Reply<T> {
    type Output = Result<T, StoreError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Now(result) => result.take().map_or(Poll::Pending, Poll::Ready),
            Self::Later(later) => later.as_mut().poll(cx),
        }
    }
}
