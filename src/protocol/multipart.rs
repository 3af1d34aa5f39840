//! The parts of a `multipart` body (RFC 2046 §5.1, RFC 7578), for comparing (K3).
//!
//! Strict on purpose: what is not plainly multipart is compared by its bytes. What stands before the first
//! delimiter and behind the last means nothing (RFC 2046 §5.1.1).

/// The most parts that are taken apart.
const MAX_PARTS: usize = 4096;

/// One part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part<'a> {
    /// Its header lines as they stand, without the empty line behind them.
    pub headers: &'a [u8],
    pub content: &'a [u8],
}

/// A content type that was taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentType<'a> {
    /// `type/subtype` as it was sent.
    pub essence: &'a [u8],
    /// All parameters but `boundary`, as they were sent.
    pub others: Vec<&'a [u8]>,
    /// 1 to 70 characters.
    pub boundary: Vec<u8>,
}

/// Takes a `multipart/*` content type apart. `None`: another one, or without exactly one valid boundary.
pub fn content_type(value: &[u8]) -> Option<ContentType<'_>> {
    let (essence, mut rest) = split_at_semicolon(value);
    let essence = essence.trim_ascii();
    if !essence.get(..10)?.eq_ignore_ascii_case(b"multipart/") {
        return None;
    }
    let mut others = Vec::new();
    let mut boundary = None;
    while !rest.is_empty() {
        let (parameter, behind) = split_at_semicolon(rest);
        let parameter = parameter.trim_ascii();
        match boundary_of(parameter) {
            None if parameter.is_empty() => {}
            None => others.push(parameter),
            Some(_) if boundary.is_some() => return None,
            Some(value) => boundary = Some(value?),
        }
        rest = behind;
    }
    Some(ContentType { essence, others, boundary: boundary? })
}

/// Of a `boundary` parameter its value, if that is valid. `None`: another parameter.
fn boundary_of(parameter: &[u8]) -> Option<Option<Vec<u8>>> {
    let equals = parameter.iter().position(|&byte| byte == b'=')?;
    let (name, value) = parameter.split_at_checked(equals)?;
    if !name.eq_ignore_ascii_case(b"boundary") {
        return None;
    }
    let value = value.get(1..).unwrap_or_default();
    let plain = match value {
        [b'"', inside @ .., b'"'] => {
            let mut plain = Vec::with_capacity(inside.len());
            let mut bytes = inside.iter();
            while let Some(&byte) = bytes.next() {
                let byte = if byte == b'\\' { bytes.next().copied() } else { Some(byte) };
                plain.extend(byte);
            }
            plain
        }
        _ => value.to_vec(),
    };
    let valid = (1..=70).contains(&plain.len())
        && plain.iter().all(|byte| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(byte))
        && plain.last() != Some(&b' ');
    Some(valid.then_some(plain))
}

/// Parts a field value at its first `;` outside quotes.
fn split_at_semicolon(value: &[u8]) -> (&[u8], &[u8]) {
    let (mut inside, mut escaped) = (false, false);
    for (at, &byte) in value.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if inside => escaped = true,
            b'"' => inside = !inside,
            b';' if !inside => {
                return (value.get(..at).unwrap_or_default(), value.get(at + 1..).unwrap_or_default());
            }
            _ => {}
        }
    }
    (value, &[])
}

/// The parts of a body, in order, at least one. `None`: it is not plainly multipart with this boundary, or
/// has over 4,096 parts. Linear in the body's length.
pub fn parts<'a>(body: &'a [u8], boundary: &[u8]) -> Option<Vec<Part<'a>>> {
    let delimiter = [b"\r\n--", boundary].concat();
    let first = delimiter.get(2..)?;
    let mut rest = match body.strip_prefix(first) {
        Some(rest) => rest,
        None => split_at(body, &delimiter)?.1,
    };
    let mut parts = Vec::new();
    while !rest.starts_with(b"--") {
        let (part, behind) = split_at(after_line(rest)?, &delimiter)?;
        if parts.len() == MAX_PARTS {
            return None;
        }
        parts.push(take_apart(part)?);
        rest = behind;
    }
    let closed = rest.get(2..).is_some_and(|epilogue| epilogue.is_empty() || after_line(epilogue).is_some());
    (closed && !parts.is_empty()).then_some(parts)
}

/// What is behind a line that holds only white space (RFC 2046's transport padding).
fn after_line(text: &[u8]) -> Option<&[u8]> {
    let padding = text.iter().position(|byte| !matches!(byte, b' ' | b'\t'))?;
    text.get(padding..)?.strip_prefix(b"\r\n")
}

/// Parts a part at its first empty line.
fn take_apart(part: &[u8]) -> Option<Part<'_>> {
    if let Some(content) = part.strip_prefix(b"\r\n") {
        return Some(Part { headers: &[], content });
    }
    let (headers, content) = split_at(part, b"\r\n\r\n")?;
    Some(Part { headers, content })
}

/// Parts `text` at the first `mark`, which begins with a carriage return.
fn split_at<'a>(text: &'a [u8], mark: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let mut from = 0;
    loop {
        let at = from + text.get(from..)?.iter().position(|&byte| byte == b'\r')?;
        let (before, behind) = text.split_at_checked(at)?;
        if let Some(behind) = behind.strip_prefix(mark) {
            return Some((before, behind));
        }
        from = at + 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn boundary(value: &str) -> Option<String> {
        content_type(value.as_bytes()).map(|parsed| String::from_utf8(parsed.boundary).unwrap())
    }

    #[test]
    fn boundaries() {
        let table = [
            ("multipart/form-data; boundary=abc", Some("abc")),
            ("Multipart/Mixed;BOUNDARY=\"a b:c\"", Some("a b:c")),
            ("multipart/form-data; charset=utf-8; boundary=\"a\\bc\"; x=\"y;boundary=z\"", Some("abc")),
            ("multipart/form-data", None),
            ("multipart/form-data; boundary=", None),
            ("multipart/form-data; boundary=\"\"", None),
            ("multipart/form-data; boundary=\"a \"", None),
            ("multipart/form-data; boundary=a\"b", None),
            ("multipart/form-data; boundary=a; boundary=b", None),
            ("text/plain; boundary=a", None),
            ("multipart", None),
        ];
        for (value, wanted) in table {
            assert_eq!(boundary(value).as_deref(), wanted, "{value}");
        }
        let long = |length| boundary(&format!("multipart/mixed; boundary={}", "a".repeat(length)));
        assert!(long(70).is_some() && long(71).is_none());
        let parsed = content_type(b"multipart/related; type=\"a;b\";boundary=x; start=y").unwrap();
        assert_eq!(parsed.essence, b"multipart/related");
        assert_eq!(parsed.others, [b"type=\"a;b\"".as_slice(), b"start=y"]);
    }

    fn read(body: &str) -> Option<Vec<(&str, &str)>> {
        let text = |bytes| std::str::from_utf8(bytes).unwrap();
        let parts = parts(body.as_bytes(), b"x")?;
        Some(parts.into_iter().map(|part| (text(part.headers), text(part.content))).collect())
    }

    #[test]
    fn bodies() {
        type Read = Option<&'static [(&'static str, &'static str)]>;
        let table: [(&str, Read); 16] = [
            ("--x\r\nA: 1\r\nB: 2\r\n\r\nhello\r\n--x--", Some(&[("A: 1\r\nB: 2", "hello")])),
            ("--x\r\nA: 1\r\n\r\n\r\n--x\r\n\r\nb\r\n\r\n--x--\r\n", Some(&[("A: 1", ""), ("", "b\r\n")])),
            ("to skip\r\n--x \t\r\n\r\na\r\n--x-- \r\nto skip\r\n--x", Some(&[("", "a")])),
            ("--x\r\n\r\n--x\r\n--y\r\n--x--", None),
            ("--x\r\n\r\n--y\r\n-x\r\n--x--", Some(&[("", "--y\r\n-x")])),
            ("", None),
            ("--x--", None),
            ("--x--\r\n", None),
            ("--x\r\nA: 1\r\n\r\nhello\r\n--x", None),
            ("--x\r\nA: 1\r\n\r\nhello", None),
            ("--x\r\nA: 1\r\n--x--", None),
            ("--x\r\n--x--", None),
            ("--xy\r\n\r\na\r\n--x--", None),
            ("--x\r\n\r\na\r\n--xy\r\n\r\nb\r\n--x--", None),
            ("--x\n\na\n--x--", None),
            ("--x\r\n\r\na\r\n--x--b", None),
        ];
        for (body, wanted) in table {
            assert_eq!(read(body).as_deref(), wanted, "{body:?}");
        }
        let many = |count| format!("{}--x--", "--x\r\n\r\na\r\n".repeat(count));
        assert_eq!(read(&many(MAX_PARTS)).map(|parts| parts.len()), Some(MAX_PARTS));
        assert_eq!(read(&many(MAX_PARTS + 1)), None);
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(
            parts in prop::collection::vec(("(A: [a-z]{0,3}(\r\nB: c)?)?", "[a\r\n-]{0,12}"), 1..5),
        ) {
            let mut body = String::new();
            for (headers, content) in &parts {
                let line = if headers.is_empty() { "" } else { "\r\n" };
                body += &format!("--x\r\n{headers}{line}\r\n{content}\r\n");
            }
            body += "--x--\r\n";
            let wanted = parts.iter().map(|(headers, content)| (&**headers, &**content)).collect();
            prop_assert_eq!(read(&body), Some(wanted));
        }

        #[test]
        fn any_bytes_are_read(body in "(--|x|\r\n|a|\r|\n){0,20}", value: Vec<u8>) {
            let content: usize = read(&body).unwrap_or_default().iter().map(|(a, b)| a.len() + b.len()).sum();
            prop_assert!(content <= body.len());
            prop_assert!(content_type(&value).is_none_or(|parsed| parsed.boundary.len() <= 70));
        }
    }
}
