//! The text of `Date`, made once a second.

use std::io::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use weir_core::WallTime;

/// `Sun, 06 Nov 1994 08:49:37 GMT`: IMF-fixdate (RFC 9110 section 5.6.7).
pub(crate) type DateText = [u8; 29];

const NANOS: u64 = 1_000_000_000;

/// The text of the last second asked for.
#[derive(Debug)]
pub(crate) struct DateCache {
    second: u64,
    text: DateText,
}

impl Default for DateCache {
    fn default() -> Self {
        Self { second: 0, text: *b"Thu, 01 Jan 1970 00:00:00 GMT" }
    }
}

impl DateCache {
    /// The date of `now`.
    pub(crate) fn text(&mut self, now: WallTime) -> DateText {
        let second = now.as_nanos() / NANOS;
        if second != self.second {
            let date = httpdate::HttpDate::from(UNIX_EPOCH + Duration::from_secs(second));
            let mut text = self.text;
            // Written in place: nothing is allocated. A date of another length cannot be (years have four digits).
            if write!(&mut text[..], "{date}").is_ok() {
                *self = Self { second, text };
            }
        }
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc9110_5_6_7_dates_are_imf_fixdate() {
        let mut cache = DateCache::default();
        assert_eq!(cache.text(WallTime::from_nanos(784_111_777 * NANOS)), *b"Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(cache.text(WallTime::from_nanos(784_111_778 * NANOS - 1)), *b"Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(cache.text(WallTime::from_nanos(784_111_778 * NANOS)), *b"Sun, 06 Nov 1994 08:49:38 GMT");
        assert_eq!(cache.text(WallTime::from_nanos(0)), *b"Thu, 01 Jan 1970 00:00:00 GMT");
    }
}
