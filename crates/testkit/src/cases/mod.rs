//! The table of cases: one file an operation, with the cases of its gradient beside it.

pub(crate) mod activation;
pub(crate) mod attention;
pub(crate) mod convolution;
pub(crate) mod cross_entropy;
pub(crate) mod elementwise;
pub(crate) mod embed;
pub(crate) mod layer_norm;
pub(crate) mod linear;
pub(crate) mod memory;
pub(crate) mod optimizer;
pub(crate) mod softmax;
pub(crate) mod sum;

use vitrine_tensor::Dropout;

use crate::case::Case;
use crate::inputs;

/// All cases.
pub fn all() -> Vec<Case> {
    let files = [
        memory::cases,
        elementwise::cases,
        sum::cases,
        linear::cases,
        linear::matmul_cases,
        activation::cases,
        layer_norm::cases,
        softmax::cases,
        attention::cases,
        cross_entropy::cases,
        convolution::cases,
        embed::cases,
        optimizer::cases,
    ];
    files.into_iter().flat_map(|cases| cases()).collect()
}

/// A dropout mask for cases.
pub(crate) fn mask(probability: f64, stream: u32) -> Dropout {
    Dropout::new(probability, inputs::key(stream))
}
