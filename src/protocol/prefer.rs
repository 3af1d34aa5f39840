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
