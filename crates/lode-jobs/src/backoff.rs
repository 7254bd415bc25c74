//! How long to wait before the next try.

use std::time::Duration;

use rand::Rng;

/// Doubling waits with jitter, up to a cap.
#[derive(Debug, Clone)]
pub struct Backoff {
    pub first: Duration,
    pub cap: Duration,
    failures: u32,
}

impl Default for Backoff {
    /// 200 ms, doubling, at most 30 s.
    fn default() -> Self {
        Self::new(Duration::from_millis(200), Duration::from_secs(30))
    }
}

impl Backoff {
    pub fn new(first: Duration, cap: Duration) -> Self {
        Self { first, cap, failures: 0 }
    }

    /// Failures since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// The next wait: between half of and the whole of `first * 2^failures`, at most `cap`.
    pub fn next_wait(&mut self) -> Duration {
        let whole = self.first.saturating_mul(2_u32.saturating_pow(self.failures.min(31))).min(self.cap);
        self.failures = self.failures.saturating_add(1);
        whole.mul_f64(rand::rng().random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        for whole_ms in [100, 200, 400, 800, 1000, 1000] {
            let wait = backoff.next_wait();
            let whole = Duration::from_millis(whole_ms);
            assert!(wait >= whole / 2 && wait <= whole, "{wait:?} of {whole:?}");
        }
        backoff.reset();
        assert!(backoff.next_wait() <= Duration::from_millis(100));
    }
}
