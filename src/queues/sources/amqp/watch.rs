//! Waiting for a message: a consumer with room for one, as long as somebody waits.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use lapin::message::Delivery;
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicNackOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Consumer};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::super::super::source::SourceError;
use super::Inner;
use super::link::Live;

/// What came is given back when nobody asks for it in this time.
const UNASKED: Duration = Duration::from_millis(300);

/// Why a wait ended: something came.
pub(super) struct Came;

/// Waits until something comes or `left` is called for: who waited has gone.
pub(super) async fn watch(inner: Arc<Inner>, tell: oneshot::Sender<Came>, left: CancellationToken) {
    let begun = async {
        let live = inner.link.live().await?;
        let begun = inner.link.ask(&live, consume(&inner, &live)).await?;
        Ok::<_, SourceError>((live, begun))
    };
    let (live, (channel, mut consumer)) = match begun.await {
        Ok(begun) => begun,
        Err(error) => {
            tracing::debug!(queue = %inner.ground.queue, why = error.text(), "nobody can wait for messages");
            return;
        }
    };
    let delivery = tokio::select! {
        next = consumer.next() => next.and_then(Result::ok),
        () = left.cancelled() => None,
        () = inner.ground.closing.cancelled() => None,
    };
    let mut came = None;
    match delivery {
        Some(delivery) => {
            came = Some(inner.hands.came(delivery));
            // Who waited has left: what came goes back below.
            drop(tell.send(Came));
        }
        None => drop(tell),
    }
    let tag = consumer.tag();
    let ended = inner.link.ask(&live, channel.basic_cancel(tag, BasicCancelOptions::default())).await;
    if let Err(error) = ended {
        tracing::debug!(queue = %inner.ground.queue, why = error.text(), "a wait ended with its channel");
    }
    // It may have come just before the end.
    while let Some(Some(Ok(delivery))) = consumer.next().now_or_never() {
        back(&inner, &live, &delivery).await;
    }
    if let Some(came) = came {
        if !left.is_cancelled() {
            tokio::time::sleep(UNASKED).await;
        }
        if inner.hands.forget(&came) {
            inner.back(&came).await;
        }
    }
}

async fn consume(inner: &Inner, live: &Live) -> lapin::Result<(Channel, Consumer)> {
    let channel = live.channel(&live.watch).await?;
    let options = BasicConsumeOptions::default();
    // An empty tag: the broker chooses one.
    let consumer =
        channel.basic_consume(inner.link.queue(), ShortString::default(), options, FieldTable::default());
    Ok((channel.clone(), consumer.await?))
}

async fn back(inner: &Inner, live: &Arc<Live>, delivery: &Delivery) {
    let options = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
    if let Err(error) = inner.link.ask(live, delivery.nack(options)).await {
        tracing::debug!(queue = %inner.ground.queue, why = error.text(), "a message goes back with its channel");
    }
}
