//! The coordinator's clock. Its limits are for others to answer in: what goes by while the coordinator itself stands — the
//! machine's processors are taken away, a file system of its images hangs — is nobody's silence, and is left out.

use crate::core::Millis;
use std::cell::Cell;
use std::time::{Duration, Instant};

/// What may go by between two looks at the clock, beyond what was waited for, and still counts.
const STALL: Duration = Duration::from_millis(500);

/// Time that goes forward while the coordinator runs.
#[derive(Debug)]
pub struct Clock {
    started: Instant,
    /// The last look, since the start.
    looked: Cell<Duration>,
    /// What has been left out.
    lost: Cell<Duration>,
}

impl Clock {
    pub fn new() -> Self {
        Self { started: Instant::now(), looked: Cell::default(), lost: Cell::default() }
    }

    /// Milliseconds since the start.
    pub fn millis(&self) -> Millis {
        self.look(self.started.elapsed(), Duration::ZERO)
    }

    /// A wait for at most `timeout` milliseconds, as poll(2) takes it, has ended.
    pub fn waited(&self, timeout: i32) {
        let allowed = u64::try_from(timeout).map_or(Duration::MAX, Duration::from_millis);
        self.look(self.started.elapsed(), allowed);
    }

    fn look(&self, now: Duration, allowed: Duration) -> Millis {
        let since = now.saturating_sub(self.looked.replace(now));
        let counts = allowed.saturating_add(STALL);
        let lost = self.lost.get() + since.saturating_sub(counts);
        self.lost.set(lost);
        now.saturating_sub(lost).as_millis() as Millis
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_by_table() {
        let seconds = Duration::from_secs_f64;
        // When, for how long was waited, the time.
        let table = [(0.1, 0.0, 100), (0.6, 0.0, 600), (9.6, 9.0, 9600), (30.0, 0.0, 10_100), (60.0, 0.01, 10_610)];
        let clock = Clock::new();
        for (now, allowed, expected) in table {
            assert_eq!(clock.look(seconds(now), seconds(allowed)), expected, "{now}");
        }
        assert_eq!(clock.look(seconds(4000.0), Duration::MAX), 3_950_610);
    }
}
