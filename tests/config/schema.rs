//! C1: `schema` refuses what `check` refuses of types and names, and nothing else.

use jsonschema::Validator;
use onceward::config::{self, Kind};
use serde_json::{Value as Json, json};

use super::load;

fn validator() -> Validator {
    jsonschema::options().build(&config::schema()).unwrap()
}

/// What `check` finds wrong of names and types.
fn refusals(text: &str) -> Vec<String> {
    match load(text) {
        Ok(_) => Vec::new(),
        Err(problems) => problems
            .iter()
            .filter(|problem| {
                assert!(problem.kind != Kind::Syntax, "{text}\n{problems}");
                matches!(problem.kind, Kind::Name | Kind::Type)
            })
            .map(ToString::to_string)
            .collect(),
    }
}

/// Both have to say the same; gives what it is.
fn agree(validator: &Validator, document: &Json) -> bool {
    let text = toml::to_string(document).unwrap();
    let refusals = refusals(&text);
    let schema: Vec<_> = validator.iter_errors(document).map(|error| error.to_string()).collect();
    assert_eq!(refusals.is_empty(), schema.is_empty(), "{text}\ncheck: {refusals:?}\nschema: {schema:?}");
    refusals.is_empty()
}

fn minimal() -> Json {
    json!({ "routes": [{ "path": "/documents/{id}", "upstream": "http://h" }] })
}

/// One step to a value: a key, or the first of a list.
type Steps = Vec<Option<String>>;

/// Every place of the schema, each with its schema.
fn places(schema: &Json, steps: &mut Steps, found: &mut Vec<(Steps, Json)>) {
    for choice in schema["anyOf"].as_array().into_iter().flatten() {
        places(choice, steps, found);
    }
    if schema["items"].is_object() {
        steps.push(None);
        found.push((steps.clone(), schema["items"].clone()));
        places(&schema["items"], steps, found);
        steps.pop();
    }
    for (key, below) in schema["properties"].as_object().into_iter().flatten() {
        steps.push(Some(key.clone()));
        found.push((steps.clone(), below.clone()));
        places(below, steps, found);
        steps.pop();
    }
}

fn all_places() -> Vec<(Steps, Json)> {
    let mut found = Vec::new();
    places(&config::schema(), &mut Vec::new(), &mut found);
    assert!(found.len() > 150, "{}", found.len());
    found
}

/// The smallest document with this value at this place.
fn document(steps: &[Option<String>], value: &Json) -> Json {
    let mut document = minimal();
    let mut here = &mut document;
    for (index, step) in steps.iter().enumerate() {
        here = match step {
            Some(key) => {
                if !here.is_object() {
                    *here = json!({});
                }
                // What such a table needs beside the key.
                match (steps[..index].last(), steps[..index].iter().flatten().next_back().map(String::as_str))
                {
                    (Some(None), Some("queues")) => *here = json!({ "name": "n", "source": "http://h" }),
                    (_, Some("tls")) => *here = json!({ "cert": "c", "key": "k" }),
                    (Some(Some(_)), Some("upstream")) => *here = json!({ "url": "http://h" }),
                    _ => {}
                }
                &mut here[key]
            }
            None => {
                if here.as_array().is_none_or(Vec::is_empty) {
                    *here = json!([null]);
                }
                &mut here[0]
            }
        };
    }
    *here = value.clone();
    document
}

/// Values of every type, and strings that are nearly right.
fn values() -> Vec<Json> {
    let mut values = vec![
        json!(true),
        json!(false),
        json!(-1),
        json!(0),
        json!(1),
        json!(409),
        json!(65536),
        json!(4_000_000_000_u32),
        json!(1.5),
        json!([]),
        json!([1]),
        json!([["x"]]),
        json!(["GET"]),
        json!(["GET", "x y"]),
        json!(["127.0.0.1:1", "X-A"]),
        json!({}),
        json!({ "unheard_of": 1 }),
        json!({ "url": 5 }),
        json!({ "name": "n", "source": "s" }),
        json!({ "cert": "c", "key": "k" }),
        json!({ "path": "/", "upstream": { "url": "http://h" } }),
        json!({ "name": "n", "source": "http://h" }),
        json!([{ "path": "/", "upstream": "http://h" }]),
    ];
    let strings = "|x|off|on|hash|Hash|state|json|wait|all|rows|info|info,a::b=trace|a=b=info|=info|30s|0s|00s|30|30 s|\
         1h30m|5m\n|1MiB|0B|1MB|64KiB |127.0.0.1:80|127.0.0.1|[::1]:80|a:80|:80|1.1.1.1:123456|[]:80|http://h|\
         https://h|http://|http://h/|http://h/p|http://u@h|HTTP://h|memory:|memory|disk:|disk:/p|redis://h|\
         rediss+sentinel://h|postgresql://h|mysql://h|/|/a/{id}|a|/a~0b~1|/a~b|/~|GET|get|G T|a:b|X-A|X A|\
         text/plain|é|\u{7f}|\u{85}|a\tb|${X}|${X:-}|${X:-30s}|$${|a${b}c|$X";
    values.extend(strings.split('|').map(Json::from));
    values
}

// C1
#[test]
fn schema_and_check_agree_on_every_value_at_every_place() {
    let validator = validator();
    let values = values();
    for (steps, _) in all_places() {
        let verdicts: Vec<_> =
            values.iter().map(|value| agree(&validator, &document(&steps, value))).collect();
        assert!(verdicts.contains(&false), "{steps:?} takes everything");
        assert!(verdicts.contains(&true), "{steps:?} takes nothing");
    }
}

// C1, C2
#[test]
fn schema_and_check_refuse_every_misspelt_key() {
    let validator = validator();
    let places = all_places();
    for (mut steps, _) in places.clone() {
        let Some(Some(key)) = steps.last_mut() else { continue };
        key.push('s');
        if places.iter().any(|(known, _)| *known == steps) {
            continue;
        }
        assert!(!agree(&validator, &document(&steps, &json!("x"))), "{steps:?}");
    }
}

// C1
#[test]
fn schema_and_check_agree_on_whole_documents() {
    let validator = validator();
    for (document, good) in [
        (json!({}), false),
        (json!({ "routes": [] }), false),
        (json!({ "routes": [{}] }), false),
        (json!({ "routes": [{ "path": "/" }] }), false),
        (json!({ "routes": [{ "upstream": "http://h" }] }), false),
        (json!({ "routes": { "path": "/", "upstream": "http://h" } }), false),
        (minimal(), true),
        (json!({ "routes": [{ "path": "/", "upstream": { "url": "http://h", "http2": false } }] }), true),
        (json!({ "routes": [{ "path": "/", "upstream": { "http2": false } }] }), false),
        (json!({ "routes": [{ "path": "/${A}", "upstream": "${B}", "guard": "${C:-state}" }] }), true),
        (
            json!({ "routes": [{ "path": "/", "upstream": "http://h", "store": { "url": "memory:" } }] }),
            false,
        ),
        (json!({ "routes": [{ "path": "/", "upstream": "http://h", "limits": { "head": "1KiB" } }] }), false),
        // Known, well spelled, and refused for other reasons than names and types.
        (json!({ "routes": [{ "path": "/{", "upstream": "https://h", "version": "field" }] }), true),
    ] {
        assert_eq!(agree(&validator, &document), good, "{document}");
    }
    for (_, text) in super::examples::examples() {
        let document: Json = toml::from_str(&text).unwrap();
        assert!(agree(&validator, &document), "{text}");
    }
}
