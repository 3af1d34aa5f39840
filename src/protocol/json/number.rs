//! Numbers by their exact decimal value: `1`, `1.0` and `10e-1` are one, `-0` is `0`.

use super::Out;

/// The most zeros that a text spells out.
const MAX_ZEROS: i64 = 40;

/// `digits` × 10^`exponent`, without zeros at either end; no digits: zero.
struct Decimal<'a> {
    negative: bool,
    /// The digits before and behind the point.
    whole: &'a str,
    fraction: &'a str,
    exponent: Exponent<'a>,
}

enum Exponent<'a> {
    Small(i64),
    /// Over 18 digits: kept as spelled, without zeros in front, with what the point moves it by.
    Huge {
        negative: bool,
        digits: &'a str,
        moved: i64,
    },
}

impl<'a> Decimal<'a> {
    /// Takes a number apart that has the grammar of RFC 8259 §6.
    fn of(spelled: &'a str) -> Self {
        let (negative, rest) = match spelled.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, spelled),
        };
        let (mantissa, exponent) = rest.split_once(['e', 'E']).unwrap_or((rest, ""));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let whole = whole.trim_start_matches('0');
        let fraction = fraction.trim_end_matches('0');
        // Zeros behind the whole digits count for the exponent only where no fraction is behind them, those
        // before the fraction only where nothing is before them.
        let (whole, fraction, moved) = match (whole, fraction) {
            ("", fraction) => ("", fraction.trim_start_matches('0'), -length(fraction)),
            (whole, "") => {
                let kept = whole.trim_end_matches('0');
                (kept, "", length(whole) - length(kept))
            }
            (whole, fraction) => (whole, fraction, -length(fraction)),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Self { negative: false, whole, fraction, exponent: Exponent::Small(0) };
        }
        Self { negative, whole, fraction, exponent: Exponent::of(exponent, moved) }
    }
}

impl<'a> Exponent<'a> {
    fn of(spelled: &'a str, moved: i64) -> Self {
        let (negative, digits) = match spelled.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, spelled.strip_prefix('+').unwrap_or(spelled)),
        };
        let digits = digits.trim_start_matches('0');
        if digits.len() > 18 {
            return Self::Huge { negative, digits, moved };
        }
        let value = digits.parse::<i64>().unwrap_or(0);
        Self::Small(if negative { moved - value } else { moved + value })
    }
}

/// A length, which the text of a body bounds to 32 bits.
fn length(digits: &str) -> i64 {
    i64::try_from(digits.len()).unwrap_or(i64::MAX)
}

/// Hands out a form that equal numbers share and others do not. Exponents over 18 digits count as they are
/// spelled: two such numbers may come out different though they are equal, never the other way round.
pub(super) fn canonical(spelled: &str, out: &mut impl Out) {
    // By far the most numbers are whole ones, and mostly their own normal form.
    if spelled.bytes().all(|byte| byte.is_ascii_digit()) && !spelled.ends_with('0') {
        return out.put_text(b'd', spelled.as_bytes());
    }
    let number = Decimal::of(spelled);
    if number.negative {
        out.put(b"-");
    }
    match number.exponent {
        Exponent::Small(0) => {}
        Exponent::Small(exponent) => {
            out.put(b"e");
            out.put(&exponent.to_le_bytes());
        }
        Exponent::Huge { negative, digits, moved } => {
            out.put(if negative { b"h" } else { b"H" });
            out.put(&moved.to_le_bytes());
            out.put_text(b'd', digits.as_bytes());
        }
    }
    // Joined, so that where the point stood does not show.
    if number.fraction.is_empty() {
        return out.put_text(b'd', number.whole.as_bytes());
    }
    out.put_text(b'd', [number.whole, number.fraction].concat().as_bytes());
}

/// The one text for a value: plain (`150`, `0.05`) with up to 40 zeros added, else in scientific notation.
/// `None`: the exponent has over 18 digits.
pub(super) fn text(spelled: &str) -> Option<String> {
    let number = Decimal::of(spelled);
    let digits = [number.whole, number.fraction].concat();
    if digits.is_empty() {
        return Some("0".to_owned());
    }
    let sign = if number.negative { "-" } else { "" };
    let exponent = match number.exponent {
        Exponent::Small(exponent) => exponent,
        Exponent::Huge { .. } => return None,
    };
    // Where the point stands, counted from the first digit.
    let point = length(&digits) + exponent;
    if (0..=MAX_ZEROS).contains(&exponent) {
        let zeros = usize::try_from(exponent).unwrap_or(0);
        return Some(format!("{sign}{digits}{}", "0".repeat(zeros)));
    }
    if exponent < 0 && point > 0 {
        let (whole, fraction) = digits.split_at(usize::try_from(point).unwrap_or(0));
        return Some(format!("{sign}{whole}.{fraction}"));
    }
    if (-MAX_ZEROS..=0).contains(&point) {
        let zeros = usize::try_from(-point).unwrap_or(0);
        return Some(format!("{sign}0.{}{digits}", "0".repeat(zeros)));
    }
    let (first, rest) = digits.split_at(1);
    let dot = if rest.is_empty() { "" } else { "." };
    Some(format!("{sign}{first}{dot}{rest}e{}", point - 1))
}
