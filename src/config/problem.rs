//! What is wrong with a configuration: all of it at once, each with its place and what would be right (C1).

use std::fmt;
use std::ops::Range;

use miette::{GraphicalReportHandler, LabeledSpan, MietteDiagnostic, NamedSource, Report};

/// Everything that is wrong with one configuration, in the order of its text. Never empty.
#[derive(Debug, Clone)]
pub struct Problems {
    name: String,
    text: String,
    list: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub kind: Kind,
    /// Where in the text; empty for what has no place in it, such as an argument.
    pub span: Option<Range<usize>>,
    /// The key as one would say it, for example `routes[0].guard`; empty for the document itself.
    pub key: String,
    /// What is wrong and what would be right.
    pub what: String,
}

/// What kind of wrong it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The file cannot be read.
    File,
    /// The text is not TOML.
    Syntax,
    /// A key that is not known. The schema refuses it too.
    Name,
    /// A value of the wrong type or spelling, or a key that is missing. The schema refuses it too.
    Type,
    /// A value that is well spelled and cannot be used.
    Value,
    /// A key or value that is known and does nothing yet.
    NotBuilt,
}

impl Problems {
    /// Puts problems in the order of the text. `None`: there are none.
    pub(super) fn of(name: &str, text: &str, mut list: Vec<Problem>) -> Option<Self> {
        list.sort_by_key(|problem| problem.span.as_ref().map(|span| (span.start, span.end)));
        list.dedup();
        (!list.is_empty()).then(|| Self { name: name.to_owned(), text: text.to_owned(), list })
    }

    /// The single problem of a file that gave no text.
    pub(super) fn file(name: &str, what: String) -> Self {
        let problem = Problem { kind: Kind::File, span: None, key: String::new(), what };
        Self { name: name.to_owned(), text: String::new(), list: vec![problem] }
    }

    /// The problems in the order of the text.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter()
    }

    /// Line and column of a problem, both from 1, columns in characters.
    pub fn place(&self, problem: &Problem) -> Option<(usize, usize)> {
        problem.span.as_ref().map(|span| line_and_column(&self.text, span.start))
    }

    /// The problems with the lines they are about, for a terminal.
    pub fn pretty(&self) -> String {
        let handler = GraphicalReportHandler::new();
        let mut page = String::new();
        for problem in &self.list {
            if handler.render_report(&mut page, self.report(problem).as_ref()).is_err() {
                return self.to_string();
            }
        }
        page
    }

    fn report(&self, problem: &Problem) -> Report {
        let headline = if problem.key.is_empty() { self.name.clone() } else { problem.key.clone() };
        let Some(span) = problem.span.clone() else {
            return Report::new(MietteDiagnostic::new(format!("{headline}: {}", problem.what)));
        };
        let label = LabeledSpan::at(first_line(&self.text, span), problem.what.clone());
        let diagnostic = MietteDiagnostic::new(headline).with_label(label);
        Report::new(diagnostic).with_source_code(NamedSource::new(&self.name, self.text.clone()))
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.list.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&self.name)?;
            if let Some((line, column)) = self.place(problem) {
                write!(f, ":{line}:{column}")?;
            }
            write!(f, ": {problem}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.what)
    }
}

impl std::error::Error for Problems {}

/// Line and column of a byte offset, both from 1.
pub(super) fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset.min(text.len())).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

/// A span cut to its first line: a whole table is too much to underline.
fn first_line(text: &str, span: Range<usize>) -> Range<usize> {
    let inside = text.get(span.clone()).unwrap_or_default();
    let length = inside.find('\n').unwrap_or(inside.len());
    span.start..span.start + length
}
