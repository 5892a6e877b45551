use std::time::{Duration, Instant};

/// The moment by which an action must have said what it has to say.
///
/// Pacemaker ends an action that runs out of time with SIGKILL and no warning, and throws away
/// the reason it had printed. So the deadline is a little earlier than Pacemaker's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// The deadline of an action that began at `started` and was given `timeout`: a tenth less,
    /// but at least 250 ms and at most 2 s less. A timeout under 500 ms leaves half of itself.
    pub fn of_action(started: Instant, timeout: Duration) -> Deadline {
        let margin = (timeout / 10).clamp(Duration::from_millis(250), Duration::from_secs(2));
        Deadline(started + (timeout - margin.min(timeout / 2)))
    }

    /// Exactly `limit` after `started`.
    pub fn after(started: Instant, limit: Duration) -> Deadline {
        Deadline(started + limit)
    }

    /// The earlier of this deadline and `limit` from `now`.
    pub fn within(self, now: Instant, limit: Duration) -> Deadline {
        Deadline(self.0.min(now + limit))
    }

    /// What is left of it at `now`; zero once it is over.
    pub fn left(self, now: Instant) -> Duration {
        self.0.saturating_duration_since(now)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant will do")]
mod tests {
    use super::*;

    #[test]
    fn the_margin_is_a_tenth_between_a_quarter_second_and_two_seconds() {
        let now = Instant::now();
        let left = |ms| {
            Deadline::of_action(now, Duration::from_millis(ms))
                .left(now)
                .as_millis()
        };
        assert_eq!(left(20_000), 18_000);
        assert_eq!(left(10_000), 9_000);
        assert_eq!(left(1_000), 750);
        assert_eq!(left(300_000), 298_000);
        assert_eq!(left(400), 200);
        assert_eq!(left(0), 0);
    }

    #[test]
    fn nothing_is_left_after_it() {
        let now = Instant::now();
        let over = Deadline::after(now, Duration::from_secs(1));
        assert_eq!(over.left(now + Duration::from_secs(2)), Duration::ZERO);
    }
}
