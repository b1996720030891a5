//! How often operations took how long.

use std::time::Duration;

use crate::meter::Figures;

/// 32 steps for each doubling, so within 3 percent.
pub(crate) struct Histogram(Vec<u64>);

impl Histogram {
    const STEPS: u32 = 32;

    pub(crate) fn new() -> Self {
        Self(vec![0; (Self::STEPS * 40) as usize])
    }

    pub(crate) fn add(&mut self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos())
            .unwrap_or(u64::MAX)
            .max(u64::from(Self::STEPS));
        let doublings = nanos.ilog2() - Self::STEPS.ilog2();
        let step = (nanos >> doublings) as u32 - Self::STEPS;
        let at = ((doublings * Self::STEPS + step) as usize).min(self.0.len() - 1);
        self.0[at] += 1;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (sum, its) in self.0.iter_mut().zip(&other.0) {
            *sum += its;
        }
    }

    /// The time within which that share of all operations was done, in microseconds.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let wanted = (self.0.iter().sum::<u64>() as f64 * share).ceil();
        let mut seen = 0.0;
        for (at, count) in (0_u32..).zip(&self.0) {
            seen += *count as f64;
            if *count > 0 && seen >= wanted {
                let (doublings, step) = (at / Self::STEPS, at % Self::STEPS);
                return f64::from(Self::STEPS + step) * 2_f64.powi(doublings as i32) / 1e3;
            }
        }
        f64::NAN
    }

    /// Adds the median and the 99th percentile of operations that consist of so many `steps`.
    pub(crate) fn describe(&self, steps: u64, figures: &mut Figures) {
        figures.insert("p50".into(), self.quantile(0.5) / steps as f64);
        figures.insert("p99".into(), self.quantile(0.99) / steps as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_three_percent_of_those_of_the_sorted_times() {
        let mut histogram = Histogram::new();
        for micros in 1..=100_000 {
            histogram.add(Duration::from_micros(micros));
        }
        for share in [0.01, 0.5, 0.9, 0.99, 1.0] {
            let (found, exact) = (histogram.quantile(share), 100_000.0 * share);
            assert!(
                (found / exact - 1.0).abs() < 0.032,
                "{share}: {found}, not {exact}"
            );
        }
    }
}
