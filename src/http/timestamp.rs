//! The wall clock, and times as records and RFC 3339 have them.

use std::time::{Duration, SystemTime};

use crate::protocol::record::Millis;

/// The wall clock (K15).
pub fn now() -> Millis {
    #[cfg(test)]
    if let Some(now) = simulated::now() {
        return now;
    }
    millis(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

pub use crate::protocol::record::millis;

/// In UTC, with milliseconds: `2026-01-02T03:04:05.678Z`.
pub fn rfc3339(at: SystemTime) -> String {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let millis = since.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// As HTTP has it (RFC 9110 §5.6.7), in whole seconds since the Unix epoch: `Fri, 02 Jan 2026 03:04:05 GMT`.
pub fn http_date(seconds: u64) -> String {
    const DAYS: [&str; 7] = ["Thu, ", "Fri, ", "Sat, ", "Sun, ", "Mon, ", "Tue, ", "Wed, "];
    const MONTHS: [&str; 12] = [
        " Jan ", " Feb ", " Mar ", " Apr ", " May ", " Jun ", " Jul ", " Aug ", " Sep ", " Oct ", " Nov ",
        " Dec ",
    ];
    let name =
        |names: &[&'static str], at: u64| usize::try_from(at).ok().and_then(|at| names.get(at).copied());
    // Four digits is all that the form has room for.
    let seconds = seconds.min(253_402_300_799);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let mut text = String::with_capacity(29);
    text.push_str(name(&DAYS, days % 7).unwrap_or_default());
    two(&mut text, day);
    text.push_str(name(&MONTHS, month - 1).unwrap_or_default());
    two(&mut text, year / 100);
    two(&mut text, year % 100);
    for (before, part) in [(' ', second / 3600), (':', second / 60 % 60), (':', second % 60)] {
        text.push(before);
        two(&mut text, part);
    }
    text.push_str(" GMT");
    text
}

/// Two digits.
fn two(text: &mut String, number: u64) {
    for digit in [number / 10 % 10, number % 10] {
        text.push(char::from(b'0' + u8::try_from(digit).unwrap_or(0)));
    }
}

/// Year, month and day of a day since 1970-01-01, in the Gregorian calendar counted from 0000-03-01.
fn civil(days: u64) -> (u64, u64, u64) {
    let from_march = days + 719_468;
    let (era, day_of_era) = (from_march / 146_097, from_march % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// A wall clock that goes with the runtime's paused one.
#[cfg(test)]
pub(crate) mod simulated {
    use std::cell::Cell;

    use tokio::time::Instant;

    use super::{Millis, millis};

    /// 2026-01-01.
    const BEGIN: Millis = 1_767_225_600_000;

    thread_local! { static STARTED: Cell<Option<Instant>> = const { Cell::new(None) }; }

    /// From now on, on this thread, the wall clock counts the runtime's time; or no longer does.
    pub(crate) fn set(started: Option<Instant>) {
        STARTED.set(started);
    }

    pub(super) fn now() -> Option<Millis> {
        STARTED.get().map(|started| BEGIN + millis(started.elapsed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_what_the_calendar_says() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (4_102_444_799, "2099-12-31T23:59:59.000Z"),
            (1_767_225_600, "2026-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }
    proptest::proptest! {
        #[test]
        fn dates_are_as_httpdate_has_them(seconds in 0..253_402_300_800_u64) {
            let other = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
            proptest::prop_assert_eq!(http_date(seconds), other);
        }
    }
}
