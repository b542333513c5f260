//! The order in which an epoch visits the samples: a function of (seed, epoch) and of nothing else.

use crate::philox::{Purpose, Stream};

/// The samples `0..len` in the order of one epoch, by Fisher-Yates with an unbiased draw.
pub(crate) fn shuffled(len: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..len).collect();
    let mut stream = Stream::new(seed, Purpose::SampleOrder, epoch);
    for last in (1..len).rev() {
        let pick = stream.below(last as u64 + 1) as usize;
        order.swap(last, pick);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permutation_that_depends_on_seed_and_epoch() {
        let base = shuffled(1000, 1, 0);
        let mut sorted = base.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..1000).collect::<Vec<_>>());
        assert_eq!(base, shuffled(1000, 1, 0));
        assert_ne!(base, shuffled(1000, 2, 0));
        assert_ne!(base, shuffled(1000, 1, 1));
        assert_eq!(shuffled(0, 1, 1), Vec::<usize>::new());
        assert_eq!(shuffled(1, 1, 1), vec![0]);
    }

    /// Every one of the 24 orders of four samples comes equally often, over the epochs.
    #[test]
    fn all_orders_are_equally_likely() {
        let mut counts = std::collections::BTreeMap::new();
        for epoch in 0..24_000 {
            *counts.entry(shuffled(4, 5, epoch)).or_insert(0u32) += 1;
        }
        assert_eq!(counts.len(), 24);
        // The standard deviation of each count is 31.
        assert!(counts.values().all(|&c| c.abs_diff(1000) < 180), "{counts:?}");
    }
}
