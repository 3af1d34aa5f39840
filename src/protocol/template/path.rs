//! A route's path (R1).
//!
//! 1. `{name}` is one whole segment that is not empty; `{*name}` is all that is left, also nothing, and
//!    stands last.
//! 2. Literal segments are put to normal form, so that a template means the same however it is spelled.
//! 3. The most specific wins, compared segment by segment: a literal, a capture, the end, the rest.

use std::sync::Arc;

use super::TemplateProblem;
use crate::protocol::path::{NormalPath, spell};

/// The path of a route, with captures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathTemplate {
    text: Box<str>,
    segments: Vec<Segment>,
    /// Of the captures, in order.
    names: Arc<[Box<str>]>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(Box<str>),
    Capture,
    Rest,
}

impl PathTemplate {
    /// Reads a template such as `/documents/{id}` or `/files/{*rest}`.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn parse(text: &str) -> Result<Self, TemplateProblem> {
        let Some(inside) = text.strip_prefix('/') else {
            return Err(TemplateProblem::new(0, "a path begins with /"));
        };
        let (mut segments, mut names) = (Vec::new(), Vec::<Box<str>>::new());
        let mut offset = 1;
        for segment in inside.split('/').filter(|segment| {
            // Doubled slashes are one, and a trailing one goes, as in every path.
            !segment.is_empty()
        }) {
            // Segments are slices of `text`, so the distance is the offset.
            offset = text.get(offset..).and_then(|rest| rest.find(segment)).map_or(offset, |at| offset + at);
            if segments.last() == Some(&Segment::Rest) {
                return Err(TemplateProblem::new(offset, "nothing can stand behind {*...}"));
            }
            segments.push(match segment.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
                None => Segment::Literal(literal(segment, offset)?),
                Some(name) => {
                    let (name, kind) = match name.strip_prefix('*') {
                        Some(name) => (name, Segment::Rest),
                        None => (name, Segment::Capture),
                    };
                    check_name(name, offset)?;
                    if names.iter().any(|known| **known == *name) {
                        return Err(TemplateProblem::new(offset, format!("{name} is captured twice")));
                    }
                    names.push(name.into());
                    kind
                }
            });
            offset += segment.len();
        }
        Ok(Self { text: text.into(), segments, names: names.into() })
    }

    /// What the template captures of a path that it matches.
    pub fn matches<'p>(&self, path: &'p NormalPath) -> Option<Captures<'p>> {
        let mut rest = path.as_str().strip_prefix('/')?;
        let mut values = Vec::new();
        for segment in &self.segments {
            if *segment == Segment::Rest {
                values.push(rest);
                rest = "";
                break;
            }
            let (first, behind) = rest.split_once('/').unwrap_or((rest, ""));
            match segment {
                Segment::Literal(literal) if **literal == *first => {}
                Segment::Capture if !first.is_empty() => values.push(first),
                Segment::Literal(_) | Segment::Capture | Segment::Rest => return None,
            }
            rest = behind;
        }
        rest.is_empty().then(|| Captures { names: Arc::clone(&self.names), values })
    }

    /// Orders templates that match the same path: the greatest is the most specific (R1).
    pub fn specificity(&self) -> Specificity {
        let mut ranks: Vec<_> = self
            .segments
            .iter()
            .map(|segment| match segment {
                Segment::Literal(_) => Rank::Literal,
                Segment::Capture => Rank::Capture,
                Segment::Rest => Rank::Rest,
            })
            .collect();
        if ranks.last() != Some(&Rank::Rest) {
            ranks.push(Rank::End);
        }
        Specificity(ranks)
    }

    /// Whether the two match exactly the same paths, so that neither is the more specific. Two that both
    /// match some path and are not the same in this sense differ in [`specificity`](Self::specificity).
    pub fn same_paths(&self, other: &Self) -> bool {
        self.segments == other.segments
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The names of its captures, in order, none twice.
    pub fn names(&self) -> Vec<&str> {
        self.names.iter().map(|name| &**name).collect()
    }
}

/// How specific a template is; see [`PathTemplate::specificity`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Specificity(Vec<Rank>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Rest,
    End,
    Capture,
    Literal,
}

/// What a template captured of a path, in the path's normal form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captures<'p> {
    names: Arc<[Box<str>]>,
    values: Vec<&'p str>,
}

impl<'p> Captures<'p> {
    /// What was captured under a name. Never empty but for a `{*name}`, which has slashes in it and none at
    /// its ends.
    pub fn get(&self, name: &str) -> Option<&'p str> {
        self.names.iter().zip(&self.values).find(|(known, _)| ***known == *name).map(|(_, value)| *value)
    }
}

/// Puts a literal segment to normal form.
fn literal(segment: &str, offset: usize) -> Result<Box<str>, TemplateProblem> {
    if let Some(at) = segment.find(['{', '}']) {
        return Err(TemplateProblem::new(offset + at, "a capture is a whole segment: /{name}/"));
    }
    if let Some(at) = segment.find(['?', '#']) {
        return Err(TemplateProblem::new(offset + at, "a route's path has no query and no fragment"));
    }
    let normal = spell(segment, b"").map_err(|problem| TemplateProblem::new(offset, problem.to_string()))?;
    match normal.as_str() {
        "." | ".." => Err(TemplateProblem::new(offset, "a route's path has no . and .. segments")),
        _ => Ok(normal.into()),
    }
}

/// Letters, digits and `_`, not a digit first.
fn check_name(name: &str, offset: usize) -> Result<(), TemplateProblem> {
    let valid = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && !name.is_empty();
    if valid {
        return Ok(());
    }
    let reason = "a capture's name has letters, digits and _, and does not begin with a digit";
    Err(TemplateProblem::new(offset, reason))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn template(text: &str) -> PathTemplate {
        PathTemplate::parse(text).unwrap_or_else(|problem| panic!("{text}: {problem}"))
    }

    fn captured(text: &str, path: &str) -> Option<Vec<(String, String)>> {
        let (template, path) = (template(text), NormalPath::parse(path).unwrap());
        let captures = template.matches(&path)?;
        let value = |name: &&str| ((*name).to_owned(), captures.get(name).unwrap().to_owned());
        Some(template.names().iter().map(value).collect())
    }

    // R1
    #[test]
    fn what_matches() {
        type Captured = Option<&'static [(&'static str, &'static str)]>;
        let table: [(&str, &str, Captured); 24] = [
            ("/", "/", Some(&[])),
            ("/", "/a", None),
            ("/documents", "/documents", Some(&[])),
            ("/documents", "/documents/", Some(&[])),
            ("/documents", "/documents/7", None),
            ("/documents", "/Documents", None),
            ("/documents/{id}", "/documents/7", Some(&[("id", "7")])),
            ("/documents/{id}", "//documents/%37/", Some(&[("id", "7")])),
            ("/documents/{id}", "/documents/a%2fb", Some(&[("id", "a%2Fb")])),
            ("/documents/{id}", "/documents", None),
            ("/documents/{id}", "/documents/", None),
            ("/documents/{id}", "/documents/7/8", None),
            ("/{a}/x/{b}", "/1/x/2", Some(&[("a", "1"), ("b", "2")])),
            ("/{a}/x/{b}", "/1/y/2", None),
            ("/files/{*rest}", "/files/a/b//c/", Some(&[("rest", "a/b/c")])),
            ("/files/{*rest}", "/files", Some(&[("rest", "")])),
            ("/files/{*rest}", "/filesystem", None),
            ("/{*rest}", "/", Some(&[("rest", "")])),
            ("/{*rest}", "/a/b", Some(&[("rest", "a/b")])),
            ("/{*path}", "/.onceward/operations", Some(&[("path", ".onceward/operations")])),
            ("/{a}/{*rest}", "/", None),
            // Literals are in normal form too.
            ("//%61/caf%c3%a9/b%2fc/", "/a/café/b%2Fc", Some(&[])),
            ("/a b|c", "/a%20b%7cc", Some(&[])),
            ("/a%7eb", "/a~b", Some(&[])),
        ];
        for (text, path, wanted) in table {
            let wanted = wanted.map(|pairs| {
                pairs
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                    .collect::<Vec<_>>()
            });
            assert_eq!(captured(text, path), wanted, "{text} {path}");
        }
        let path = NormalPath::parse("/documents/7").unwrap();
        assert_eq!(template("/documents/{id}").matches(&path).unwrap().get("other"), None);
        assert_eq!(template("//a/{x}/").as_str(), "//a/{x}/");
    }

    // C1
    #[test]
    fn problems_and_their_places() {
        let table = [
            ("", 0),
            ("documents", 0),
            ("/a/v{n}", 4),
            ("/a/{n}.json", 3),
            ("/a/{n", 3),
            ("/a/n}", 4),
            ("/a/{}", 3),
            ("/a/{*}", 3),
            ("/a/{1a}", 3),
            ("/a/{a-b}", 3),
            ("/a/{**b}", 3),
            ("/{a}/{a}", 5),
            ("/a/{a}/{*a}", 7),
            ("/{*a}/b", 6),
            ("/{*a}/{*b}", 6),
            ("/a?b", 2),
            ("/a#b", 2),
            ("/a/../b", 3),
            ("/a/%2e", 3),
            ("/a/%zz", 3),
            ("/a//%zz", 4),
            ("/a/a/%ff", 5),
        ];
        for (text, offset) in table {
            let problem = PathTemplate::parse(text).map_err(|problem| problem.offset);
            assert_eq!(problem, Err(offset), "{text}");
        }
    }

    // R1
    #[test]
    fn the_most_specific_wins() {
        let falling = [
            "/a/b/c",
            "/a/b/{x}",
            "/a/b",
            "/a/b/{*x}",
            "/a/{x}/c",
            "/a/{x}/{y}",
            "/a/{x}",
            "/a/{x}/{*y}",
            "/a",
            "/a/{*x}",
            "/{x}/b",
            "/{x}",
            "/{x}/{*y}",
            "/",
            "/{*x}",
        ];
        for pair in falling.windows(2) {
            let [more, less] = [pair[0], pair[1]].map(template);
            assert!(more.specificity() > less.specificity(), "{pair:?}");
            assert!(!more.same_paths(&less), "{pair:?}");
        }
        assert!(template("/a/{x}").same_paths(&template("//%61/{y}/")));
        assert!(!template("/a/{x}").same_paths(&template("/b/{x}")));
        assert!(!template("/a/{x}").same_paths(&template("/a/{*x}")));
    }

    /// Matches by trying, from the right.
    fn model(segments: &[&str], path: &[&str]) -> bool {
        match (segments.split_last(), path.split_last()) {
            (None, None) => true,
            (None, Some(_)) => false,
            (Some((&"*", front)), _) => (0..=path.len()).any(|kept| model(front, &path[..kept])),
            (Some(_), None) => false,
            (Some((segment, front)), Some((value, before))) => {
                (*segment == "?" || segment == value) && model(front, before)
            }
        }
    }

    fn shapes() -> impl Strategy<Value = Vec<&'static str>> {
        let segment = prop::sample::select(vec!["a", "b", "?"]);
        (prop::collection::vec(segment, 0..4), any::<bool>()).prop_map(|(mut segments, rest)| {
            segments.extend(rest.then_some("*"));
            segments
        })
    }

    fn written(shape: &[&str]) -> PathTemplate {
        let segments = shape.iter().enumerate().map(|(at, segment)| match *segment {
            "?" => format!("{{c{at}}}"),
            "*" => format!("{{*c{at}}}"),
            literal => literal.to_owned(),
        });
        template(&format!("/{}", segments.collect::<Vec<_>>().join("/")))
    }

    proptest! {
        #[test]
        fn it_matches_what_the_model_does(
            one in shapes(),
            other in shapes(),
            path in prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 0..5),
        ) {
            let normal = NormalPath::parse(&format!("/{}", path.join("/"))).unwrap();
            let [first, second] = [&one, &other].map(|shape| written(shape));
            prop_assert_eq!(first.matches(&normal).is_some(), model(&one, &path));
            // Two that match one path can be told apart, or are the same (R1).
            if first.matches(&normal).is_some() && second.matches(&normal).is_some() {
                prop_assert_eq!(first.same_paths(&second), first.specificity() == second.specificity());
            }
        }

        #[test]
        fn any_text_is_a_template_or_a_problem(text in "(/|\\{|\\}|\\*|a|%|é){0,8}") {
            if let Err(problem) = PathTemplate::parse(&text) {
                prop_assert!(text.get(problem.offset..).is_some());
            }
        }
    }
}
