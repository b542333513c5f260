//! The dropout layer: a probability, and the stream that its masks are drawn from.

use vitrine_autodiff::Var;

use crate::error::{Error, Result};
use crate::parameters::Scope;
use crate::pass::Pass;

/// Sets a random share of its input to 0 in training and scales the rest by `1/(1−p)`.
///
/// Linear layers take it as a part of their epilogue, without a pass of its own over memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    probability: f64,
    stream: u32,
}

impl Dropout {
    /// A dropout layer with its own stream. An error if the probability is not in [0, 1).
    pub fn new(scope: &mut Scope<'_>, probability: f64) -> Result<Self> {
        if !(0.0..1.0).contains(&probability) {
            return Err(Error::Config {
                layer: "dropout",
                what: "probability",
                value: probability.to_string(),
                rule: "it must be at least 0 and below 1",
            });
        }
        Ok(Self { probability, stream: scope.dropout_stream() })
    }

    /// The probability of dropping an element.
    pub fn probability(&self) -> f64 {
        self.probability
    }

    /// The stream of random numbers that masks are drawn from.
    pub fn stream(&self) -> u32 {
        self.stream
    }

    /// Any shape, unchanged.
    pub fn forward(&self, pass: &Pass<'_>, x: &Var) -> Result<Var> {
        match pass.mask(self) {
            Some(mask) => Ok(x.dropout(mask)?),
            None => Ok(x.clone()),
        }
    }
}
