//! The operations, one file a topic: what each means ([`linear::reference`] and its like: written to be read, not to be
//! fast, without a backend's code), the cases that a backend must pass, forward and gradient beside each other, the
//! same at many sizes, and what each operation writes.

pub mod activation;
pub mod arithmetic;
pub mod attention;
pub mod batch_norm;
pub mod convolution;
pub mod embedding;
pub mod linear;
pub mod losses;
pub mod movement;
pub mod norms;
pub mod optimizers;
pub mod pooling;

use vitrine_tensor::Dropout;

use crate::case::Case;
use crate::inputs;
use crate::sweep::Reach;

/// What a topic's file has.
pub(crate) struct Topic {
    cases: fn() -> Vec<Case>,
    pub(crate) sweep: fn(Reach) -> Vec<Case>,
    names: &'static [&'static str],
}

/// The topics by the names of their files.
macro_rules! topics {
    ($($file:ident),*) => {
        [$(Topic { cases: $file::cases, sweep: $file::sweep, names: $file::NAMES }),*]
    };
}

pub(crate) const TOPICS: [Topic; 12] = topics![
    movement,
    arithmetic,
    linear,
    activation,
    norms,
    batch_norm,
    attention,
    losses,
    convolution,
    pooling,
    embedding,
    optimizers
];

/// The cases of all operations.
pub fn cases() -> Vec<Case> {
    TOPICS.iter().flat_map(|topic| (topic.cases)()).collect()
}

/// The names of all operations, which are the backend's methods.
pub fn names() -> Vec<&'static str> {
    let operations = TOPICS.iter().flat_map(|topic| topic.names);
    ["upload", "download"].iter().chain(operations).copied().collect()
}

/// A dropout mask for cases.
fn mask(probability: f64, stream: u32) -> Dropout {
    Dropout::new(probability, inputs::key(stream))
}
