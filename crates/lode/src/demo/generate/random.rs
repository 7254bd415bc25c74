//! Chance that is the same on every machine: integer draws, and real numbers by `+ - * /` and `sqrt` only.
//! The platform's `exp`, `ln` and `sin` differ in the last digit, so they are not used here.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// One independent stream of draws.
pub(crate) struct Random(ChaCha8Rng);

/// What a stream is for; streams with different purposes or numbers never meet.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Purpose {
    Car = 1,
    Station = 2,
    Weather = 3,
    Fleet = 4,
    Delivery = 5,
    Sessions = 6,
}

impl Random {
    pub(crate) fn new(seed: u64, purpose: Purpose, number: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(((purpose as u64) << 48) | number);
        Self(rng)
    }

    /// In [0, 1).
    pub(crate) fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }

    pub(crate) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// In [0, count); `count` must be above 0.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        ((self.unit() * count as f64) as usize).min(count.saturating_sub(1))
    }

    /// Both ends are drawn.
    pub(crate) fn whole(&mut self, low: i64, high: i64) -> i64 {
        low + self.below((high - low + 1).max(1) as usize) as i64
    }

    pub(crate) fn chance(&mut self, share: f64) -> bool {
        self.unit() < share
    }

    /// Sum of twelve uniform draws: near enough to the bell curve, and exact everywhere.
    pub(crate) fn normal(&mut self, mean: f64, deviation: f64) -> f64 {
        let sum: f64 = (0..12).map(|_| self.unit()).sum();
        mean + deviation * (sum - 6.0)
    }

    pub(crate) fn log_normal(&mut self, median: f64, sigma: f64) -> f64 {
        median * exp(self.normal(0.0, sigma))
    }

    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        let at = self.below(items.len());
        &items[at]
    }

    /// Index into `weights`.
    pub(crate) fn weighted(&mut self, weights: &[u32]) -> usize {
        let total: u32 = weights.iter().sum();
        let mut left = self.unit() * f64::from(total);
        for (at, weight) in weights.iter().enumerate() {
            left -= f64::from(*weight);
            if left < 0.0 {
                return at;
            }
        }
        weights.len().saturating_sub(1)
    }
}

/// e^x for |x| < 700, by range reduction and a series.
pub(crate) fn exp(x: f64) -> f64 {
    let twos = (x * std::f64::consts::LOG2_E).round();
    let rest = x - twos * std::f64::consts::LN_2;
    let (mut term, mut sum) = (1.0, 1.0);
    for n in 1..14 {
        term *= rest / f64::from(n);
        sum += term;
    }
    let power = f64::from_bits(((1023 + twos as i64) as u64) << 52);
    sum * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_draws_and_streams_differ() {
        let draws = |seed, number| {
            let mut random = Random::new(seed, Purpose::Car, number);
            [random.unit(), random.normal(0.0, 1.0), random.log_normal(1.0, 1.0)]
        };
        assert_eq!(draws(1, 1), draws(1, 1));
        assert_ne!(draws(1, 1), draws(1, 2));
        assert_ne!(draws(1, 1), draws(2, 1));
    }

    #[test]
    fn exp_is_close() {
        for x in [-3.0, -0.5, 0.0, 0.1, 1.0, 4.2] {
            assert!((exp(x) / f64::exp(x) - 1.0).abs() < 1e-12, "{x}");
        }
    }

    #[test]
    fn normal_draws_have_their_mean_and_deviation() {
        let mut random = Random::new(7, Purpose::Fleet, 0);
        let draws: Vec<f64> = (0..20_000).map(|_| random.normal(10.0, 2.0)).collect();
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        let variance = draws.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / draws.len() as f64;
        assert!((mean - 10.0).abs() < 0.1 && (variance - 4.0).abs() < 0.2, "{mean} {variance}");
    }
}
