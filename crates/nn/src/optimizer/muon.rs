//! [`Muon`]: momentum whose matrices are made orthogonal.

use vitrine_tensor::{DType, Epilogue, Tensor};

use super::matrix::parted;
use super::{AdamW, Optimizer, State, check};
use crate::error::Result;
use crate::parameters::Parameters;

/// Muon (Jordan et al. 2024), as timm's: the momentum of a matrix, its singular values brought near 1 by five steps of
/// a Newton-Schulz iteration, is the direction; the learning rate is scaled by `0.2·√max(rows, columns)`, so that an
/// update is as long as one of AdamW (Liu et al. 2025, "Muon is scalable for LLM training", equation 4: timm's
/// `match_rms_adamw`). What is no matrix is updated by AdamW at the same learning rate.
///
/// The iteration runs in the type that the model computes in. With `nesterov`, timm takes NAdamW for the rest; here it
/// stays AdamW.
pub struct Muon {
    momentum: f64,
    nesterov: bool,
    /// Its first moment has the momentum of matrices.
    rest: AdamW,
}

/// The coefficients of the iteration's steps, timm's `"quintic"`: `X ← a·X + (b·XXᵀ + c·(XXᵀ)²)·X`.
const COEFFICIENTS: [[f64; 3]; 5] = [
    [4.0848, -6.8946, 2.9270],
    [3.9505, -6.3029, 2.6377],
    [3.7418, -5.5913, 2.3037],
    [2.8769, -3.1427, 1.2046],
    [2.8366, -3.0525, 1.2012],
];

impl Muon {
    /// `momentum` in [0, 1); betas, epsilon as AdamW's; `weight_decay` is decoupled from the gradient.
    pub fn new(
        momentum: f64,
        nesterov: bool,
        beta1: f64,
        beta2: f64,
        epsilon: f64,
        weight_decay: f64,
    ) -> Result<Self> {
        check("muon", "momentum", momentum, true)?;
        let rest = AdamW::new(beta1, beta2, epsilon, weight_decay)?;
        Ok(Self { momentum, nesterov, rest })
    }
}

/// A matrix with the same singular vectors, and singular values near 1.
fn orthogonalized(update: &Tensor, compute: DType, epsilon: f64) -> Result<Tensor> {
    let [rows, columns] = [0, 1].map(|axis| update.shape()[axis]);
    let turned = |x: &Tensor| match rows > columns {
        true => x.transpose(0, 1)?.contiguous(),
        false => Ok(x.clone()),
    };
    let norm = update.sum_squares()?.to_scalar()?.sqrt();
    let mut x = turned(update)?.scale(1.0 / norm.max(epsilon))?.to_dtype(compute)?;
    for [a, b, c] in COEFFICIENTS {
        let gram = x.linear(&x, &Epilogue::default())?;
        let polynomial = gram.matmul(&gram)?.scale(c)?;
        polynomial.add_scaled_(&gram, b)?;
        let next = polynomial.matmul(&x)?;
        next.add_scaled_(&x, a)?;
        x = next;
    }
    Ok(turned(&x.to_dtype(update.dtype())?)?)
}

impl Optimizer for Muon {
    fn step(&mut self, parameters: &Parameters, learning_rate: f64) -> Result<()> {
        let [first, second] = self.rest.moments(parameters)?;
        let (values, grads) = (parameters.values(), parameters.grads()?);
        let (matrices, rest) = parted(parameters);
        values.adamw_(grads, &first, &second, &self.rest.next(learning_rate), &rest)?;
        for matrix in matrices {
            let (momentum, grad) = (matrix.of(&first)?, matrix.of(grads)?);
            momentum.lerp_(&grad, 1.0 - self.momentum)?;
            let ahead = match self.nesterov {
                true => grad.lerp(&momentum, self.momentum)?,
                false => momentum,
            };
            let direction = orthogonalized(&ahead, parameters.compute_dtype(), self.rest.epsilon)?;
            let [rows, columns] = matrix.shape;
            let scale = 0.2 * (rows.max(columns) as f64).sqrt();
            matrix.update(values, &direction, scale, learning_rate, self.rest.weight_decay)?;
        }
        self.rest.steps += 1;
        Ok(())
    }

    fn name(&self) -> &'static str {
        "muon"
    }

    fn steps(&self) -> u64 {
        self.rest.steps()
    }

    fn state(&mut self, parameters: &Parameters) -> Result<State> {
        self.rest.state(parameters)
    }

    fn set_steps(&mut self, steps: u64) {
        self.rest.set_steps(steps);
    }
}
