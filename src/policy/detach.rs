//! A vanished agent stops nothing (K13).
//!
//! The server drops a request's work when its agent is gone. Before the write was forwarded that is right: its place
//! and its claim are given up. From then on the work is finished by a task of its own. Until an agent really
//! vanishes this costs no task.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Set once a write must be finished.
#[derive(Clone, Default)]
pub struct MustFinish(Arc<AtomicBool>);

impl MustFinish {
    /// From now on the work outlives its agent.
    pub fn set(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Work that is finished even if nobody waits for it any more.
pub struct Detachable<T: Send + 'static> {
    work: Option<Work<T>>,
    must_finish: MustFinish,
    tasks: TaskTracker,
    runtime: Handle,
}

impl<T: Send + 'static> Detachable<T> {
    /// `work` tells by `must_finish` when it may no longer be dropped; `tasks` is what a shutdown waits for (O5).
    pub fn new(work: Work<T>, must_finish: MustFinish, tasks: TaskTracker) -> Self {
        Self { work: Some(work), must_finish, tasks, runtime: Handle::current() }
    }
}

impl<T: Send + 'static> Future for Detachable<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let Some(work) = &mut self.work else { return Poll::Pending };
        let done = std::task::ready!(work.as_mut().poll(cx));
        self.work = None;
        Poll::Ready(done)
    }
}

impl<T: Send + 'static> Drop for Detachable<T> {
    fn drop(&mut self) {
        let Some(work) = self.work.take() else { return };
        if self.must_finish.0.load(Ordering::Acquire) {
            self.tasks.spawn_on(
                async move {
                    drop(work.await);
                },
                &self.runtime,
            );
        }
    }
}
