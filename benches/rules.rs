//! What the pure rules cost per request.

use std::borrow::Cow;
use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use onceward::protocol::entity_tag::{EntityTag, Preconditions, none_match_read};
use onceward::protocol::fingerprint::{Compare, Parts, fingerprint};
use onceward::protocol::json::pointer_text;
use onceward::protocol::key::IdempotencyKey;
use onceward::protocol::path::NormalPath;
use onceward::protocol::prefer::Prefer;
use onceward::protocol::template::{Captures, Lookup, PathTemplate, Template};

/// About 300 bytes.
const BODY: &[u8] = br#"{"title": "Quarterly plan", "rev": 17, "tags": ["plan", "q3", "draft"],
"owner": {"name": "Ada L.", "team": 42, "active": true}, "due": "2026-09-30T12:00:00Z", "score": 0.75,
"body": "The first paragraph of a document that an agent edits.\nAnd a second one.",
"parent": null, "watchers": [1, 2, 3, 5, 8]   }"#;

const KEY: &[u8] = b"\"8e03978e-40d5-43dd-bc93-6894a57f9324\"";

struct Found<'a>(Captures<'a>);

impl Lookup for Found<'_> {
    fn capture(&self, name: &str) -> Option<Cow<'_, str>> {
        self.0.get(name).map(Cow::Borrowed)
    }

    fn query(&self, _name: &str) -> Option<Cow<'_, str>> {
        None
    }

    fn header(&self, _name: &str) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed("acme"))
    }

    fn json(&self, pointer: &str) -> Option<Cow<'_, str>> {
        pointer_text(BODY, pointer).map(Cow::Owned)
    }
}

fn fields(c: &mut Criterion) {
    c.bench_function("key, quoted", |b| b.iter(|| IdempotencyKey::parse(black_box(&[KEY]))));
    let bare: &[u8] = b"8e03978e-40d5-43dd-bc93-6894a57f9324";
    c.bench_function("key, bare", |b| b.iter(|| IdempotencyKey::parse(black_box(&[bare]))));
    let tag: &[u8] = b"\"6f1ed002ab5595859014ebf0951522d9\"";
    c.bench_function("preconditions, one tag", |b| b.iter(|| Preconditions::parse(black_box(&[tag]), &[])));
    let current = EntityTag::from_opaque("6f1ed002ab5595859014ebf0951522d9");
    c.bench_function("if-none-match of a read", |b| {
        b.iter(|| current.as_ref().is_some_and(|current| none_match_read(black_box(&[tag]), current)));
    });
    let prefer: &[u8] = b"respond-async, wait=10";
    c.bench_function("prefer", |b| b.iter(|| Prefer::parse(black_box(&[prefer]))));
}

fn paths(c: &mut Criterion) {
    c.bench_function("path, normal", |b| b.iter(|| NormalPath::parse(black_box("/documents/7/parts/12"))));
    c.bench_function("path, not normal", |b| {
        b.iter(|| NormalPath::parse(black_box("/documents/%37//caf%c3%a9/./x%2fy/")));
    });
    let (Ok(template), Ok(path)) =
        (PathTemplate::parse("/documents/{id}/parts/{part}"), NormalPath::parse("/documents/7/parts/12"))
    else {
        return;
    };
    c.bench_function("path, match", |b| b.iter(|| black_box(&template).matches(black_box(&path)).is_some()));
    let Some(found) = template.matches(&path).map(Found) else { return };
    for text in ["/documents/{id}", "{header:X-Tenant}/{id}", "doc/{json:/rev}"] {
        let Ok(resource) = Template::parse(text, &template.names()) else { return };
        c.bench_function(&format!("render {text}"), |b| b.iter(|| resource.render(black_box(&found))));
    }
}

fn fingerprints(c: &mut Criterion) {
    let parts = |content_type, body| Parts {
        method: "PUT",
        path: "/documents/7",
        query: None,
        content_type: Some(content_type),
        body,
    };
    let json = parts(b"application/json", BODY);
    let large = format!("[{}]", vec![String::from_utf8_lossy(BODY); 1000].join(","));
    let large = parts(b"application/json", large.as_bytes());
    let multipart = parts(
        b"multipart/form-data; boundary=xyz",
        b"--xyz\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nhello\r\n--xyz\r\n\
          Content-Disposition: form-data; name=\"b\"; filename=\"b.txt\"\r\nContent-Type: text/plain\r\n\r\n\
          world\r\n--xyz--\r\n",
    );
    c.bench_function("fingerprint, 300 bytes as JSON", |b| {
        b.iter(|| fingerprint(Compare::Json, black_box(&json)))
    });
    c.bench_function("fingerprint, 300 bytes", |b| b.iter(|| fingerprint(Compare::Bytes, black_box(&json))));
    c.bench_function("fingerprint, 300 KB as JSON", |b| {
        b.iter(|| fingerprint(Compare::Json, black_box(&large)))
    });
    c.bench_function("fingerprint, multipart", |b| {
        b.iter(|| fingerprint(Compare::Json, black_box(&multipart)))
    });
}

criterion_group!(benches, fields, paths, fingerprints);
criterion_main!(benches);
