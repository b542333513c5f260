//! [`ScheduleFreeAdamW`]: AdamW whose averaged weights need no schedule.

use vitrine_tensor::backend::{AdamWStep, SgdStep};
use vitrine_tensor::{Device, ParameterGroup, Tensor};

use super::{AdamW, Optimizer, State};
use crate::error::{Error, Result};
use crate::parameters::Parameters;

const NAME: &str = "schedule-free adamw";

/// Schedule-free AdamW (Defazio et al. 2024, "The Road Less Scheduled", algorithm 1), as the authors'
/// `AdamWScheduleFreeReference`: gradients are taken at `y = (1 − β1)·z + β1·x`, the parameters; AdamW without a first
/// moment moves `z`; `x` is the mean of all `z`, weighted by the square of the largest learning rate so far. `x` is
/// what is to be judged. A model with batch norm is refused: its running statistics are not those of `x`.
pub struct ScheduleFreeAdamW {
    /// Moves `z` with a β1 of 0: its first moment is the gradient, which nobody reads afterwards.
    adamw: AdamW,
    sequences: Option<Sequences>,
}

/// What is kept from step to step.
struct Sequences {
    /// The mean.
    x: Tensor,
    /// What AdamW moves.
    z: Tensor,
    /// The sum of all weights in the mean, and the largest learning rate so far; in the type of a checkpoint, so that a
    /// resumed run has the same numbers.
    sums: Tensor,
}

impl ScheduleFreeAdamW {
    /// Betas in [0, 1); `weight_decay` is decoupled from the gradient.
    pub fn new(beta1: f64, beta2: f64, epsilon: f64, weight_decay: f64) -> Result<Self> {
        let adamw = AdamW::new(beta1, beta2, epsilon, weight_decay)?;
        Ok(Self { adamw, sequences: None })
    }

    fn sequences(&mut self, parameters: &Parameters) -> Result<&Sequences> {
        if self.sequences.is_none() {
            let y = parameters.values();
            if parameters.buffers().elements() > 0 {
                let rule = "the running statistics of batch norm would be those of other weights than the averaged \
                            ones; use adamw";
                let (what, value) = ("a model's buffers", parameters.buffers().elements());
                return Err(Error::Config { layer: NAME, what, value: value.to_string(), rule });
            }
            self.sequences = Some(Sequences {
                x: y.copy()?,
                z: y.copy()?,
                sums: Tensor::from_slice(&[0.0f32; 2], &[2], &Device::cpu())?,
            });
        }
        Ok(self.sequences.as_ref().expect("just made"))
    }
}

impl Optimizer for ScheduleFreeAdamW {
    fn step(&mut self, parameters: &Parameters, learning_rate: f64) -> Result<()> {
        let AdamW { beta1, weight_decay, .. } = self.adamw;
        let step = AdamWStep { beta1: 0.0, weight_decay: 0.0, ..self.adamw.next(learning_rate) };
        let [first_moment, second_moment] = self.adamw.moments(parameters)?;
        let (y, grads, groups) = (parameters.values(), parameters.grads()?, parameters.groups());
        let Sequences { x, z, sums } = self.sequences(parameters)?;
        let sums_before = sums.to_vec::<f32>()?;
        let largest = sums_before[1].max(learning_rate as f32);
        let weight = largest * largest;
        let sum = sums_before[0] + weight;
        sums.copy_from_slice_(&[sum, largest])?;
        let share = if sum > 0.0 { f64::from(weight) / f64::from(sum) } else { 0.0 };
        if weight_decay > 0.0 {
            // Weights decay towards 0 from where they are trained.
            let decaying = |group: ParameterGroup| {
                let rate_scale = if group.decay { group.rate_scale } else { 0.0 };
                ParameterGroup { rate_scale, ..group }
            };
            let groups: Vec<_> = groups.iter().cloned().map(decaying).collect();
            let learning_rate = learning_rate * weight_decay;
            let step = SgdStep { learning_rate, momentum: 0.0, nesterov: false, weight_decay: 0.0 };
            z.sgd_(y, None, &step, &groups)?;
        }
        z.adamw_(grads, &first_moment, &second_moment, &step, &groups)?;
        x.lerp_(z, share)?;
        y.copy_(z)?;
        y.lerp_(x, beta1)?;
        self.adamw.steps += 1;
        Ok(())
    }

    fn name(&self) -> &'static str {
        "schedule-free-adamw"
    }

    fn steps(&self) -> u64 {
        self.adamw.steps()
    }

    fn state(&mut self, parameters: &Parameters) -> Result<State> {
        let [_, second_moment] = self.adamw.moments(parameters)?;
        let Sequences { x, z, sums } = self.sequences(parameters)?;
        let buffers = [("x", x), ("z", z), ("second_moment", &second_moment), ("sums", sums)];
        Ok(buffers.map(|(name, buffer)| (name.into(), buffer.clone())).to_vec())
    }

    fn set_steps(&mut self, steps: u64) {
        self.adamw.set_steps(steps);
    }

    fn averaged(&mut self, parameters: &Parameters) -> Result<Option<Parameters>> {
        let x = self.sequences(parameters)?.x.clone();
        Ok(Some(parameters.with_values(x)))
    }
}
