//! `traceparent` (W3C Trace Context §3.2): the trace that a request belongs to, and the span that sent it.

use std::fmt;

/// One `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// Never 0.
    pub trace: u128,
    /// Never 0.
    pub span: u64,
    pub flags: u8,
}

/// Someone before wants this trace recorded.
pub const SAMPLED: u8 = 1;

impl TraceContext {
    /// `None`: not a `traceparent`, and to be taken as if there were none. Of a later version than 00 the part that
    /// 00 knows is read.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (known, rest) = text.split_at_checked(55)?;
        let known = std::str::from_utf8(known).ok()?;
        let mut parts = known.split('-');
        let mut hex = |length: usize| {
            let part = parts.next().filter(|part| part.len() == length)?;
            let lower = part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            u128::from_str_radix(part, 16).ok().filter(|_| lower)
        };
        let (version, trace, span, flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
        let whole = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.first().is_none_or(|b| *b == b'-'),
        };
        let context = Self { trace, span: u64::try_from(span).ok()?, flags: u8::try_from(flags).ok()? };
        (whole && trace != 0 && span != 0).then_some(context)
    }

    pub fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, self.flags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    // O3
    #[test]
    fn what_is_read_is_written_the_same() {
        let text = format!("00-{TRACE}-00f067aa0ba902b7-01");
        let context = TraceContext::parse(text.as_bytes()).unwrap();
        assert_eq!((context.to_string(), context.is_sampled()), (text, true));
        let later = format!("cc-{TRACE}-00f067aa0ba902b7-02-what-comes-later");
        let context = TraceContext::parse(later.as_bytes()).unwrap();
        assert_eq!((context.trace, context.is_sampled()), (u128::from_str_radix(TRACE, 16).unwrap(), false));
    }

    // O3
    #[test]
    fn what_is_malformed_is_no_context() {
        for text in [
            String::new(),
            format!("00-{TRACE}-00f067aa0ba902b7"),
            format!("00-{TRACE}-00f067aa0ba902b7-01-more"),
            format!("cc-{TRACE}-00f067aa0ba902b7-01more"),
            format!("ff-{TRACE}-00f067aa0ba902b7-01"),
            format!("00-{}-00f067aa0ba902b7-01", TRACE.to_uppercase()),
            format!("00-{TRACE}-0000000000000000-01"),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            format!("00-{TRACE}-+0f067aa0ba902b7-01"),
            format!("00_{TRACE}-00f067aa0ba902b7-01"),
            format!("é0-{TRACE}-00f067aa0ba902b7-1"),
        ] {
            assert_eq!(TraceContext::parse(text.as_bytes()), None, "{text}");
        }
    }
}
