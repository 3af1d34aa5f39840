//! One pass over a JSON text that makes a flat list of tokens: strict RFC 8259, linear, without recursion.

use std::ops::Range;

use super::{MAX_DEPTH, NotJson};

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    True,
    False,
    /// Its range is that of its spelling.
    Number,
    /// Its range is what stands between the quotes.
    String,
    /// A string with escapes: its range is one of the unescaped text.
    Escaped,
    Array,
    Object,
}

/// One value or one name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Token {
    pub(super) kind: Kind,
    start: u32,
    /// Of an array or object: the index of the first token behind it.
    end: u32,
}

impl Token {
    /// Where its characters are.
    pub(super) fn range(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// The index of the first token behind it and all that is in it, if its own is `index`.
    pub(super) fn next(&self, index: usize) -> usize {
        match self.kind {
            Kind::Array | Kind::Object => self.end as usize,
            Kind::Null | Kind::True | Kind::False | Kind::Number | Kind::String | Kind::Escaped => index + 1,
        }
    }
}

/// What may come next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expect {
    Value,
    /// Behind `[`.
    ValueOrEnd,
    /// Behind `,` in an object.
    Name,
    /// Behind `{`.
    NameOrEnd,
    /// Behind a value: `,` or the end of what is open, or of the text.
    Comma,
}

struct Scan<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    tokens: Vec<Token>,
    unescaped: String,
    /// The indexes of the arrays and objects that are open.
    open: Vec<usize>,
}

/// All tokens of a text, and the characters of its strings that have escapes.
pub(super) fn scan(text: &str) -> Result<(Vec<Token>, String), NotJson> {
    // Ranges are kept in 32 bits.
    if u32::try_from(text.len()).is_err() {
        return Err(NotJson);
    }
    let mut scan = Scan {
        text,
        bytes: text.as_bytes(),
        at: 0,
        tokens: Vec::with_capacity(text.len() / 6 + 8),
        unescaped: String::new(),
        open: Vec::with_capacity(8),
    };
    scan.run()?;
    Ok((scan.tokens, scan.unescaped))
}

impl Scan<'_> {
    fn run(&mut self) -> Result<(), NotJson> {
        let mut expect = Expect::Value;
        loop {
            let Some(byte) = self.next_byte() else {
                let whole = expect == Expect::Comma && self.open.is_empty();
                return if whole { Ok(()) } else { Err(NotJson) };
            };
            expect = match (expect, byte) {
                (Expect::Comma, b',') => match self.innermost() {
                    Some(Kind::Object) => Expect::Name,
                    Some(_) => Expect::Value,
                    None => return Err(NotJson),
                },
                (Expect::Comma | Expect::ValueOrEnd, b']') => self.close(Kind::Array)?,
                (Expect::Comma | Expect::NameOrEnd, b'}') => self.close(Kind::Object)?,
                (Expect::Name | Expect::NameOrEnd, b'"') => {
                    self.string()?;
                    if self.next_byte() != Some(b':') {
                        return Err(NotJson);
                    }
                    Expect::Value
                }
                (Expect::Value | Expect::ValueOrEnd, _) => self.value(byte)?,
                (Expect::Comma | Expect::Name | Expect::NameOrEnd, _) => return Err(NotJson),
            };
        }
    }

    /// The next byte that is no white space, and steps behind it.
    fn next_byte(&mut self) -> Option<u8> {
        loop {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Some(byte);
            }
        }
    }

    fn innermost(&self) -> Option<Kind> {
        self.open.last().and_then(|&index| self.tokens.get(index)).map(|token| token.kind)
    }

    fn push(&mut self, kind: Kind, start: usize, end: usize) -> Result<(), NotJson> {
        let narrow = |wide: usize| u32::try_from(wide).map_err(|_| NotJson);
        self.tokens.push(Token { kind, start: narrow(start)?, end: narrow(end)? });
        Ok(())
    }

    fn open(&mut self, kind: Kind) -> Result<(), NotJson> {
        if self.open.len() == MAX_DEPTH {
            return Err(NotJson);
        }
        self.open.push(self.tokens.len());
        self.push(kind, self.at, self.at)
    }

    fn close(&mut self, kind: Kind) -> Result<Expect, NotJson> {
        let end = u32::try_from(self.tokens.len()).map_err(|_| NotJson)?;
        let container = self.open.pop().and_then(|index| self.tokens.get_mut(index)).ok_or(NotJson)?;
        if container.kind != kind {
            return Err(NotJson);
        }
        container.end = end;
        Ok(Expect::Comma)
    }

    /// A value that begins with `first`, which is behind us.
    fn value(&mut self, first: u8) -> Result<Expect, NotJson> {
        match first {
            b'"' => self.string()?,
            b'{' => {
                self.open(Kind::Object)?;
                return Ok(Expect::NameOrEnd);
            }
            b'[' => {
                self.open(Kind::Array)?;
                return Ok(Expect::ValueOrEnd);
            }
            b'n' => self.word(b"ull", Kind::Null)?,
            b't' => self.word(b"rue", Kind::True)?,
            b'f' => self.word(b"alse", Kind::False)?,
            b'-' | b'0'..=b'9' => self.number(first)?,
            _ => return Err(NotJson),
        }
        Ok(Expect::Comma)
    }

    fn word(&mut self, rest: &[u8], kind: Kind) -> Result<(), NotJson> {
        let end = self.at + rest.len();
        if self.bytes.get(self.at..end) != Some(rest) {
            return Err(NotJson);
        }
        self.at = end;
        self.push(kind, end, end)
    }

    fn number(&mut self, first: u8) -> Result<(), NotJson> {
        let start = self.at - 1;
        let first = match first {
            b'-' => {
                self.at += 1;
                self.bytes.get(self.at - 1).copied()
            }
            digit => Some(digit),
        };
        match first {
            Some(b'0') => {}
            Some(b'1'..=b'9') => {
                self.digits();
            }
            Some(_) | None => return Err(NotJson),
        }
        if self.take(b".") && self.digits() == 0 {
            return Err(NotJson);
        }
        if self.take(b"eE") {
            self.take(b"+-");
            if self.digits() == 0 {
                return Err(NotJson);
            }
        }
        self.push(Kind::Number, start, self.at)
    }

    /// Steps over one byte if it is one of these.
    fn take(&mut self, any_of: &[u8]) -> bool {
        let taken = self.bytes.get(self.at).is_some_and(|byte| any_of.contains(byte));
        self.at += usize::from(taken);
        taken
    }

    /// Steps over digits and says how many there were.
    fn digits(&mut self) -> usize {
        let start = self.at;
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        self.at - start
    }

    /// A string whose opening quote is behind us.
    fn string(&mut self) -> Result<(), NotJson> {
        let start = self.at;
        match self.plain()? {
            b'"' => return self.push(Kind::String, start, self.at - 1),
            _backslash => {}
        }
        let own = self.unescaped.len();
        let mut from = start;
        loop {
            self.unescaped.push_str(self.text.get(from..self.at - 1).ok_or(NotJson)?);
            let character = self.escape()?;
            self.unescaped.push(character);
            from = self.at;
            if self.plain()? == b'"' {
                self.unescaped.push_str(self.text.get(from..self.at - 1).ok_or(NotJson)?);
                return self.push(Kind::Escaped, own, self.unescaped.len());
            }
        }
    }

    /// Steps behind the next quote or backslash and gives it.
    fn plain(&mut self) -> Result<u8, NotJson> {
        while let Some(eight) = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk) {
            let plain = plain_bytes(u64::from_le_bytes(*eight));
            self.at += plain;
            if plain < 8 {
                break;
            }
        }
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let length = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | ..=0x1f)).ok_or(NotJson)?;
        self.at += length + 1;
        match rest.get(length) {
            Some(&mark @ (b'"' | b'\\')) => Ok(mark),
            Some(_) | None => Err(NotJson),
        }
    }

    /// An escape whose backslash is behind us.
    fn escape(&mut self) -> Result<char, NotJson> {
        let letter = self.bytes.get(self.at).ok_or(NotJson)?;
        self.at += 1;
        Ok(match letter {
            b'"' | b'\\' | b'/' => char::from(*letter),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.four_digits()?;
                if !(0xD800..0xDC00).contains(&first) {
                    // A low surrogate alone is no `char` either.
                    return char::from_u32(first).ok_or(NotJson);
                }
                if !(self.take(b"\\") && self.take(b"u")) {
                    return Err(NotJson);
                }
                let second = self.four_digits()?;
                if !(0xDC00..0xE000).contains(&second) {
                    return Err(NotJson);
                }
                return char::from_u32(0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00)).ok_or(NotJson);
            }
            _ => return Err(NotJson),
        })
    }

    fn four_digits(&mut self) -> Result<u32, NotJson> {
        let mut value = 0;
        for _ in 0..4 {
            let digit =
                self.bytes.get(self.at).and_then(|&byte| char::from(byte).to_digit(16)).ok_or(NotJson)?;
            value = value << 4 | digit;
            self.at += 1;
        }
        Ok(value)
    }
}

/// How many of eight bytes, the lowest first, stand before the first quote, backslash or control character.
fn plain_bytes(eight: u64) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = ONES << 7;
    // The high bit of each byte below `bound`, and maybe of some above the first such byte: a borrow goes upwards.
    let below = |bytes: u64, bound: u64| bytes.wrapping_sub(ONES * bound) & !bytes & HIGH;
    let is = |byte: u8| below(eight ^ (ONES * u64::from(byte)), 1);
    let marks = below(eight, 0x20) | is(b'"') | is(b'\\');
    (marks.trailing_zeros() / 8) as usize
}
