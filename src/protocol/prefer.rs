//! The `Prefer` field (W1, RFC 7240).
//!
//! 1. Several field lines are one list; of a preference that comes twice the first counts (§2).
//! 2. A preference that is malformed, or has a value that it cannot have, is passed over.
//! 3. Names are case-insensitive; parameters mean nothing here.

/// The longest wait that is taken up, in seconds: a day. What is longer is cut to it.
const MAX_WAIT: u64 = 86_400;

/// The preferences that Onceward knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Prefer {
    /// Whole seconds, at most 86,400. `None`: not asked for.
    pub wait: Option<u64>,
    /// `respond-async` (J1).
    pub respond_async: bool,
}

impl Prefer {
    /// Reads all `Prefer` field lines. Never fails: preferences may be ignored.
    pub fn parse(values: &[&[u8]]) -> Self {
        let mut prefer = Self::default();
        for value in values {
            let mut rest: &[u8] = value;
            while !rest.is_empty() {
                let (member, behind) = split(rest, b',');
                prefer.take(member);
                rest = behind;
            }
        }
        prefer
    }

    /// Takes up one member of the list.
    fn take(&mut self, member: &[u8]) {
        let (preference, _parameters) = split(member, b';');
        let (name, value) = split(preference, b'=');
        let name = name.trim_ascii();
        let value = unquoted(value.trim_ascii());
        if name.eq_ignore_ascii_case(b"wait") {
            self.wait = self.wait.or_else(|| seconds(value));
        } else if name.eq_ignore_ascii_case(b"respond-async") && value.is_empty() {
            self.respond_async = true;
        }
    }
}

/// The preferences of all field lines but `wait`, which is used up here, as one line; `None` where none is left. The
/// others are the upstream's to honor (RFC 7240 §2).
pub fn without_wait(values: &[&[u8]]) -> Option<Vec<u8>> {
    without(values, &["wait"])
}

/// The same without those of any names.
pub fn without(values: &[&[u8]], names: &[&str]) -> Option<Vec<u8>> {
    let mut left = Vec::new();
    for value in values {
        let mut rest: &[u8] = value;
        while !rest.is_empty() {
            let (member, behind) = split(rest, b',');
            rest = behind;
            let member = member.trim_ascii();
            let (preference, _parameters) = split(member, b';');
            let (name, _value) = split(preference, b'=');
            let name = name.trim_ascii();
            if member.is_empty() || names.iter().any(|used| name.eq_ignore_ascii_case(used.as_bytes())) {
                continue;
            }
            if !left.is_empty() {
                left.extend_from_slice(b", ");
            }
            left.extend_from_slice(member);
        }
    }
    (!left.is_empty()).then_some(left)
}

/// Parts `text` at the first `mark` that is not inside a quoted string. Without one all is before it.
fn split(text: &[u8], mark: u8) -> (&[u8], &[u8]) {
    let (mut inside, mut escaped) = (false, false);
    for (at, &byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if inside => escaped = true,
            b'"' => inside = !inside,
            _ if byte == mark && !inside => {
                return (text.get(..at).unwrap_or_default(), text.get(at + 1..).unwrap_or_default());
            }
            _ => {}
        }
    }
    (text, &[])
}

/// The inside of a quoted string without escapes; all else as it is.
fn unquoted(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inside @ .., b'"'] => inside,
        _ => value,
    }
}

/// `delta-seconds` (RFC 9111 §1.2.2), cut to [`MAX_WAIT`].
fn seconds(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    let mut seconds = 0_u64;
    for &byte in value {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        seconds = seconds.saturating_mul(10).saturating_add(digit).min(MAX_WAIT);
    }
    Some(seconds)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // W1
    #[test]
    fn preferences() {
        let table: [(&[&str], Option<u64>, bool); 25] = [
            (&[], None, false),
            (&[""], None, false),
            (&["wait=5"], Some(5), false),
            (&["wait=0"], Some(0), false),
            (&["WAIT = \"05\" ; x=1"], Some(5), false),
            (&["respond-async"], None, true),
            (&["respond-async, wait=10"], Some(10), true),
            (&["wait=10,Respond-Async;foo"], Some(10), true),
            (&["respond-async=\"\""], None, true),
            (&["respond-async=yes"], None, false),
            // RFC 7240 §2: the first counts.
            (&["wait=1, wait=2"], Some(1), false),
            (&["wait=1", "wait=2"], Some(1), false),
            // What is malformed is passed over.
            (&["wait"], None, false),
            (&["wait="], None, false),
            (&["wait=-1"], None, false),
            (&["wait=1.5"], None, false),
            (&["wait=1s"], None, false),
            (&["wait=abc, wait=5"], Some(5), false),
            (&["waits=5"], None, false),
            (&[", ,wait=5,,"], Some(5), false),
            // A parameter is no preference, and a quoted text no list.
            (&["respond-async; wait=10"], None, true),
            (&["foo=\"a, wait=10\""], None, false),
            (&["foo=\"a\\\", wait=10\", wait=3"], Some(3), false),
            (&["foo=\"a, wait=10", "wait=3"], Some(3), false),
            (&["wait=99999999999999999999999999"], Some(86_400), false),
        ];
        for (values, wait, respond_async) in table {
            let lines: Vec<_> = values.iter().map(|value| value.as_bytes()).collect();
            assert_eq!(Prefer::parse(&lines), Prefer { wait, respond_async }, "{values:?}");
        }
    }

    // W1
    #[test]
    fn all_but_wait_is_the_upstreams() {
        let table: [(&[&str], Option<&str>); 8] = [
            (&[], None),
            (&["wait=5"], None),
            (&["WAIT = 5;x", " , "], None),
            (&["return=minimal"], Some("return=minimal")),
            (&["return=representation, wait=2"], Some("return=representation")),
            (&["wait=2,a;wait=3", "b=\"x, wait=1\""], Some("a;wait=3, b=\"x, wait=1\"")),
            (&["respond-async, wait=10"], Some("respond-async")),
            (&["waits=1"], Some("waits=1")),
        ];
        for (values, left) in table {
            let lines: Vec<_> = values.iter().map(|value| value.as_bytes()).collect();
            assert_eq!(without_wait(&lines).as_deref(), left.map(str::as_bytes), "{values:?}");
        }
        let both: &[u8] = b"respond-async, return=minimal, wait=3";
        assert_eq!(without(&[both], &["wait", "respond-async"]).as_deref(), Some(&b"return=minimal"[..]));
    }

    proptest! {
        #[test]
        fn any_bytes_are_bounded(value: Vec<u8>, wait: u64) {
            prop_assert!(Prefer::parse(&[&value]).wait.is_none_or(|wait| wait <= MAX_WAIT));
            let wanted = format!("wait={wait}");
            prop_assert_eq!(Prefer::parse(&[wanted.as_bytes()]).wait, Some(wait.min(MAX_WAIT)));
        }
    }
}
