//! A queue as it is shown.

use serde_json::{Value as Json, json};

use super::{add, time, without_secrets};
use crate::config::checked::{TaskSource, Tasks};
use crate::config::choice::Words;

pub(super) fn tasks(tasks: &Tasks) -> Json {
    let mut shown = json!({
        "name": tasks.name.as_ref(),
        "visibility": time(tasks.visibility),
        "max_attempts": tasks.max_attempts,
        "max_wait": time(tasks.max_wait),
        "done_for": time(tasks.done_for),
    });
    let text = |text: &str| Some(Json::from(text));
    let own = match &tasks.source {
        TaskSource::Http(http) => vec![
            ("source", text(&format!("http://{}", http.authority))),
            ("headers", Some(http.headers.iter().map(|(name, _)| (name.as_str(), "***")).collect::<Json>())),
            ("list", text(&format!("GET {}", http.list))),
            ("items", text(&http.items)),
            ("id", text(&http.id)),
            ("poll", text(&time(http.poll))),
            ("done", http.done.as_ref().map(|done| format!("{} {}", done.method, done.target).into())),
            ("done_body", http.done.as_ref().and_then(|done| done.body.clone()).map(Json::from)),
        ],
        TaskSource::Redis(redis) => vec![
            ("source", text(&without_secrets(redis.url.expose()))),
            ("stream", text(&redis.stream)),
            ("group", text(&redis.group)),
            ("dead_letter", redis.dead_letter.clone().map(Json::from)),
        ],
        TaskSource::Amqp(amqp) => vec![
            ("source", text(&without_secrets(amqp.url.expose()))),
            ("queue", text(&amqp.queue)),
            ("dead_letter", amqp.dead_letter.clone().map(Json::from)),
        ],
        TaskSource::Postgres(postgres) => vec![
            ("source", text(&without_secrets(postgres.url.expose()))),
            ("table", text(&postgres.table)),
            ("task", postgres.task.clone().map(Json::from)),
            ("id", text(&postgres.id)),
            ("ready", postgres.ready.clone().map(Json::from)),
            ("order", postgres.order.clone().map(Json::from)),
            ("done", postgres.done.clone().map(Json::from)),
            ("locks", text(postgres.locks.word())),
            ("dead_letter", postgres.dead_letter.clone().map(Json::from)),
        ],
    };
    for (name, value) in own {
        add(&mut shown, name, value);
    }
    shown
}
