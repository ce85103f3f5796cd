//! Times as the API writes them.

use rookery_cluster::clock::UnixMillis;
use time::OffsetDateTime;

/// RFC 3339 with microseconds and `Z`, such as `2022-05-11T23:13:08.383232Z`. Times are kept in milliseconds, so
/// the last three digits are 0. What is past the year 9999 is shown as its last moment.
pub fn rfc3339(at: UnixMillis) -> String {
    let Ok(t) = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.0) * 1_000_000) else {
        return "9999-12-31T23:59:59.999999Z".to_owned();
    };
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z",
        t.year(),
        u8::from(t.month()),
        t.day(),
        t.hour(),
        t.minute(),
        t.second(),
        t.microsecond()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn micros_and_z() {
        assert_eq!(rfc3339(UnixMillis(1_652_310_788_383)), "2022-05-11T23:13:08.383000Z");
        assert_eq!(rfc3339(UnixMillis(0)), "1970-01-01T00:00:00.000000Z");
        assert_eq!(rfc3339(UnixMillis(u64::MAX)), "9999-12-31T23:59:59.999999Z");
    }
}
