//! From what a file says to what holds: the parts that are not a route's. See [`routes`](super::routes).

use std::net::SocketAddr;
use std::time::Duration;

use http::HeaderName;
use http::header::AUTHORIZATION;

use super::Over;
use super::checked::{
    Config, Events, EventsOf, Jobs, Limits, Locks, Log, LogFormat, Secret, SecretKey, Server, Store, StoreUrl,
};
use super::choice::Short;
use super::places::upstream;
use super::problem::Kind;
use super::queues;
use super::raw;
use super::reader::{At, Reader, Spot, Wrong};
use super::routes;
use super::spellings::{Address, address};

pub(super) const KIB: usize = 1 << 10;
pub(super) const MIB: usize = 1 << 20;

pub(super) const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// What was given, or the default.
pub(super) fn or<T: Into<V>, V>(given: Option<At<T>>, default: V) -> V {
    given.map_or(default, |at| at.value.into())
}

/// A table that was given, or an empty one.
pub(super) fn table<T: Default>(given: Option<At<T>>) -> T {
    given.map(|at| at.value).unwrap_or_default()
}

/// Settles a whole document. What is wrong is reported to the reader.
pub(super) fn settle(mut root: raw::Root, over: &Over<'_>, reader: &mut Reader<'_>) -> Config {
    let upstream = over.upstream.and_then(|url| argument("--upstream", upstream(url), reader));
    let limits = table(root.limits.take());
    let server = server(table(root.server.take()), over, reader);
    let identity = identity(table(root.identity.take()));
    let store = store(table(root.store.take()), reader);
    let jobs = jobs(table(root.jobs.take()));
    let log = log(table(root.log.take()));
    let events = events(root.events.as_ref());
    let mut given = root.routes.take().map_or_else(Vec::new, |list| list.value.0);
    if given.is_empty() && over.upstream.is_some() {
        given.push(At { value: routes::everything(), spot: Spot::argument("--upstream") });
    }
    let queues = root.queues.take().map_or_else(Vec::new, |list| list.value.0);
    let top = routes::Top::of(root, &limits, &store, upstream, reader);
    let own = top.own();
    let routes = routes::settle(given, &top, reader);
    let queues = queues::settle(queues, &top, reader);
    Config { server, identity, limits: listeners(limits), store, jobs, events, log, own, routes, queues }
}

/// What an argument of the command line spells.
fn argument<T>(name: &str, parsed: Result<T, Wrong>, reader: &mut Reader<'_>) -> Option<T> {
    parsed.map_err(|wrong| reader.report(wrong.kind, &Spot::argument(name), wrong.what)).ok()
}

fn server(given: raw::Server, over: &Over<'_>, reader: &mut Reader<'_>) -> Server {
    let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let mut listen = given.listen.map_or_else(Vec::new, |list| list.value.0);
    if let Some(address) = over.listen.and_then(|text| argument("--listen", address(text), reader)) {
        listen = vec![At { value: Address(address), spot: Spot::argument("--listen") }];
    }
    if listen.is_empty() {
        listen.push(At { value: Address(local(8080)), spot: Spot::default() });
    }
    let admin_spot = given.admin.as_ref().map(|at| at.spot.clone());
    let admin = given.admin.map_or(Some(local(9090)), |at| at.value.0);
    distinct(&listen, admin, admin_spot, reader);
    Server {
        listen: listen.into_iter().map(|at| at.value.0).collect(),
        admin,
        admin_token: given.admin_token.map(|at| at.value).filter(|token| !token.expose().is_empty()),
        shutdown_grace: or(given.shutdown_grace, seconds(25)),
        threads: or(given.threads, 0),
    }
}

/// Each listener needs a port of its own.
fn distinct(listen: &[At<Address>], admin: Option<SocketAddr>, spot: Option<Spot>, reader: &mut Reader<'_>) {
    for (index, one) in listen.iter().enumerate() {
        if listen.iter().take(index).any(|other| collide(one.value.0, other.value.0)) {
            let what = format!("{} is listened to twice", one.value.0);
            reader.report(Kind::Value, &one.spot, what);
        }
        let Some(admin) = admin.filter(|admin| collide(one.value.0, *admin)) else { continue };
        let spot = spot.clone().unwrap_or_else(|| one.spot.clone());
        let what = format!("server.listen and server.admin are both {admin}; give each a port of its own");
        reader.report(Kind::Value, &spot, what);
    }
}

fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let anywhere = one.ip().is_unspecified() || other.ip().is_unspecified();
    let same_host = one.ip() == other.ip() || (anywhere && one.is_ipv4() == other.is_ipv4());
    one.port() != 0 && one.port() == other.port() && same_host
}

fn identity(given: raw::Identity) -> Vec<HeaderName> {
    let names = given.header.map_or_else(Vec::new, |list| list.value.0);
    if names.is_empty() { vec![AUTHORIZATION] } else { names.into_iter().map(|at| at.value).collect() }
}

fn listeners(given: raw::Limits) -> Limits {
    Limits {
        head: or(given.head, 64 * KIB),
        headers: or(given.headers, 100),
        uri: or(given.uri, 8 * KIB),
        buffered: or(given.buffered, 256 * MIB),
        head_time: or(given.head_time, seconds(10)),
        body_time: or(given.body_time, seconds(30)),
        write_time: or(given.write_time, seconds(10)),
        idle: or(given.idle, seconds(75)),
        connections: or(given.connections, 10_000),
        streams: or(given.streams, 100),
        store: or(given.store, seconds(5)),
    }
}

fn store(given: raw::Store, reader: &mut Reader<'_>) -> Store {
    Store {
        secret: given.secret.and_then(|at| secret(&at, reader)),
        url: given.url.map_or(StoreUrl::Memory, |at| at.value.0),
        max_memory: or(given.max_memory, 512 * MIB),
        alive: or(given.alive, seconds(10)),
        wait_replicas: or(given.wait_replicas, 0),
        prefix: given.prefix.map_or_else(|| "onceward:".to_owned(), |at| at.value.0),
        schema: given.schema.map_or_else(|| "onceward".to_owned(), |at| at.value.0),
        turns: or(given.turns, Locks::Rows),
        connections: or(given.connections, 16),
    }
}

/// The table; the short form says nothing of it.
fn events(given: Option<&At<Short<EventsOf, raw::Events>>>) -> Events {
    let given = match given.map(|at| &at.value) {
        Some(Short::Long(table)) => table.clone(),
        Some(Short::Short(_)) | None => raw::Events::default(),
    };
    Events {
        history: or(given.history, 10_000),
        ttl: or(given.ttl, seconds(3600)),
        readers: or(given.readers, 1024),
        heartbeat: or(given.heartbeat, seconds(15)),
    }
}

/// 32 bytes; empty stands for none.
fn secret(given: &At<Secret>, reader: &mut Reader<'_>) -> Option<SecretKey> {
    let text = given.value.expose().trim();
    if text.is_empty() {
        return None;
    }
    let bytes = if text.len() == 64 { from_hex(text) } else { from_base64(text) };
    let key = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok()).map(SecretKey::new);
    if key.is_none() {
        let what = "is not 32 bytes in hex (64 digits) or base64 (44 characters), such as `openssl rand -hex 32` gives";
        reader.report(Kind::Value, &given.spot, what);
    }
    key
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<_>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    let bytes = digits?;
    let pairs = bytes.chunks_exact(2).map(|pair| pair.iter().fold(0, |byte, digit| byte * 16 + digit));
    pairs.map(|byte| u8::try_from(byte).ok()).collect()
}

/// Base64 in either alphabet, with or without its padding (RFC 4648).
fn from_base64(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_u32, 0_u32);
    for character in text.trim_end_matches('=').bytes() {
        let value = match character {
            b'A'..=b'Z' => character - b'A',
            b'a'..=b'z' => character - b'a' + 26,
            b'0'..=b'9' => character - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        (held, bits) = (held << 6 | u32::from(value), bits + 6);
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(held >> bits & 0xff).ok()?);
        }
        held &= (1 << bits) - 1;
    }
    (held == 0).then_some(bytes)
}

fn jobs(given: raw::Jobs) -> Jobs {
    Jobs { max_waiting: or(given.max_waiting, 10_000), give_up: or(given.give_up, seconds(3600)) }
}

fn log(given: raw::Log) -> Log {
    Log {
        format: or(given.format, LogFormat::Auto),
        level: given.level.map_or_else(|| "info".to_owned(), |at| at.value.0),
        otlp: given.otlp.and_then(|at| at.value.0),
    }
}
