use proptest::prelude::*;

use super::*;
use crate::protocol::path::{normal_resource, percent_encode_non_ascii};

/// Each source has one value under its name.
struct Found(&'static [(&'static str, &'static str)]);

impl Found {
    fn find(&self, kind: &str, name: &str) -> Option<Cow<'_, str>> {
        let wanted = format!("{kind}:{name}");
        self.0.iter().find(|(name, _)| *name == wanted).map(|(_, value)| Cow::Borrowed(*value))
    }
}

impl Lookup for Found {
    fn capture(&self, name: &str) -> Option<Cow<'_, str>> {
        self.find("capture", name)
    }

    fn query(&self, name: &str) -> Option<Cow<'_, str>> {
        self.find("query", name)
    }

    fn header(&self, name: &str) -> Option<Cow<'_, str>> {
        self.find("header", name)
    }

    fn json(&self, pointer: &str) -> Option<Cow<'_, str>> {
        self.find("json", pointer)
    }
}

/// The same value for every part but captures.
struct Everywhere<'a>(&'a str);

impl Lookup for Everywhere<'_> {
    fn capture(&self, _name: &str) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed("c"))
    }

    fn query(&self, _name: &str) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(self.0))
    }

    fn header(&self, _name: &str) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(self.0))
    }

    fn json(&self, _pointer: &str) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(self.0))
    }
}

fn template(text: &str) -> Template {
    Template::parse(text, &["id", "rest"]).unwrap_or_else(|problem| panic!("{text}: {problem}"))
}

// R5
#[test]
fn parts_come_from_everywhere() {
    let found = Found(&[
        ("capture:id", "7"),
        ("capture:rest", "a/b%2Fc"),
        ("query:table", "users"),
        ("query:a b", "x"),
        ("header:x-tenant", "acme"),
        ("json:/doc_id", "42"),
        ("json:/a/b~1c", "deep"),
        ("json:", "whole"),
    ]);
    let table = [
        ("/documents/{id}", "/documents/7"),
        ("/files/{rest}", "/files/a/b%2Fc"),
        ("doc/{json:/doc_id}", "doc/42"),
        ("{query:table}", "users"),
        ("{query:a b}", "x"),
        ("{header:X-Tenant}/x", "acme/x"),
        ("{header:X-Tenant}/{json:/doc_id}", "acme/42"),
        ("{json:/a/b~1c}", "deep"),
        ("{json:}", "whole"),
        ("{id}", "7"),
        ("all", "all"),
        ("/", "/"),
        // Literals are put to normal form.
        ("//%64ocuments//{id}/", "/documents/7"),
        ("/{id}//x/", "/7/x"),
        ("/a b/{id}", "/a%20b/7"),
        ("doc//{id}/", "doc//7/"),
        ("/documents/{id}/?full=1&q=a%2fb", "/documents/7?full=1&q=a%2Fb"),
        ("/?id={id}", "/?id=7"),
    ];
    for (text, wanted) in table {
        assert_eq!(template(text).render(&found).as_deref(), Ok(wanted), "{text}");
        assert_eq!(template(text).as_str(), text);
    }
    assert!(template("doc/{json:/doc_id}").needs_body());
    assert!(!template("{header:X-Tenant}/{query:table}/{id}").needs_body());
}

// R5: rules 4 to 6.
#[test]
fn values_are_spelled_like_paths() {
    let table = [
        ("/documents/{json:/id}", "a b", "/documents/a%20b"),
        ("/documents/{json:/id}", "a/b", "/documents/a%2Fb"),
        ("/documents/{json:/id}", "50%", "/documents/50%25"),
        ("/documents/{json:/id}", "a%2Fb", "/documents/a%252Fb"),
        ("/documents/{json:/id}", "user:1@x;y=z", "/documents/user:1@x;y=z"),
        ("/documents/{json:/id}", "é?#", "/documents/é%3F%23"),
        ("/documents/{json:/id}", "a/../b", "/documents/a%2F..%2Fb"),
        ("/documents/{json:/id}", ".hidden", "/documents/.hidden"),
        ("/documents/{json:/id}", "...", "/documents/..."),
        ("doc/{json:/id}", "a/../b", "doc/a%2F..%2Fb"),
        ("doc/{json:/id}", "..", "doc/.."),
        ("{header:X-Tenant}/x", "a/b", "a%2Fb/x"),
        // The whole template: its slashes part segments.
        ("{query:path}", "users", "users"),
        ("{query:path}", "a/../b", "a/../b"),
        ("{query:path}", "/documents/7", "/documents/7"),
        ("{query:path}", "//documents/./7/", "/documents/7"),
        ("{query:path}", "/documents/a b", "/documents/a%20b"),
        ("{query:path}", "/documents/50%", "/documents/50%25"),
        ("{query:path}", "/a?b=c", "/a%3Fb=c"),
        // Behind a question mark nothing can be added.
        ("/search?q={json:/id}&x=1", "a&admin=1+/;é", "/search?q=a%26admin%3D1%2B%2F%3Bé&x=1"),
        ("/{id}?q={query:q}", "a%2Fb", "/c?q=a%252Fb"),
        ("/?q={id}", "", "/?q=c"),
    ];
    for (text, value, wanted) in table {
        let rendered = template(text).render(&Everywhere(value));
        assert_eq!(rendered.as_deref(), Ok(wanted), "{text} {value}");
    }
    let found = Found(&[("capture:id", "a&b%2Fc=é")]);
    assert_eq!(template("/x?q={id}").render(&found).as_deref(), Ok("/x?q=a%26b%2Fc%3Dé"));
}

// R6
#[test]
fn what_cannot_be_rendered() {
    let table = [
        ("doc/{json:/id}", "", "{json:/id}"),
        ("{header:X-Tenant}/x", "", "{header:X-Tenant}"),
        ("/{id}/{query:q}", "", "{query:q}"),
        ("/{query:q}", ".", "/{query:q}"),
        ("/{query:q}/x", "..", "/{query:q}/x"),
        ("/{query:q}./x", ".", "/{query:q}./x"),
        ("/a/.{query:q}?x", ".", "/a/.{query:q}?x"),
        ("{query:path}", "/..", "{query:path}"),
        ("{query:path}", "/a/../../b", "{query:path}"),
    ];
    for (text, value, part) in table {
        let problem = template(text).render(&Everywhere(value)).map_err(|problem| problem.part);
        assert_eq!(problem, Err(part.to_owned()), "{text} {value}");
    }
    let nothing = template("a/{id}").render(&Found(&[])).unwrap_err();
    assert_eq!(nothing.to_string(), "{id} is missing, empty, or not a string or number");
    // The empty rest is empty too.
    assert!(template("/files/{rest}").render(&Found(&[("capture:rest", "")])).is_err());
    let long = "a".repeat(MAX_RENDERED + 1);
    assert!(template("{query:q}").render(&Everywhere(&long)).is_err());
    assert!(template("{query:q}").render(&Everywhere(&"a".repeat(MAX_RENDERED))).is_ok());
    assert!(template("{query:q}").render(&Everywhere(&"/".repeat(MAX_RENDERED))).is_ok());
    assert!(template("{query:q}").render(&Everywhere(&" ".repeat(MAX_RENDERED))).is_err());
}

// C1
#[test]
fn problems_and_their_places() {
    let table = [
        ("", 0, "a template is not empty"),
        ("/a/{id", 3, "{ without }"),
        ("/a/id}", 5, "} without {"),
        ("/a/{other}", 3, "the route's path captures no other, only {id}, {rest}"),
        ("/a/{*rest}", 3, "the route's path captures no *rest, only {id}, {rest}"),
        ("/a/{}", 3, "the route's path captures no , only {id}, {rest}"),
        ("{id}{query:x}", 4, "two parts need something between them, such as /"),
        ("x/{query:}", 2, "{query:NAME} needs a name"),
        ("x/{header:}", 2, "\"\" is not a header's name"),
        ("x/{header:a b}", 2, "\"a b\" is not a header's name"),
        ("x/{json:doc_id}", 2, "\"doc_id\" is not a JSON pointer, such as /doc_id"),
        ("x/{json:/a~2}", 2, "\"/a~2\" is not a JSON pointer, such as /doc_id"),
        ("x/{cookie:a}", 2, "cookie: is none of query:, header:, json:"),
        ("/a/../{id}", 0, "a template has no . and .. segments"),
        ("/a/..?{id}", 0, "a template has no . and .. segments"),
        ("/{id}/%2e", 5, "a template has no . and .. segments"),
        ("/{id}/%zz", 5, "The path has a % in it without two hexadecimal digits behind it."),
    ];
    for (text, offset, reason) in table {
        let problem = Template::parse(text, &["id", "rest"]).unwrap_err();
        assert_eq!((problem.offset, problem.reason.as_str()), (offset, reason), "{text}");
    }
    let problem = Template::parse("{id}", &[]).unwrap_err();
    assert_eq!(problem.reason, "the route's path captures no id");
}

struct Two<'a>(&'a str, &'a str);

impl Lookup for Two<'_> {
    fn capture(&self, _name: &str) -> Option<Cow<'_, str>> {
        None
    }

    fn query(&self, _name: &str) -> Option<Cow<'_, str>> {
        None
    }

    fn header(&self, _name: &str) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(self.0))
    }

    fn json(&self, _pointer: &str) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(self.1))
    }
}

// L1
#[test]
fn what_a_template_could_give() {
    let table = [
        ("/d/{json:/i}", "/d/7", true),
        ("/d/{json:/i}", "/d/", false),
        ("/d/{json:/i}", "/e/7", false),
        ("/d/{json:/i}/x", "/d/7/x", true),
        ("/d/{json:/i}/x", "/d/x", false),
        ("/d/{json:/i}/x", "/d//x", false),
        ("/d/{json:/i}-{query:q}", "/d/a-b-c", true),
        ("/d/{json:/i}-{query:q}", "/d/a-", false),
        ("{json:/i}", "é", true),
        ("{json:/i}", "", false),
        ("one", "one", true),
        ("one", "ones", false),
    ];
    for (text, resource, wanted) in table {
        assert_eq!(template(text).could_give(resource), wanted, "{text} {resource}");
    }
}

proptest! {
    /// Different values never meet, whatever is in them.
    #[test]
    fn values_do_not_collide(values in prop::array::uniform4("[a/%.2F é]{1,4}")) {
        let [a, b, c, d] = &values;
        for text in ["{header:T}/{json:/id}", "/{header:T}/{json:/id}", "/x?t={header:T}&i={json:/id}"] {
            let rendered = [Two(a, b), Two(c, d)].map(|values| template(text).render(&values));
            if let [Ok(one), Ok(other)] = rendered {
                prop_assert_eq!(one == other, (a, b) == (c, d), "{} {}", text, one);
            }
        }
    }

    /// A value meets the path that has it as a segment, and what was rendered is a resource's one spelling.
    #[test]
    fn values_meet_paths(value in "\\PC{1,8}") {
        let rendered = template("/documents/{json:/id}").render(&Everywhere(&value));
        let mut segment = String::new();
        encode(&value, is_plain, &mut segment);
        let sent = percent_encode_non_ascii(&segment);
        let path = NormalPath::parse(&format!("/documents/{sent}"));
        match rendered {
            Ok(rendered) => prop_assert_eq!(path.map(|path| path.to_string()), Ok(rendered)),
            Err(_) => prop_assert!(matches!(value.as_str(), "." | "..")),
        }
        let texts = ["/documents/{json:/i}", "doc/{json:/i}", "{json:/i}", "/a?b={json:/i}", "a?b={json:/i}"];
        for text in texts {
            let Ok(rendered) = template(text).render(&Everywhere(&value)) else { continue };
            prop_assert!(template(text).could_give(&rendered), "{} {}", text, rendered);
            prop_assert_eq!(&normal_resource(&rendered).unwrap(), &rendered);
            prop_assert_eq!(&normal_resource(&percent_encode_non_ascii(&rendered)).unwrap(), &rendered);
        }
    }

    // L1
    #[test]
    fn what_a_template_gives_it_could_give(a in "[ab-]{1,4}", b in "[ab-]{1,4}") {
        let both = format!("x/{a}-{b}/y");
        let parted = template("x/{json:/a}-{json:/b}/y");
        prop_assert!(parted.could_give(&both), "{}", both);
        prop_assert_eq!(template("{json:/a}-").could_give(&a), a.len() > 1 && a.ends_with('-'));
    }

    #[test]
    fn any_text_is_a_template_or_a_problem(
        text in "(/|\\{|\\}|id|json:|query:|a|%|é|\\?|\\.){0,8}",
        value in "\\PC{0,4}",
    ) {
        match Template::parse(&text, &["id"]) {
            Err(problem) => prop_assert!(text.get(problem.offset..).is_some()),
            Ok(template) => {
                let _whole = template.render(&Everywhere(&value));
            }
        }
    }
}
