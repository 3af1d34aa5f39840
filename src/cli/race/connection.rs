//! An agent's own connection, and how its answers get lost.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, ETAG, HeaderName};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use reqwest::{Client, RequestBuilder, Url};
use serde_json::{Value, json};

use super::answer::{self, Answer, REPLAYED, judge};
use super::cuts::Cut;
use super::field::survives;
use super::scene::Scene;

/// How long an agent waits for an answer that it is to give up on.
const LEAVE: Duration = Duration::from_millis(1);
const TIMEOUT: Duration = Duration::from_secs(30);
/// So often a read is sent, which changes nothing.
const READS: u32 = 3;

const LEASES: &str = "/.onceward/leases";
const RESOURCE: HeaderName = HeaderName::from_static("onceward-resource");

pub(super) struct Connection {
    scene: Arc<Scene>,
    number: usize,
    client: Client,
    /// What Onceward calls the resource, from the last read.
    resource: Option<String>,
}

/// What a read found.
pub(super) struct Reading {
    pub(super) document: Value,
    pub(super) tag: Option<HeaderValue>,
    pub(super) echo: Option<HeaderValue>,
}

/// A write, the same each time it is sent.
pub(super) struct Order {
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// What came back from one try of a write.
pub(super) enum Seen {
    /// The agent does not know; whether it was answered as performed is for the race's own count.
    Nothing {
        performed: bool,
    },
    Answer(Answer),
}

impl Connection {
    pub(super) fn new(scene: Arc<Scene>, number: usize) -> Result<Self, String> {
        Ok(Self { scene, number, client: connect()?, resource: None })
    }

    /// Closes it and takes a new one.
    pub(super) fn renew(&mut self) -> Result<(), String> {
        self.client = connect()?;
        Ok(())
    }

    /// One try. A cut leaves the connection to be renewed.
    pub(super) async fn send(&self, order: &Order, cut: Option<Cut>) -> Result<Seen, String> {
        let request = self.request(order.method.clone(), &order.headers).body(order.body.clone()).send();
        let response = match cut {
            Some(Cut::Left) => match tokio::time::timeout(LEAVE, request).await {
                Ok(response) => response,
                Err(_) => return Ok(Seen::Nothing { performed: false }),
            },
            Some(Cut::Lost) | None => request.await,
        };
        let response = response.map_err(|error| words(&error))?;
        let (status, headers) = (response.status(), response.headers().clone());
        if cut.is_some() {
            return Ok(Seen::Nothing { performed: status.is_success() && !headers.contains_key(&REPLAYED) });
        }
        let body = response.bytes().await.map_err(|error| words(&error))?;
        Ok(Seen::Answer(judge(status, &headers, &body)))
    }

    pub(super) async fn read(&mut self) -> Result<Reading, String> {
        let mut last = String::new();
        for _ in 0..READS {
            match self.get().await {
                Ok((status, headers, body)) => {
                    let name = headers.get(&RESOURCE).and_then(|name| name.to_str().ok());
                    self.resource = name.map(str::to_owned);
                    return self.reading(status, &headers, &body);
                }
                Err(problem) => last = problem,
            }
            self.renew()?;
        }
        Err(last)
    }

    /// One try to have the resource to oneself; what it is called was told by a read.
    pub(super) async fn lease(&self, fields: &HeaderMap) -> Result<Result<HeaderValue, Answer>, String> {
        let resource = self.resource.as_ref();
        let resource = resource.ok_or("the read named no resource: does it go through Onceward?")?;
        let mut fields = fields.clone();
        fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let body = json!({"resource": resource}).to_string();
        let request = self.request_to(self.leases(None), Method::POST, &fields).body(body).send();
        let response = request.await.map_err(|error| words(&error))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.bytes().await.map_err(|error| words(&error))?;
        if status != StatusCode::CREATED {
            return Ok(Err(judge(status, &headers, &body)));
        }
        let granted: Option<Value> = serde_json::from_slice(&body).ok();
        let lease = granted.as_ref().and_then(|granted| granted.get("lease")?.as_str()?.try_into().ok());
        lease.map(Ok).ok_or_else(|| "the answer to a lease names none".to_owned())
    }

    /// Gives it back. One that this does not reach ends by its time.
    pub(super) async fn give_back(&self, lease: &HeaderValue) -> Result<(), String> {
        let url = self.leases(lease.to_str().ok());
        let response = self.request_to(url, Method::DELETE, &HeaderMap::new()).send().await;
        response.map(drop).map_err(|error| words(&error))
    }

    fn leases(&self, lease: Option<&str>) -> Url {
        let mut url = self.scene.url.clone();
        url.set_query(None);
        url.set_path(&lease.map_or_else(|| LEASES.to_owned(), |lease| format!("{LEASES}/{lease}")));
        url
    }

    async fn get(&self) -> Result<(StatusCode, HeaderMap, Bytes), String> {
        let response = self.request(Method::GET, &HeaderMap::new()).send().await;
        let response = response.map_err(|error| words(&error))?;
        let (status, headers) = (response.status(), response.headers().clone());
        Ok((status, headers, response.bytes().await.map_err(|error| words(&error))?))
    }

    fn reading(&self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Result<Reading, String> {
        let url = &self.scene.url;
        if !status.is_success() {
            return Err(format!("reading {url} was answered {}", answer::words(status, headers, body)));
        }
        let document = serde_json::from_slice(body).map_err(|_| format!("{url} is not JSON"))?;
        if self.scene.write.is_whole() && !survives(body, &document) {
            let why = "it has a number too long to be kept, or a name twice; use --method PATCH";
            return Err(format!("{url} cannot be written back as it is: {why}"));
        }
        let field = |name: &HeaderName| headers.get(name).cloned();
        Ok(Reading { document, tag: field(&ETAG), echo: self.scene.echo.as_ref().and_then(field) })
    }

    /// The scene's own fields stand over those of a request.
    fn request(&self, method: Method, headers: &HeaderMap) -> RequestBuilder {
        self.request_to(self.scene.url.clone(), method, headers)
    }

    fn request_to(&self, url: Url, method: Method, headers: &HeaderMap) -> RequestBuilder {
        let mut all = headers.clone();
        for name in self.scene.headers.keys() {
            all.remove(name);
        }
        for (name, value) in &self.scene.headers {
            all.append(name, value.clone());
        }
        if self.scene.identified
            && let Ok(value) = format!("Bearer agent-{}", self.number).try_into()
        {
            all.insert(AUTHORIZATION, value);
        }
        self.client.request(method, url).headers(all)
    }
}

/// A new client has a new connection; the old one's closes with it.
fn connect() -> Result<Client, String> {
    Client::builder()
        .http1_only()
        .pool_max_idle_per_host(1)
        .tcp_nodelay(true)
        .timeout(TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .build()
        .map_err(|error| words(&error))
}

/// An error with its reasons, which `reqwest` keeps apart.
fn words(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
