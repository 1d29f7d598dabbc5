//! Times as text, exactly as RFC 3339 (section 5.6) writes them.
//!
//! ```text
//! 2026-11-21T09:04:00Z    1996-12-19T16:39:57.123456789012-08:00    2016-12-31t23:59:60z
//! ```
//!
//! Years are 0000 to 9999, a fraction has any number of digits, `T` and `Z` may be lower-case, and an offset has its
//! colon. Nothing else is a time: no space for the `T`, no date without a time of day, no comma, no short offset, no
//! name of a zone.
//!
//! A leap second is a second `60`. It is accepted where there can be one: at 23:59:60 UTC on the last day of a month.
//! Whether there was one that month is not looked up, so that no node needs a table that others may not have yet.

use core::fmt;

/// Why a text is not a time: the wrong part, and the rule for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The text does not have the form `YYYY-MM-DDThh:mm:ss[.fraction](Z|+hh:mm|-hh:mm)`.
    Form,
    /// No month has this number.
    Month,
    /// The month has no such day.
    Day,
    /// Hours are 00 to 23.
    Hour,
    /// Minutes are 00 to 59.
    Minute,
    /// Seconds are 00 to 59.
    Second,
    /// There is never a leap second at this time.
    LeapSecond,
    /// An offset is 00:00 to 23:59.
    Offset,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form => "does not have the form YYYY-MM-DDThh:mm:ss[.fraction], followed by Z, +hh:mm or -hh:mm",
            Self::Month => "has a month that is not 01 to 12",
            Self::Day => "has a day that its month does not have",
            Self::Hour => "has an hour that is not 00 to 23",
            Self::Minute => "has a minute that is not 00 to 59",
            Self::Second => "has a second that is not 00 to 59 (60 only for a leap second)",
            Self::LeapSecond => "has a second 60, and leap seconds are only at 23:59:60 UTC on the last day of a month",
            Self::Offset => "has an offset whose hours are not 00 to 23, or whose minutes are not 00 to 59",
        })
    }
}

impl core::error::Error for Error {}

/// Checks that `text` is a time as RFC 3339 writes it.
///
/// # Errors
///
/// The first part that is not as it must be.
///
/// ```
/// # use evener_core::rfc3339;
/// assert_eq!(rfc3339::check("9999-12-31T23:59:59.0123456789Z"), Ok(()));
/// assert_eq!(rfc3339::check("2026-02-29T00:00:00Z"), Err(rfc3339::Error::Day));
/// ```
pub fn check(text: &str) -> Result<(), Error> {
    let mut rest = Rest(text.as_bytes());
    let (year, month, day) = (rest.digits(4)?, rest.after(b"-")?, rest.after(b"-")?);
    let (hour, minute, second) = (rest.after(b"Tt")?, rest.after(b":")?, rest.after(b":")?);
    rest.fraction()?;
    let offset = rest.offset()?;
    if !rest.0.is_empty() {
        return Err(Error::Form);
    }
    if !(1..=12).contains(&month) {
        return Err(Error::Month);
    }
    if day == 0 || day > days_of(year, month) {
        return Err(Error::Day);
    }
    let (east, hours, minutes) = offset;
    match (hour, minute, second) {
        (24.., _, _) => Err(Error::Hour),
        (_, 60.., _) => Err(Error::Minute),
        (_, _, 61..) => Err(Error::Second),
        _ if hours > 23 || minutes > 59 => Err(Error::Offset),
        (_, _, 60) => {
            let ahead = i32::from(hours * 60 + minutes) * if east { 1 } else { -1 };
            leap_second(year, month, day, i32::from(hour * 60 + minute) - ahead)
        }
        _ => Ok(()),
    }
}

/// Minutes of a day.
const DAY: i32 = 24 * 60;

/// Returns whether there can be a leap second in this minute, counted in UTC from the beginning of the day.
fn leap_second(year: u16, month: u16, day: u16, minute: i32) -> Result<(), Error> {
    let day = i32::from(day) + minute.div_euclid(DAY);
    // The day before the first of a month is the last day of the previous one.
    let last = day == 0 || day == i32::from(days_of(year, month));
    if last && minute.rem_euclid(DAY) == DAY - 1 { Ok(()) } else { Err(Error::LeapSecond) }
}

fn days_of(year: u16, month: u16) -> u16 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// The rest of the text.
struct Rest<'t>(&'t [u8]);

impl Rest<'_> {
    fn one_of(&mut self, bytes: &[u8]) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        let found = bytes.contains(first).then_some(*first)?;
        self.0 = rest;
        Some(found)
    }

    fn digits(&mut self, count: usize) -> Result<u16, Error> {
        let mut number = 0;
        for _ in 0..count {
            let digit = self.one_of(b"0123456789").ok_or(Error::Form)?;
            number = number * 10 + u16::from(digit - b'0');
        }
        Ok(number)
    }

    /// Reads two digits after one of these bytes.
    fn after(&mut self, separators: &[u8]) -> Result<u16, Error> {
        self.one_of(separators).ok_or(Error::Form)?;
        self.digits(2)
    }

    fn fraction(&mut self) -> Result<(), Error> {
        if self.one_of(b".").is_some() {
            self.digits(1)?;
            while self.digits(1).is_ok() {}
        }
        Ok(())
    }

    /// Reads an offset: whether it is east of UTC, and by how many hours and minutes.
    fn offset(&mut self) -> Result<(bool, u16, u16), Error> {
        match self.one_of(b"Zz+-") {
            Some(b'Z' | b'z') => Ok((true, 0, 0)),
            Some(sign) => Ok((sign == b'+', self.digits(2)?, self.after(b":")?)),
            None => Err(Error::Form),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{format, string::String, vec::Vec};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn examples_and_edge_cases_of_the_rfc_are_valid() {
        for time in [
            "1985-04-12T23:20:50.52Z",
            "1996-12-19T16:39:57-08:00",
            "1990-12-31T23:59:60Z",
            "1990-12-31T15:59:60-08:00",
            "1937-01-01T12:00:27.87+00:20",
            "0000-01-01T00:00:00Z",
            "9999-12-31T23:59:59Z",
            "9999-12-31T23:59:59.0123456789012345678901234567890123456789Z",
            "2026-11-21t09:04:00z",
            "2024-02-29T00:00:00Z",
            "2000-02-29T00:00:00-00:00",
            "2026-11-21T09:04:00+23:59",
            "2017-01-01T05:29:60+05:30",
            "2016-06-30T23:59:60.999Z",
        ] {
            assert_eq!(check(time), Ok(()), "{time}");
        }
    }

    #[test]
    fn invalid_times_are_refused_by_their_wrong_part() {
        for (time, error) in [
            ("", Error::Form),
            ("yesterday", Error::Form),
            ("2026-01-01", Error::Form),
            ("2026-01-01T00Z", Error::Form),
            ("2026-01-01T00:00Z", Error::Form),
            ("2026-01-01T00:00:00", Error::Form),
            ("20260101T000000Z", Error::Form),
            ("2026-01-01T00:00:00,5Z", Error::Form),
            ("2026-01-01T00:00:00.Z", Error::Form),
            ("2026-01-01T00:00:00+05", Error::Form),
            ("2026-01-01T00:00:00+0530", Error::Form),
            ("2026-01-01T00:00:00+05:30:00", Error::Form),
            ("2026-01-01T00:00:00+05:30[Asia/Kolkata]", Error::Form),
            ("2026-01-01 00:00:00Z", Error::Form),
            ("-0001-01-01T00:00:00Z", Error::Form),
            ("+002026-01-01T00:00:00Z", Error::Form),
            ("12026-01-01T00:00:00Z", Error::Form),
            ("2026-1-01T00:00:00Z", Error::Form),
            (" 2026-01-01T00:00:00Z", Error::Form),
            ("2026-01-01T00:00:00Z ", Error::Form),
            ("２026-01-01T00:00:00Z", Error::Form),
            ("2026-00-01T00:00:00Z", Error::Month),
            ("2026-13-01T00:00:00Z", Error::Month),
            ("2026-01-00T00:00:00Z", Error::Day),
            ("2026-02-29T00:00:00Z", Error::Day),
            ("1900-02-29T00:00:00Z", Error::Day),
            ("2026-04-31T00:00:00Z", Error::Day),
            ("2026-01-01T24:00:00Z", Error::Hour),
            ("2026-01-01T00:60:00Z", Error::Minute),
            ("2026-01-01T00:00:61Z", Error::Second),
            ("2026-01-01T00:00:00+24:00", Error::Offset),
            ("2026-01-01T00:00:00-00:60", Error::Offset),
            ("2026-01-01T00:00:60Z", Error::LeapSecond),
            ("2016-12-30T23:59:60Z", Error::LeapSecond),
            ("2016-12-31T23:59:60+01:00", Error::LeapSecond),
            ("2017-01-02T05:29:60+05:30", Error::LeapSecond),
            ("2016-12-31T15:58:60-08:00", Error::LeapSecond),
        ] {
            assert_eq!(check(time), Err(error), "{time}");
        }
    }

    prop_compose! {
        fn offset()(kind in 0..4_u8, hours in 0..24_u8, minutes in 0..60_u8) -> String {
            match kind {
                0 => "Z".into(),
                1 => "z".into(),
                2 => format!("+{hours:02}:{minutes:02}"),
                _ => format!("-{hours:02}:{minutes:02}"),
            }
        }
    }

    proptest! {
        #[test]
        fn every_time_of_the_grammar_is_valid(
            (year, month) in (0..10_000_u16, 1..13_u16),
            day in 1..29_u16,
            clock in (0..24_u8, 0..60_u8, 0..60_u8),
            fraction in proptest::option::of("[0-9]{1,40}"),
            (t, offset) in ("[Tt]", offset()),
        ) {
            let (hour, minute, second) = clock;
            let fraction = fraction.map(|digits| format!(".{digits}")).unwrap_or_default();
            let time = format!("{year:04}-{month:02}-{day:02}{t}{hour:02}:{minute:02}:{second:02}{fraction}{offset}");
            prop_assert_eq!(check(&time), Ok(()), "{}", time);
            // A changed byte makes it no time, or another time of the same form.
            let shorter: Vec<&str> = (0..time.len()).map(|end| &time[..end]).collect();
            prop_assert!(shorter.iter().all(|shorter| check(shorter).is_err()), "{}", time);
            let longer = format!("{time}0");
            prop_assert!(check(&longer).is_err());
        }

        #[test]
        fn any_text_is_checked_without_a_panic(text in "\\PC{0,40}", near in "[0-9TZtz:.+-]{0,40}") {
            let _ = (check(&text), check(&near));
        }
    }
}
