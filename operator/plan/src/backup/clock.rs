//! Cron with time zones: when a backup is due. The zones are compiled in; nothing is read from the machine.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};

/// A schedule that can be followed.
#[derive(Clone, Debug)]
pub struct Clock {
    cron: Cron,
    zone: TimeZone,
}

/// Why a schedule cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClockError {
    /// The zone is not in the database.
    #[error(
        "spec.timeZone {0:?} is not in the IANA time zone database; use a name such as Europe/Berlin or UTC"
    )]
    UnknownTimeZone(String),
    /// The expression does not read.
    #[error(
        "spec.schedule {schedule:?} does not read: {error}; use five cron fields, for example '0 3 * * *'"
    )]
    Malformed {
        /// The expression.
        schedule: String,
        /// What is wrong.
        error: String,
    },
    /// The expression reads and never comes, as 30 February.
    #[error("spec.schedule {0:?} never comes; use five cron fields, for example '0 3 * * *'")]
    Never(String),
}

impl Clock {
    /// Reads a five-field cron expression in a time zone.
    ///
    /// # Errors
    /// If the zone is unknown, or the expression does not read or never comes after `now`.
    pub fn new(schedule: &str, time_zone: &str, now: Timestamp) -> Result<Self, ClockError> {
        let zone = TimeZoneDatabase::bundled()
            .get(time_zone)
            .map_err(|_| ClockError::UnknownTimeZone(time_zone.to_owned()))?;
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(schedule).map_err(|error| ClockError::Malformed {
            schedule: schedule.to_owned(),
            error: error.to_string(),
        })?;
        let clock = Self { cron, zone };
        match clock.next(now) {
            Some(_) => Ok(clock),
            None => Err(ClockError::Never(schedule.to_owned())),
        }
    }

    /// The first time after `at`.
    pub fn next(&self, at: Timestamp) -> Option<Timestamp> {
        let from = at.to_zoned(self.zone.clone());
        self.cron.find_next_occurrence(&from, false).ok().map(|z| z.timestamp())
    }

    /// The last time at or before `at`.
    pub fn last(&self, at: Timestamp) -> Option<Timestamp> {
        let from = at.to_zoned(self.zone.clone());
        self.cron.find_previous_occurrence(&from, true).ok().map(|z| z.timestamp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn times_follow_the_zone_through_daylight_saving() {
        for (schedule, zone, from, next) in [
            ("0 3 * * *", "UTC", "2026-11-22T03:00:00Z", "2026-11-23T03:00:00Z"),
            ("0 3 * * *", "Europe/Berlin", "2026-06-30T12:00:00Z", "2026-07-01T01:00:00Z"),
            ("0 3 * * *", "Europe/Berlin", "2026-11-30T12:00:00Z", "2026-12-01T02:00:00Z"),
            // 02:30 does not exist on that night: it comes when the clock has jumped.
            ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-29T01:00:00Z"),
            // 02:30 comes twice on that night: the first one counts, the second does not.
            ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z"),
            ("30 2 * * *", "Europe/Berlin", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"),
            ("*/15 * * * *", "Asia/Kathmandu", "2026-11-22T03:01:00Z", "2026-11-22T03:15:00Z"),
            ("0 0 * * MON", "America/New_York", "2026-11-22T00:00:00Z", "2026-11-23T05:00:00Z"),
        ] {
            let clock = Clock::new(schedule, zone, at(from)).unwrap();
            assert_eq!(clock.next(at(from)), Some(at(next)), "{schedule} {zone} after {from}");
        }
    }

    #[test]
    fn what_cannot_be_followed_says_what_to_do() {
        let now = at("2026-11-22T00:00:00Z");
        let error = |schedule, zone| Clock::new(schedule, zone, now).unwrap_err().to_string();
        assert!(error("0 3 * * *", "Mars/Olympus").contains("IANA"));
        assert!(error("61 * * * *", "UTC").contains("61 * * * *"));
        assert!(error("0 0 3 * * *", "UTC").contains("five cron fields"));
        assert!(error("0 0 30 2 *", "UTC").contains("never comes"));
    }
}
