//! Random numbers for all that is drawn here, from the workspace's one generator: a number is a function of its
//! address.

use vitrine_tensor::random::{normal_pair, philox, unit};

use crate::transform::SampleAddress;

/// What a stream of numbers is for. Streams with the same seed and index are independent.
#[derive(Debug, Clone, Copy)]
#[repr(u32)]
pub(crate) enum Purpose {
    /// The order of an epoch's samples; the index is the epoch.
    SampleOrder = 1,
    /// The pixels of a synthetic dataset; the index is the sample.
    SyntheticImage = 2,
    /// Which samples of a class are held out; the index is the class.
    Holdout = 3,
    /// Which part of a picture is taken; the index is epoch and sample.
    Crop = 4,
    /// Which operations change a picture; the index is epoch and sample.
    Operations = 5,
    /// What is erased of a picture; the index is epoch and sample.
    Erasing = 6,
    /// How two pictures are mixed; the index is epoch and sample.
    Mixing = 7,
}

/// The numbers at one address (seed, purpose, index), read one after another.
#[derive(Debug)]
pub(crate) struct Stream {
    key: [u32; 2],
    counter: [u32; 4],
    words: [u32; 4],
    used: usize,
}

impl Stream {
    /// The numbers for a visit to a sample.
    pub(crate) fn of(purpose: Purpose, visit: SampleAddress) -> Self {
        Self::new(visit.seed, purpose, visit.epoch << 32 | visit.sample as u64)
    }

    pub(crate) fn new(seed: u64, purpose: Purpose, index: u64) -> Self {
        Self {
            key: [seed as u32, (seed >> 32) as u32],
            counter: [0, purpose as u32, index as u32, (index >> 32) as u32],
            words: [0; 4],
            used: 4,
        }
    }

    pub(crate) fn next_u32(&mut self) -> u32 {
        if self.used == 4 {
            self.words = philox(self.counter, self.key);
            self.counter[0] = self.counter[0].wrapping_add(1);
            self.used = 0;
        }
        self.used += 1;
        self.words[self.used - 1]
    }

    fn next_u64(&mut self) -> u64 {
        u64::from(self.next_u32()) | u64::from(self.next_u32()) << 32
    }

    /// A number from 0 to below 1, with 53 random bits.
    pub(crate) fn uniform(&mut self) -> f64 {
        unit(self.next_u64())
    }

    /// A number between two.
    pub(crate) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// Whether something happens that does so with this probability.
    pub(crate) fn happens(&mut self, probability: f64) -> bool {
        self.uniform() < probability
    }

    /// A number from the standard normal distribution.
    pub(crate) fn normal(&mut self) -> f64 {
        normal_pair([self.uniform(), self.uniform()])[0]
    }

    /// Brings elements into an order that is as likely as any other (Fisher and Yates).
    pub(crate) fn shuffle<T>(&mut self, elements: &mut [T]) {
        for last in (1..elements.len()).rev() {
            let pick = self.below(last as u64 + 1) as usize;
            elements.swap(last, pick);
        }
    }

    /// A number below `bound`, each equally likely: Lemire's multiply and reject. `bound` must not be 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        debug_assert!(bound > 0);
        // The first 2^64 mod bound low parts would make some results likelier than others.
        let threshold = bound.wrapping_neg() % bound;
        loop {
            let product = u128::from(self.next_u64()) * u128::from(bound);
            if product as u64 >= threshold {
                return (product >> 64) as u64;
            }
        }
    }
}
