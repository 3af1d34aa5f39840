//! A wait for something that hardly ever happens, beside work that is polled all the time.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use parking_lot::Mutex;

/// Looks at what it waits for only when that has woken it, not whenever its task was woken for something else.
pub(super) struct Seldom<'a, T> {
    wait: Pin<Box<dyn Future<Output = T> + Send + 'a>>,
    bell: Arc<Bell>,
    waker: Waker,
}

struct Bell {
    rang: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        // In this order: whoever is woken finds that it rang.
        self.rang.store(true, Ordering::Release);
        let task = self.task.lock().clone();
        if let Some(task) = task {
            task.wake();
        }
    }
}

impl<'a, T> Seldom<'a, T> {
    pub(super) fn new(wait: impl Future<Output = T> + Send + 'a) -> Self {
        let bell = Arc::new(Bell { rang: AtomicBool::new(true), task: Mutex::new(None) });
        Self { wait: Box::pin(wait), waker: Waker::from(Arc::clone(&bell)), bell }
    }
}

impl<T> Future for Seldom<'_, T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let this = self.get_mut();
        {
            let mut task = this.bell.task.lock();
            if !task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
                *task = Some(cx.waker().clone());
            }
        }
        // After the task is known, so that no ring is lost.
        if !this.bell.rang.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        this.wait.as_mut().poll(&mut Context::from_waker(&this.waker))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn it_looks_once_for_each_time_it_is_woken() {
        let (looks, notify) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let (counted, woken) = (Arc::clone(&looks), Arc::clone(&notify));
        let mut notified = Box::pin(async move { woken.notified().await });
        let mut seldom = Seldom::new(std::future::poll_fn(move |cx| {
            counted.fetch_add(1, Ordering::Relaxed);
            notified.as_mut().poll(cx)
        }));
        std::future::poll_fn(|cx| {
            for _ in 0..3 {
                assert!(Pin::new(&mut seldom).poll(cx).is_pending());
            }
            Poll::Ready(())
        })
        .await;
        assert_eq!(looks.load(Ordering::Relaxed), 1);
        let other = tokio::spawn(async move { notify.notify_one() });
        seldom.await;
        other.await.unwrap();
        assert_eq!(looks.load(Ordering::Relaxed), 2);
    }
}
