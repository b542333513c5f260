//! [`Soap`]: Adam in the eigenbases of Shampoo's statistics.

use std::collections::HashMap;

use vitrine_tensor::backend::AdamWStep;
use vitrine_tensor::{DType, Element, Epilogue, Tensor};

use super::matrix::{Matrix, parted};
use super::{AdamW, Optimizer, State};
use crate::error::{Error, Result};
use crate::linalg;
use crate::parameters::Parameters;

/// SOAP (Vyas et al. 2024, algorithm 3), as the authors' `soap.py`: Adam on the gradient of a matrix, turned into the
/// eigenbases of the averages of `G·Gᵀ` and `Gᵀ·G`. The bases are eigenvectors at first; every `precondition_frequency`
/// steps they are those of one step of power iteration and a QR decomposition. The first step changes no weights: it
/// gives the first bases. What is no matrix is updated by AdamW.
///
/// Weight decay comes before the update, as AdamW's; the authors' comes after it. A convolution's weight is one matrix.
pub struct Soap {
    precondition_frequency: u64,
    max_precond_dim: usize,
    /// The moments of a matrix are turned.
    adamw: AdamW,
    /// Of each matrix by name, for its rows and its columns; none for a side that is too long.
    sides: HashMap<String, [Option<Side>; 2]>,
    steps: u64,
}

/// One side of a matrix.
struct Side {
    /// The average of `G·Gᵀ`, or of `Gᵀ·G`: `[n, n]`.
    statistics: Tensor,
    /// Its eigenvectors, columns.
    basis: Tensor,
}

const NAME: &str = "soap";

impl Soap {
    /// Betas in [0, 1), the second for the statistics too; new bases every so many steps, 1 or more; sides that are
    /// longer than `max_precond_dim` stay as they are.
    pub fn new(
        beta1: f64,
        beta2: f64,
        epsilon: f64,
        weight_decay: f64,
        precondition_frequency: u64,
        max_precond_dim: usize,
    ) -> Result<Self> {
        let adamw = AdamW::new(beta1, beta2, epsilon, weight_decay)?;
        if precondition_frequency == 0 {
            let (what, rule) = ("steps between bases", "it must be 1 or more");
            return Err(Error::Config { layer: NAME, what, value: "0".into(), rule });
        }
        // Where there is no LAPACK, that is said before anything is trained.
        linalg::eigenvectors(NAME, vec![1.0f32])?;
        let sides = HashMap::new();
        Ok(Self { precondition_frequency, max_precond_dim, adamw, sides, steps: 0 })
    }

    /// Makes what a matrix needs, all 0.
    fn prepare(&mut self, matrix: &Matrix, like: &Tensor) -> Result<()> {
        if self.sides.contains_key(&matrix.name) {
            return Ok(());
        }
        let side = |n: usize| -> Result<Option<Side>> {
            let zeros = || Tensor::zeros(&[n, n], like.dtype(), like.device());
            Ok(match n > self.max_precond_dim {
                true => None,
                false => Some(Side { statistics: zeros()?, basis: zeros()? }),
            })
        };
        let sides = [side(matrix.shape[0])?, side(matrix.shape[1])?];
        self.sides.insert(matrix.name.clone(), sides);
        Ok(())
    }
}

/// A matrix in the bases of both sides, `Qᵀ·G·P`, or back from them, `Q·G·Pᵀ`.
fn turned(matrix: &Tensor, [left, right]: [Option<&Tensor>; 2], back: bool) -> Result<Tensor> {
    let mut result = matrix.clone();
    if let Some(basis) = left {
        let basis = if back { basis.clone() } else { basis.transpose(0, 1)? };
        result = basis.matmul(&result)?;
    }
    if let Some(basis) = right {
        let basis = if back { basis.transpose(0, 1)? } else { basis.clone() };
        result = result.matmul(&basis)?;
    }
    Ok(result)
}

impl Side {
    /// Adds a gradient's share, whose rows are this side.
    fn add(&self, grad: &Tensor, weight: f64) -> Result<()> {
        let grad = grad.contiguous()?;
        Ok(self.statistics.lerp_(&grad.linear(&grad, &Epilogue::default())?, weight)?)
    }

    /// The eigenvectors of the statistics.
    fn decompose(&self) -> Result<()> {
        fn vectors<T: Element + linalg::Real>(statistics: &Tensor) -> Result<Tensor> {
            let vectors = linalg::eigenvectors(NAME, statistics.to_vec::<T>()?)?;
            Ok(Tensor::from_slice(&vectors, statistics.shape(), statistics.device())?)
        }
        Ok(self.basis.copy_(&match self.statistics.dtype() {
            DType::F64 => vectors::<f64>(&self.statistics)?,
            _ => vectors::<f32>(&self.statistics)?,
        })?)
    }

    /// The next basis, and which vector of the old one each of its own comes from: the largest eigenvalue's first.
    fn iterate(&self) -> Result<Vec<usize>> {
        fn next<T: Element + linalg::Real>(side: &Side) -> Result<(Tensor, Vec<usize>)> {
            let powers = side.statistics.matmul(&side.basis)?;
            let n = powers.shape()[0];
            // The diagonal of Qᵀ·S·Q.
            let eigenvalues = side.basis.mul(&powers)?.sum_axis(0)?.to_f64_vec()?;
            let mut order: Vec<usize> = (0..n).collect();
            order.sort_by(|&a, &b| eigenvalues[b].total_cmp(&eigenvalues[a]));
            let powers = powers.to_vec::<T>()?;
            let sorted = (0..n * n).map(|i| powers[i / n * n + order[i % n]]).collect();
            let (q, _) = linalg::qr(NAME, sorted, n)?;
            Ok((Tensor::from_slice(&q, &[n, n], side.basis.device())?, order))
        }
        let (basis, order) = match self.basis.dtype() {
            DType::F64 => next::<f64>(self)?,
            _ => next::<f32>(self)?,
        };
        self.basis.copy_(&basis)?;
        Ok(order)
    }
}

/// New bases for both sides, to which the moments follow.
fn rebase(sides: &[Option<Side>; 2], first: &Tensor, second: &Tensor) -> Result<()> {
    let bases = || sides.each_ref().map(|side| side.as_ref().map(|side| &side.basis));
    let straight = turned(first, bases(), true)?;
    let [rows, columns] = [0, 1].map(|axis| first.shape()[axis]);
    let order = |side: &Option<Side>, n: usize| match side {
        Some(side) => side.iterate(),
        None => Ok((0..n).collect()),
    };
    let (down, across) = (order(&sides[0], rows)?, order(&sides[1], columns)?);
    first.copy_(&turned(&straight, bases(), false)?)?;
    let before = second.to_f64_vec()?;
    let moved = (0..rows * columns)
        .map(|i| before[down[i / columns] * columns + across[i % columns]])
        .collect::<Vec<f64>>();
    let moved = Tensor::from_slice(&moved, second.shape(), second.device())?;
    Ok(second.copy_(&moved.to_dtype(second.dtype())?)?)
}

impl Optimizer for Soap {
    fn step(&mut self, parameters: &Parameters, learning_rate: f64) -> Result<()> {
        let [first, second] = self.adamw.moments(parameters)?;
        let (values, grads) = (parameters.values(), parameters.grads()?);
        let (matrices, rest) = parted(parameters);
        let AdamW { beta2, epsilon, weight_decay, .. } = self.adamw;
        // The first step is not Adam's. The authors add ε before the second moment's bias is corrected.
        let unbiased = 1.0 - beta2.powi(self.steps.clamp(1, 1 << 30) as i32);
        let step = self.adamw.next(learning_rate);
        let step = AdamWStep { step: self.steps, epsilon: epsilon / unbiased.sqrt(), ..step };
        if self.steps > 0 {
            values.adamw_(grads, &first, &second, &step, &rest)?;
        }
        for matrix in matrices {
            self.prepare(&matrix, values)?;
            let sides = &self.sides[&matrix.name];
            let bases = sides.each_ref().map(|side| side.as_ref().map(|side| &side.basis));
            let (grad, first, second) =
                (matrix.of(grads)?, matrix.of(&first)?, matrix.of(&second)?);
            if self.steps > 0 {
                let grad = turned(&grad, bases, false)?;
                let direction = Tensor::zeros(grad.shape(), grad.dtype(), grad.device())?;
                // From 0 against the rate of −1: the direction itself.
                let alone = AdamWStep { learning_rate: -1.0, weight_decay: 0.0, ..step };
                direction.adamw_(&grad, &first, &second, &alone, &[])?;
                let direction = turned(&direction, bases, true)?;
                matrix.update(values, &direction, 1.0, learning_rate, weight_decay)?;
            }
            let [left, right] = sides;
            let weight = 1.0 - beta2;
            left.iter().try_for_each(|side| side.add(&grad, weight))?;
            right.iter().try_for_each(|side| side.add(&grad.transpose(0, 1)?, weight))?;
            if self.steps == 0 {
                sides.iter().flatten().try_for_each(Side::decompose)?;
            } else if self.steps.is_multiple_of(self.precondition_frequency)
                && sides.iter().any(Option::is_some)
            {
                rebase(sides, &first, &second)?;
            }
        }
        self.steps += 1;
        Ok(())
    }

    fn name(&self) -> &'static str {
        NAME
    }

    fn steps(&self) -> u64 {
        self.steps
    }

    fn state(&mut self, parameters: &Parameters) -> Result<State> {
        let mut state = self.adamw.state(parameters)?;
        for matrix in parted(parameters).0 {
            self.prepare(&matrix, parameters.values())?;
            for (side, which) in self.sides[&matrix.name].iter().zip(["rows", "columns"]) {
                let Some(Side { statistics, basis }) = side else { continue };
                for (what, tensor) in [("statistics", statistics), ("basis", basis)] {
                    state.push((format!("{}.{which}.{what}", matrix.name), tensor.clone()));
                }
            }
        }
        Ok(state)
    }

    fn set_steps(&mut self, steps: u64) {
        self.steps = steps;
    }
}
