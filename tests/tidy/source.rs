//! A source file as the tidy tests look at it: its code without comments and strings, its imports, its attributes.

use std::fmt;
use std::fs;
use std::path::Path;

pub struct Source {
    /// From the root of the crate, e.g. `src/policy/turn.rs`.
    pub path: String,
    pub text: String,
    /// The text with comments and strings blanked out.
    code: String,
}

/// Every Rust file under a directory of the crate, in the order of their names.
pub fn sources(directory: &str) -> Vec<Source> {
    let mut found = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join(directory), directory, &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn collect(directory: &Path, shown: &str, into: &mut Vec<Source>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries {
        let entry = entry.expect("a directory entry").path();
        let name = entry.file_name().and_then(|name| name.to_str()).expect("a name in UTF-8").to_owned();
        let path = format!("{shown}/{name}");
        if entry.is_dir() && name != "target" {
            collect(&entry, &path, into);
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(&entry).expect("a source file");
            let code = blanked(&text);
            into.push(Source { path, text, code });
        }
    }
}

impl Source {
    /// The modules this file is, from the crate's root: `["policy", "turn"]`.
    fn module(&self) -> Vec<&str> {
        let path = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        let mut parts: Vec<_> = path.split('/').collect();
        if matches!(parts.last(), Some(&"mod" | &"lib")) {
            parts.pop();
        }
        parts
    }

    pub fn is_in(&self, module: &str) -> bool {
        self.module().first() == Some(&module)
    }

    /// The stage a file of `policy` belongs to.
    pub fn stage(&self) -> Option<String> {
        match self.module()[..] {
            ["policy", stage, ..] => Some(stage.to_owned()),
            _ => None,
        }
    }

    /// Our own modules that the code names, each from the crate's root.
    pub fn imports(&self) -> Vec<Vec<String>> {
        let mut found = Vec::new();
        let code = self.code_outside_tests();
        for root in ["crate::", "super::"] {
            for (at, _) in code.match_indices(root) {
                let follows = code[..at].ends_with("::") || code[..at].ends_with(is_name);
                if !follows {
                    paths(&code[at..], &mut Vec::new(), &mut found);
                }
            }
        }
        found.into_iter().filter_map(|path| self.absolute(&path)).collect()
    }

    /// A path that begins with `crate` or `super`, from the crate's root.
    fn absolute(&self, path: &[String]) -> Option<Vec<String>> {
        let mut base: Vec<String> = match path[0].as_str() {
            "crate" => Vec::new(),
            _ => self.module().iter().map(|part| (*part).to_owned()).collect(),
        };
        for part in path {
            match part.as_str() {
                "crate" => {}
                "super" => drop(base.pop()),
                _ => base.push(part.clone()),
            }
        }
        (!base.is_empty()).then_some(base)
    }

    /// The code, without the modules that are compiled for tests only.
    pub fn code_outside_tests(&self) -> String {
        let mut code = self.code.clone();
        while let Some(start) = code.find("#[cfg(test)]") {
            let end = code[start..].find(['{', ';']).map_or(code.len(), |open| {
                let open = start + open;
                if code[open..].starts_with('{') { closing(&code, open, '{', '}') } else { open + 1 }
            });
            let blank: String = code[start..end].chars().map(|c| if c == '\n' { c } else { ' ' }).collect();
            code.replace_range(start..end, &blank);
        }
        code
    }

    /// Every attribute as it is written, with the number of its line.
    pub fn attributes(&self) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        for opening in ["#[", "#!["] {
            for (at, _) in self.code.match_indices(opening) {
                let end = closing(&self.code, at + opening.len() - 1, '[', ']');
                let line = self.code[..at].matches('\n').count() + 1;
                found.push((line, self.code[at..end].split_whitespace().collect::<Vec<_>>().join(" ")));
            }
        }
        found
    }

    /// The comment lines of tests: all of an integration test or of a file in a folder of tests, and of a unit test's
    /// module.
    pub fn comments_on_tests(&self) -> Vec<String> {
        let from = if self.path.starts_with("tests/") || self.path.contains("/tests/") {
            0
        } else {
            self.text.find("#[cfg(test)]").unwrap_or(usize::MAX)
        };
        let text = self.text.get(from..).unwrap_or_default();
        text.lines().filter_map(|line| line.split_once("//").map(|(_, comment)| comment.to_owned())).collect()
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)
    }
}

/// Whether a line has the word with no name before it, so that `println!` is not found in `eprintln!`.
pub fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| !line[..at].ends_with(is_name))
}

fn is_name(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// Reads `a::{b, c::d}` into its paths; gives back how much of `code` it took.
fn paths(code: &str, before: &mut Vec<String>, into: &mut Vec<Vec<String>>) -> usize {
    let depth = before.len();
    let mut at = 0;
    loop {
        let name: String = code[at..].chars().take_while(|c| is_name(*c)).collect();
        at += name.len();
        if !name.is_empty() {
            before.push(name);
        }
        if code[at..].starts_with("::") {
            at += 2;
            continue;
        }
        if code[at..].starts_with('{') {
            let end = closing(code, at, '{', '}');
            for part in split(&code[at + 1..end - 1]) {
                paths(part.trim(), before, into);
            }
            at = end;
        } else {
            into.push(before.clone());
        }
        before.truncate(depth);
        return at;
    }
}

/// Splits at commas that stand in no inner group.
fn split(group: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&group[start..]);
    parts.into_iter().filter(|part| !part.trim().is_empty()).collect()
}

/// The place behind the bracket that closes the one at `open`.
fn closing(code: &str, open: usize, opens: char, closes: char) -> usize {
    let mut depth = 0;
    for (at, letter) in code[open..].char_indices() {
        if letter == opens {
            depth += 1;
        } else if letter == closes {
            depth -= 1;
            if depth == 0 {
                return open + at + 1;
            }
        }
    }
    code.len()
}

/// The text with comments, strings and characters blanked out, byte for byte as long.
fn blanked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let taken = token(rest, out.chars().next_back().is_some_and(is_name));
        let (piece, after) = rest.split_at(taken.unsigned_abs());
        if taken < 0 {
            out.extend(piece.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }));
        } else {
            out.push_str(piece);
        }
        rest = after;
    }
    out
}

/// How long the next piece is; negative where it is to be blanked.
fn token(rest: &str, in_name: bool) -> isize {
    let first = rest.chars().next().map_or(1, char::len_utf8) as isize;
    let until = |end: &str, from: usize| {
        rest[from..].find(end).map_or(rest.len(), |at| from + at + end.len()) as isize
    };
    if rest.starts_with("//") {
        return -(rest.find('\n').unwrap_or(rest.len()) as isize);
    }
    if rest.starts_with("/*") {
        return -until("*/", 2);
    }
    if !in_name && (rest.starts_with("r\"") || rest.starts_with("r#\"")) {
        let (end, from) = if rest.starts_with("r#") { ("\"#", 3) } else { ("\"", 2) };
        return -until(end, from);
    }
    if rest.starts_with('"') {
        return -(quoted(rest) as isize);
    }
    if rest.starts_with("'\\") {
        return -until("'", 3);
    }
    // A character; a lifetime has no second quote so near.
    let mut letters = rest.char_indices().skip(2);
    if rest.starts_with('\'') && letters.next().is_some_and(|(_, letter)| letter == '\'') {
        return -until("'", 1);
    }
    first
}

/// The length of a string literal with its quotes.
fn quoted(rest: &str) -> usize {
    let mut escaped = false;
    for (at, letter) in rest.char_indices().skip(1) {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

#[test]
fn imports_are_found_in_every_spelling() {
    let text = "use crate::{store::{self, Record}, http::Request};\nfn f() { super::turn::take(); } // crate::cli\n\
        const S: &str = \"crate::server\";\n#[cfg(test)]\nmod tests { use crate::demo; }\n";
    let (text, code) = (text.to_owned(), blanked(text));
    let source = Source { path: "src/policy/lease.rs".to_owned(), text, code };
    let mut found: Vec<_> = source.imports().iter().map(|path| path.join("::")).collect();
    found.sort();
    assert_eq!(found, ["http::Request", "policy::turn::take", "store::Record", "store::self"]);
    assert_eq!(source.stage().as_deref(), Some("lease"));
}
