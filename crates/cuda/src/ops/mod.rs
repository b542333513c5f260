//! The operations: one file each, which sizes the launches of the kernels of the same name in `kernels/`.

pub(crate) mod activation;
pub(crate) mod attention;
pub(crate) mod copy;
pub(crate) mod cross_entropy;
pub(crate) mod elementwise;
pub(crate) mod embed;
pub(crate) mod layer_norm;
pub(crate) mod linear;
pub(crate) mod optimizer;
pub(crate) mod softmax;
pub(crate) mod sum;
