//! Philox 4x32-10, the one source of randomness: a number is a function of its address, so it is the same on any
//! device and for any number of threads. Dropout masks and initial weights are drawn from it; no state is kept.

/// Which sequence of random numbers: the address of a draw is (seed, step, stream, index).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamKey {
    /// The seed of the run.
    pub seed: u64,
    /// The training step (its low 32 bits count).
    pub step: u64,
    /// The place in the program that draws: one number for each dropout layer or parameter.
    pub stream: u32,
}

/// Elements whose random words are made together: 16 counters of 4 words.
pub const BLOCK: usize = 64;

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// One call of Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011, section 4.2).
pub fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let p0 = u64::from(MULTIPLIERS[0]) * u64::from(counter[0]);
        let p1 = u64::from(MULTIPLIERS[1]) * u64::from(counter[2]);
        counter = [
            (p1 >> 32) as u32 ^ counter[1] ^ key[0],
            p1 as u32,
            (p0 >> 32) as u32 ^ counter[3] ^ key[1],
            p0 as u32,
        ];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

/// A number uniform in [0, 1) of the upper 53 of 64 random bits.
pub fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

/// Two independent numbers from the standard normal distribution of two uniform in [0, 1) (Box and Muller, 1958).
pub fn normal_pair(uniform: [f64; 2]) -> [f64; 2] {
    let radius = (-2.0 * (1.0 - uniform[0]).ln()).sqrt();
    let angle = std::f64::consts::TAU * uniform[1];
    [radius * angle.cos(), radius * angle.sin()]
}

impl StreamKey {
    /// The 64 random words of elements `64·block … 64·block + 63`.
    ///
    /// Element `64·b + 16·lane + i` is word `lane` of the counter `16·b + i`: sixteen counters side by side fill a
    /// vector register without a shuffle, and a GPU thread serves four elements that lie 16 apart.
    #[inline(always)]
    #[expect(
        clippy::needless_range_loop,
        reason = "side by side, the loops show what one vector holds"
    )]
    pub fn block(self, block: u64) -> [u32; BLOCK] {
        // Philox as above, sixteen counters at a time: each line of the inner loop is one vector instruction or two.
        // A word lies in the lower half of a lane of 64 bits, so that a product needs no shuffle; what the upper half
        // holds never counts.
        let first = block * 16;
        // Four arrays: in one, the compiler would fill neighbouring words together, by way of memory.
        let (mut c0, mut c1) = ([first; 16], [first >> 32; 16]);
        let (mut c2, mut c3) = ([u64::from(self.stream); 16], [self.step; 16]);
        for i in 0..16 {
            c0[i] |= i as u64;
        }
        let [m0, m1] = MULTIPLIERS.map(u64::from);
        let mut key = [self.seed as u32, (self.seed >> 32) as u32];
        for _ in 0..10 {
            let [k0, k1] = key.map(u64::from);
            for i in 0..16 {
                let p0 = m0 * (c0[i] & 0xffff_ffff);
                let p1 = m1 * (c2[i] & 0xffff_ffff);
                c0[i] = (p1 >> 32) ^ c1[i] ^ k0;
                c1[i] = p1;
                c2[i] = (p0 >> 32) ^ c3[i] ^ k1;
                c3[i] = p0;
            }
            key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
        }
        let mut words = [0; BLOCK];
        for (words, c) in words.chunks_exact_mut(16).zip([c0, c1, c2, c3]) {
            for (word, c) in words.iter_mut().zip(c) {
                *word = c as u32;
            }
        }
        words
    }

    /// Numbers without end, uniform in [0, 1), with 53 random bits each.
    pub fn uniform(self) -> impl Iterator<Item = f64> {
        let mut words = (0..).flat_map(move |block| self.block(block)).map(u64::from);
        std::iter::from_fn(move || {
            let bits = (words.next()? << 32) | words.next()?;
            Some(unit(bits))
        })
    }

    /// Numbers without end, from the standard normal distribution.
    pub fn normal(self) -> impl Iterator<Item = f64> {
        let mut uniform = self.uniform();
        let pairs = std::iter::from_fn(move || Some([uniform.next()?, uniform.next()?]));
        pairs.flat_map(normal_pair)
    }
}

/// A dropout mask: which elements are kept is a function of `key` and the element's index.
///
/// Kept elements are scaled by `1/(1−p)` (Srivastava et al., JMLR 2014, "inverted" form), so that evaluation needs
/// no scaling.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// The probability `p` of dropping an element, in [0, 1).
    pub probability: f64,
    /// Where the mask is drawn from.
    pub key: StreamKey,
    /// The number of elements that one sample (index along the first axis; a tensor of one axis is one sample) takes
    /// in the index space; `None` if that is what the tensor holds. A tensor with only the first rows of each sample
    /// gives the full sample's size, and draws the very mask that those rows have in the full tensor.
    pub sample_stride: Option<usize>,
}

impl Dropout {
    /// The mask for elements numbered one after the other.
    pub fn new(probability: f64, key: StreamKey) -> Self {
        Self { probability, key, sample_stride: None }
    }

    /// A word below this drops its element.
    #[inline(always)]
    pub fn threshold(&self) -> u32 {
        (self.probability * (1u64 << 32) as f64).round().min(f64::from(u32::MAX)) as u32
    }

    /// The factor of a kept element.
    #[inline(always)]
    pub fn scale(&self) -> f64 {
        1.0 / (1.0 - self.probability)
    }

    /// Calls `each(i, kept)` for the elements `index + i`, `i` in `0..len`.
    pub fn for_each(&self, index: u64, len: usize, mut each: impl FnMut(usize, bool)) {
        let threshold = self.threshold();
        self.for_each_run(index, len, |start, words| {
            for (i, &word) in words.iter().enumerate() {
                each(start + i, word >= threshold);
            }
        });
    }

    /// Calls `each(start, words)` for runs of the elements `index..index + len`: an element is kept if its word is not
    /// below [`Dropout::threshold`].
    #[inline(always)]
    pub fn for_each_run(&self, index: u64, len: usize, mut each: impl FnMut(usize, &[u32])) {
        let mut done = 0;
        while done < len {
            let at = index + done as u64;
            let words = self.key.block(at / BLOCK as u64);
            let skip = (at % BLOCK as u64) as usize;
            let take = (BLOCK - skip).min(len - done);
            each(done, &words[skip..skip + take]);
            done += take;
        }
    }
}
