//! Reverse-mode automatic differentiation over `vitrine-tensor`.
//!
//! ```
//! use vitrine_autodiff::Tape;
//! use vitrine_tensor::{Device, Tensor};
//!
//! let device = Device::cpu();
//! let tape = Tape::new();
//! let x = tape.variable(Tensor::from_slice(&[1.0f64, 2.0, 3.0], &[3], &device)?);
//! let y = x.mul(&x)?.sum()?; // y = Σ x²
//! let gradients = tape.backward(&y)?;
//! assert_eq!(gradients.get(&x).unwrap().to_vec::<f64>()?, [2.0, 4.0, 6.0]);
//! # Ok::<(), vitrine_autodiff::Error>(())
//! ```
//!
//! - A [`Tape`] records operations on [`Var`]s. [`Tape::inference`] gives one that records nothing, so that
//!   activations are freed at once.
//! - [`Tape::parameter`] adds gradients straight into a buffer of the caller's: a view of the model's flat gradients.
//! - An operation is recorded with its gradient rule, so none can be without. [`CustomOp`] carries an operation of your
//!   own.
//! - [`Tape::backward`] takes the recorded operations apart from the end and frees what each has saved as it passes.
//!
//! Layers, losses and optimizers are in `vitrine-nn`.

mod backward;
mod error;
mod ops;
mod tape;

pub use backward::Gradients;
pub use error::{Error, Result};
pub use ops::{CustomOp, SelfAttention};
pub use tape::{Tape, Var};
