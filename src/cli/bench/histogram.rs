//! Values counted in buckets of bounded relative width.

/// Values in buckets that are at most a 64th of their value wide.
pub(super) struct Histogram {
    buckets: Vec<u64>,
    total: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: vec![0; (64 - SUB_BITS as usize + 1) << SUB_BITS],
            total: 0,
            max: 0,
        }
    }
}

impl Histogram {
    pub(super) fn add(&mut self, value: u64) {
        let shift = (value | (1 << SUB_BITS)).ilog2() - SUB_BITS;
        let index = (u64::from(shift) << SUB_BITS) + (value >> shift);
        self.buckets[index as usize] += 1;
        self.total += 1;
        self.max = self.max.max(value);
    }

    pub(super) fn total(&self) -> u64 {
        self.total
    }

    pub(super) fn max(&self) -> u64 {
        self.max
    }

    /// The upper end of the bucket below or in which `part` of the values are.
    pub(super) fn quantile(&self, part: f64) -> u64 {
        let wanted = ((self.total as f64 * part).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, count) in (0u64..).zip(&self.buckets) {
            seen += count;
            if seen >= wanted {
                let shift = (index >> SUB_BITS).saturating_sub(1);
                let below = (index - (shift << SUB_BITS)) << shift;
                return (below + ((1 << shift) - 1)).min(self.max);
            }
        }
        0
    }
}

/// Each doubling of a value has `2^SUB_BITS` buckets.
const SUB_BITS: u32 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_values_are_exact() {
        let mut histogram = Histogram::default();
        (0..128).for_each(|value| histogram.add(value));
        assert_eq!(histogram.total(), 128);
        assert_eq!(histogram.quantile(0.0), 0);
        assert_eq!(histogram.quantile(0.5), 63);
        assert_eq!(histogram.quantile(1.0), 127);
    }

    #[test]
    fn a_quantile_is_never_below_and_at_most_a_64th_above_its_value() {
        for value in
            (0..64).flat_map(|bit| [1u64 << bit, (1 << bit) + (1 << bit) / 3, u64::MAX >> bit])
        {
            let mut histogram = Histogram::default();
            histogram.add(value);
            histogram.add(u64::MAX);
            let found = histogram.quantile(0.5);
            assert!(
                found >= value && found - value <= value / 64,
                "{value}: {found}"
            );
            assert_eq!(histogram.max(), u64::MAX);
        }
    }

    #[test]
    fn nothing_has_no_quantile() {
        assert_eq!(Histogram::default().quantile(0.99), 0);
    }
}
