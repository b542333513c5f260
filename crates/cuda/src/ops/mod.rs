//! The operations: one file a topic, which sizes the launches of the kernels in `kernels/`.

mod activation;
mod arithmetic;
mod attention;
mod batch_norm;
mod convolution;
mod embedding;
mod linear;
pub(crate) mod losses;
mod movement;
mod norms;
mod optimizers;
mod pooling;
