//! Times and sizes: how they are spelled and shown.

use std::time::Duration;

use super::reader::{Wrong, quoted};

const TIMES: &[(&str, u64)] = &[("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
const SIZES: &[(&str, u64)] = &[("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Ten years: longer is a slip, and could not be added to a clock.
const LONGEST: u64 = 87_600 * 3_600_000;
/// A tebibyte.
const LARGEST: u64 = 1 << 40;

/// Reads a time such as `250ms`, `30s`, `5m`, `24h`.
pub(super) fn time(text: &str) -> Result<Duration, Wrong> {
    let (number, unit) = split(text);
    let Some(millis) = of(TIMES, unit).filter(|_| !number.is_empty()) else {
        let right = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "sec" | "secs" | "second" | "seconds" | "s" => format!("{number}s"),
            "ms" | "msec" | "millis" | "milliseconds" => format!("{number}ms"),
            "min" | "mins" | "minute" | "minutes" | "m" => format!("{number}m"),
            "hr" | "hrs" | "hour" | "hours" | "h" => format!("{number}h"),
            "d" | "day" | "days" => hours(number, 24),
            "w" | "week" | "weeks" => hours(number, 24 * 7),
            _ => "30s".into(),
        };
        return Err(misspelt(text, "a time", &right, number, "30s", "ms, s, m or h"));
    };
    match number.parse::<u64>().ok().and_then(|number| number.checked_mul(millis)) {
        Some(millis) if millis <= LONGEST => Ok(Duration::from_millis(millis)),
        Some(_) | None => Err(Wrong::value(format!("{} is too long; at most \"87600h\"", quoted(text)))),
    }
}

/// Reads a size such as `512B`, `64KiB`, `1MiB`, `2GiB`.
pub(super) fn size(text: &str) -> Result<usize, Wrong> {
    let (number, unit) = split(text);
    let Some(bytes) = of(SIZES, unit).filter(|_| !number.is_empty()) else {
        let right = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" | "byte" | "bytes" => format!("{number}B"),
            "k" | "kb" | "ki" | "kib" => format!("{number}KiB"),
            "m" | "mb" | "mi" | "mib" => format!("{number}MiB"),
            "g" | "gb" | "gi" | "gib" => format!("{number}GiB"),
            _ => "1MiB".into(),
        };
        return Err(misspelt(text, "a size", &right, number, "1MiB", "B, KiB, MiB or GiB"));
    };
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(bytes));
    match bytes.filter(|bytes| *bytes <= LARGEST).and_then(|bytes| usize::try_from(bytes).ok()) {
        Some(bytes) => Ok(bytes),
        None => Err(Wrong::value(format!("{} is too large; at most \"1024GiB\"", quoted(text)))),
    }
}

/// A time as one would write it.
pub(super) fn shown_time(time: Duration) -> String {
    shown(TIMES, u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// A size as one would write it.
pub(super) fn shown_size(size: usize) -> String {
    shown(SIZES, u64::try_from(size).unwrap_or(u64::MAX))
}

fn shown(units: &[(&str, u64)], amount: u64) -> String {
    let unit = units.iter().find(|(_, worth)| amount > 0 && amount.is_multiple_of(*worth));
    match unit.or(units.last()) {
        Some((unit, worth)) => format!("{}{unit}", amount / worth),
        None => amount.to_string(),
    }
}

fn split(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

fn of(units: &[(&str, u64)], unit: &str) -> Option<u64> {
    units.iter().find(|(name, _)| *name == unit).map(|(_, worth)| *worth)
}

fn hours(number: &str, each: u64) -> String {
    let hours = number.parse::<u64>().ok().and_then(|number| number.checked_mul(each));
    format!("{}h", hours.unwrap_or(each))
}

fn misspelt(text: &str, what: &str, right: &str, number: &str, example: &str, units: &str) -> Wrong {
    let right = if number.is_empty() || number.len() > 12 { example } else { right };
    Wrong::spelling(format!(
        "{} is not {what}; write for example {right:?} (whole numbers of {units})",
        quoted(text)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_shown_as_they_are_read() {
        for text in ["0ms", "250ms", "30s", "75s", "5m", "24h", "1001ms", "87600h"] {
            assert_eq!(time(text).map(shown_time).ok().as_deref(), Some(text));
        }
        for text in ["0B", "512B", "64KiB", "1MiB", "1023MiB", "2GiB", "1024GiB"] {
            assert_eq!(size(text).map(shown_size).ok().as_deref(), Some(text));
        }
    }

    #[test]
    fn what_is_no_time_says_what_would_be_right() {
        for (text, right) in [
            ("30", "\"30s\""),
            ("30 s", "\"30s\""),
            ("5min", "\"5m\""),
            ("7d", "\"168h\""),
            ("2w", "\"336h\""),
            ("24H", "\"24h\""),
            ("", "\"30s\""),
            ("s", "\"30s\""),
            ("1.5s", "\"30s\""),
            ("-1s", "\"30s\""),
            ("99999999999999999999999", "\"30s\""),
            ("99999999999999999h", "\"87600h\""),
            ("87601h", "\"87600h\""),
        ] {
            let wrong = time(text).unwrap_err();
            assert!(wrong.what.contains(right), "{text}: {}", wrong.what);
        }
    }

    #[test]
    fn what_is_no_size_says_what_would_be_right() {
        for (text, right) in [
            ("64", "\"64B\""),
            ("64KB", "\"64KiB\""),
            ("1MB", "\"1MiB\""),
            ("1 MiB", "\"1MiB\""),
            ("1mib", "\"1MiB\""),
            ("2g", "\"2GiB\""),
            ("MiB", "\"1MiB\""),
            ("1025GiB", "\"1024GiB\""),
        ] {
            let wrong = size(text).unwrap_err();
            assert!(wrong.what.contains(right), "{text}: {}", wrong.what);
        }
    }
}
