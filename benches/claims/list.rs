//! An upstream with a list of tasks: `GET /tasks` has the first of those that are open, `POST /tasks/{id}/done` ends one.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::rc::Rc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::place::{Number, text};

#[derive(Default)]
struct Board {
    open: BTreeSet<Number>,
    page: usize,
}

pub(crate) async fn serve(port: u16, page: usize) -> serde_json::Value {
    let board = Rc::new(RefCell::new(Board { page, ..Board::default() }));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.expect("a free port");
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        stream.set_nodelay(true).expect("a socket");
        let board = Rc::clone(&board);
        tokio::task::spawn_local(async move {
            let answers = service_fn(|request: Request<Incoming>| {
                let answer = board.borrow_mut().answer(request.method(), request.uri().path());
                async { Ok::<_, Infallible>(answer) }
            });
            // Who asked may be gone.
            http1::Builder::new().serve_connection(TokioIo::new(stream), answers).await.ok();
        });
    }
}

impl Board {
    fn answer(&mut self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        let words: Vec<_> = path.trim_matches('/').split('/').collect();
        match (method.as_str(), words.as_slice()) {
            ("GET", ["tasks"]) => answered(200, self.shown()),
            ("GET", ["open"]) => answered(200, self.open.len().to_string()),
            ("PUT", ["tasks", task]) => {
                self.open.insert(named(task));
                answered(201, String::new())
            }
            ("POST", ["tasks", task, "done"]) if self.open.remove(&named(task)) => {
                answered(200, String::new())
            }
            ("POST", ["tasks", _, "done"]) => answered(410, String::new()),
            ("POST", ["fill", tasks]) => {
                self.open.extend(1..=named(tasks));
                answered(201, String::new())
            }
            ("DELETE", ["tasks"]) => {
                self.open.clear();
                answered(200, String::new())
            }
            _ => answered(404, String::new()),
        }
    }

    fn shown(&self) -> String {
        let mut list = String::from("[");
        for task in self.open.iter().take(self.page) {
            if list.len() > 1 {
                list.push(',');
            }
            list.push_str(&text(*task));
        }
        list.push(']');
        list
    }
}

fn named(task: &str) -> Number {
    task.parse().expect("a number")
}

fn answered(status: u16, text: String) -> Response<Full<Bytes>> {
    let answer = Response::builder().status(status).header("content-type", "application/json");
    answer.body(Full::new(Bytes::from(text))).expect("an answer")
}
