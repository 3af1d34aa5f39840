//! An agent: an HTTP client with the fields this proxy knows, whose every answer is checked on the way in.

use std::future::{Future, IntoFuture};
use std::panic::Location;
use std::pin::Pin;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::Value;
use tokio::task::JoinHandle;

use super::{Answer, PATIENCE, Proxy};

#[derive(Clone)]
pub struct Agent {
    client: reqwest::Client,
    base: String,
    always: HeaderMap,
}

impl Agent {
    /// An agent without a name, on connections of its own.
    pub fn new(proxy: &Proxy) -> Agent {
        Agent::at(&proxy.url())
    }

    /// An agent that shows `Authorization: Bearer NAME`.
    pub fn named(proxy: &Proxy, name: &str) -> Agent {
        Agent::new(proxy).with("authorization", &format!("Bearer {name}"))
    }

    /// The operator's side.
    pub fn admin(proxy: &Proxy) -> Agent {
        Agent::at(&proxy.admin_url())
    }

    pub fn at(base: &str) -> Agent {
        Agent::over(reqwest::Client::builder().http1_only(), base)
    }

    pub fn http2(proxy: &Proxy) -> Agent {
        Agent::over(reqwest::Client::builder().http2_prior_knowledge(), &proxy.url())
    }

    fn over(client: reqwest::ClientBuilder, base: &str) -> Agent {
        let client = client
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .timeout(PATIENCE);
        let client = client.build().expect("an HTTP client");
        Agent { client, base: base.to_owned(), always: HeaderMap::new() }
    }

    /// Sends that field with everything from now on.
    pub fn with(mut self, name: &str, value: &str) -> Agent {
        self.always.insert(
            HeaderName::from_bytes(name.as_bytes()).expect("a name"),
            value.parse().expect("a value"),
        );
        self
    }

    pub fn get(&self, path: &str) -> Call {
        self.call("GET", path)
    }

    pub fn head(&self, path: &str) -> Call {
        self.call("HEAD", path)
    }

    pub fn put(&self, path: &str) -> Call {
        self.call("PUT", path)
    }

    pub fn post(&self, path: &str) -> Call {
        self.call("POST", path)
    }

    pub fn delete(&self, path: &str) -> Call {
        self.call("DELETE", path)
    }

    pub fn call(&self, method: &str, path: &str) -> Call {
        Call {
            client: self.client.clone(),
            method: method.parse().expect("a method"),
            url: format!("{}{path}", self.base),
            headers: self.always.clone(),
            body: None,
        }
    }

    /// The current entity tag of a resource, by a read.
    pub async fn tag(&self, path: &str) -> String {
        self.get(path).await.is(200).etag()
    }
}

/// A request being built; awaiting it sends it.
#[derive(Clone)]
pub struct Call {
    client: reqwest::Client,
    method: Method,
    url: String,
    headers: HeaderMap,
    body: Option<Bytes>,
}

impl Call {
    pub fn key(self, key: &str) -> Call {
        self.header("idempotency-key", key)
    }

    pub fn if_match(self, tag: &str) -> Call {
        self.header("if-match", tag)
    }

    pub fn if_none_match(self, tag: &str) -> Call {
        self.header("if-none-match", tag)
    }

    /// `Prefer: wait=SECONDS`.
    pub fn wait(self, seconds: u32) -> Call {
        self.header("prefer", &format!("wait={seconds}"))
    }

    /// One more line of that field.
    pub fn header(self, name: &str, value: &str) -> Call {
        self.bytes_header(name, value.as_bytes())
    }

    pub fn bytes_header(mut self, name: &str, value: &[u8]) -> Call {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
        self.headers.append(name, HeaderValue::from_bytes(value).expect("a value"));
        self
    }

    pub fn json(self, value: &Value) -> Call {
        self.typed("application/json", value.to_string())
    }

    pub fn typed(mut self, kind: &str, body: impl Into<Bytes>) -> Call {
        self.headers.insert(http::header::CONTENT_TYPE, kind.parse().expect("a content type"));
        self.body(body)
    }

    pub fn body(mut self, body: impl Into<Bytes>) -> Call {
        self.body = Some(body.into());
        self
    }

    /// Sends it; an error is a connection that ended, or a cut answer.
    pub async fn try_send(self) -> Result<Answer, reqwest::Error> {
        let mut request = self.client.request(self.method, &self.url).headers(self.headers);
        if let Some(body) = self.body {
            request = request.body(body);
        }
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Answer::new(status, headers, response.bytes().await?))
    }

    #[track_caller]
    pub fn send(self) -> impl Future<Output = Answer> + Send {
        let place = Location::caller();
        let what = format!("{} {}", self.method, self.url);
        async move {
            let answer = self.try_send().await;
            answer.unwrap_or_else(|error| panic!("no answer to {what} (sent at {place}): {error:?}"))
        }
    }

    /// Sends it now, to be awaited later.
    #[track_caller]
    pub fn spawn(self) -> JoinHandle<Answer> {
        tokio::spawn(self.send())
    }
}

impl IntoFuture for Call {
    type Output = Answer;
    type IntoFuture = Pin<Box<dyn Future<Output = Answer> + Send>>;

    #[track_caller]
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}
