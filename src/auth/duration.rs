//! Durations as people write them: `90s`, `15m`, `48h`, `30d`, `1w`, plain seconds, `-1` for "never".

use std::str::FromStr;

use super::expiration::Lifetime;

/// Longest duration taken, seconds: 100 years, so that no sum with a time overflows.
pub(super) const MAX_SECONDS: u64 = 100 * 365 * DAY;
const DAY: u64 = 24 * 3600;

/// Why a text is no duration. The caller's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadDuration {
    /// No number at its start, or one that is not whole and positive.
    #[error(
        "{0:?} is not a duration: write a whole number and a unit, such as 90s, 15m, 48h, 30d or 1w, or -1 for never"
    )]
    Number(String),
    /// The unit is none of ours. Months and years are left out on purpose: their length is not fixed.
    #[error("{0:?} is not a unit of time: use s, m, h, d or w")]
    Unit(String),
    /// 0.
    #[error("a duration of 0 would expire at once: leave it out for the default, or use -1 for never")]
    Zero,
    /// More than 100 years.
    #[error("a duration is at most 100 years; use -1 for never")]
    TooLong,
}

impl FromStr for Lifetime {
    type Err = BadDuration;

    fn from_str(text: &str) -> Result<Self, BadDuration> {
        let text = text.trim();
        if text == "-1" {
            return Ok(Lifetime::Never);
        }
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        if number.is_empty() || unit.starts_with(['.', ',']) {
            return Err(BadDuration::Number(text.to_owned()));
        }
        let unit = seconds_of(unit.trim()).ok_or_else(|| BadDuration::Unit(unit.trim().to_owned()))?;
        // Only digits are left, so what does not parse is too large.
        let number: u64 = number.parse().map_err(|_| BadDuration::TooLong)?;
        match number.checked_mul(unit) {
            Some(0) => Err(BadDuration::Zero),
            Some(seconds) if seconds <= MAX_SECONDS => Ok(Lifetime::Seconds(seconds)),
            _ => Err(BadDuration::TooLong),
        }
    }
}

fn seconds_of(unit: &str) -> Option<u64> {
    Some(match unit.to_ascii_lowercase().as_str() {
        "" | "s" | "sec" | "secs" | "second" | "seconds" => 1,
        "m" | "min" | "mins" | "minute" | "minutes" => 60,
        "h" | "hour" | "hours" => 3600,
        "d" | "day" | "days" => DAY,
        "w" | "week" | "weeks" => 7 * DAY,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write() {
        let seconds = |text: &str| match text.parse() {
            Ok(Lifetime::Seconds(seconds)) => seconds,
            other => panic!("{text}: {other:?}"),
        };
        let written = ["48h", "30d", "90s", "1w", "3600", "15m", "2 days", "1D", "36500d"];
        let meant = [172_800, 2_592_000, 90, 604_800, 3600, 900, 172_800, 86_400, MAX_SECONDS];
        assert_eq!(written.map(seconds), meant);
        assert_eq!("-1".parse(), Ok(Lifetime::Never));
    }

    #[test]
    fn what_they_should_not() {
        let error = |text: &str| text.parse::<Lifetime>().unwrap_err();
        assert_eq!(error(""), BadDuration::Number(String::new()));
        assert_eq!(error("h"), BadDuration::Number("h".into()));
        assert_eq!(error("-2"), BadDuration::Number("-2".into()));
        assert_eq!(error("1.5h"), BadDuration::Number("1.5h".into()));
        assert_eq!(error("1mo"), BadDuration::Unit("mo".into()));
        assert_eq!(error("1h30m"), BadDuration::Unit("h30m".into()));
        assert_eq!(error("5ms"), BadDuration::Unit("ms".into()));
        assert_eq!(error("0"), BadDuration::Zero);
        assert_eq!(error("0d"), BadDuration::Zero);
        assert_eq!(error("36501d"), BadDuration::TooLong);
        assert_eq!(error("99999999999999999999w"), BadDuration::TooLong);
        assert_eq!(error("18446744073709551615w"), BadDuration::TooLong);
    }
}
