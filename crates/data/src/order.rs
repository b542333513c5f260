//! The order in which an epoch visits the samples: a function of (seed, epoch) and of nothing else.

use crate::random::{Purpose, Stream};

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
