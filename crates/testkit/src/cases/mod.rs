//! The table of cases: one file an operation, with the cases of its gradient beside it.

mod activation;
mod attention;
mod convolution;
mod cross_entropy;
mod elementwise;
mod embed;
mod layer_norm;
mod linear;
mod memory;
mod optimizer;
mod softmax;
mod sum;

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
fn mask(probability: f64, stream: u32) -> Dropout {
    Dropout::new(probability, inputs::key(stream))
}
