//! Optimizers over the flat buffers of [`Parameters`]: the trait, and the two that know no matrices. The others have a
//! file each.

mod ema;
mod matrix;
mod muon;
mod schedule_free;
mod soap;

pub use ema::Ema;
pub use muon::Muon;
pub use schedule_free::ScheduleFreeAdamW;
pub use soap::Soap;
use vitrine_tensor::Tensor;
use vitrine_tensor::backend::{AdamWStep, SgdStep};

use crate::error::{Error, Result};
use crate::parameters::Parameters;

/// Updates parameters from their gradients.
pub trait Optimizer: Send {
    /// One update with this learning rate.
    fn step(&mut self, parameters: &Parameters, learning_rate: f64) -> Result<()>;

    /// The name in a checkpoint: one of another kind is refused.
    fn name(&self) -> &'static str;

    /// The updates made so far.
    fn steps(&self) -> u64;

    /// The buffers that a checkpoint must hold, by name. One that is read is written over them.
    fn state(&mut self, parameters: &Parameters) -> Result<State>;

    /// Sets the number of updates made, when a checkpoint is read.
    fn set_steps(&mut self, steps: u64);

    /// The model with the weights that are averaged over the steps, if they are: a second one to judge.
    fn averaged(&mut self, _parameters: &Parameters) -> Result<Option<Parameters>> {
        Ok(None)
    }
}

/// Tensors by name, as a file has them: an optimizer's buffers, or a model's.
pub type State = Vec<(String, Tensor)>;

/// Scales the gradients so that their norm is at most `max_norm`; gives the norm before, a scalar tensor of its square.
pub fn clip_grad_norm(parameters: &Parameters, max_norm: f64) -> Result<Tensor> {
    check("gradient clipping", "largest norm", max_norm, false)?;
    let sum_squares = parameters.grad_sum_squares()?;
    parameters.grads()?.clip_norm_(&sum_squares, max_norm)?;
    Ok(sum_squares)
}

fn check(layer: &'static str, what: &'static str, value: f64, below_one: bool) -> Result<()> {
    let fits = value.is_finite() && value >= 0.0 && (!below_one || value < 1.0);
    if fits {
        return Ok(());
    }
    let rule = match below_one {
        true => "it must be at least 0 and below 1",
        false => "it must be finite and not negative",
    };
    Err(Error::Config { layer, what, value: value.to_string(), rule })
}

/// A buffer like the parameters', made when first needed.
fn buffer(slot: &mut Option<Tensor>, parameters: &Parameters) -> Result<Tensor> {
    if slot.is_none() {
        let values = parameters.values();
        *slot = Some(Tensor::zeros(values.shape(), values.dtype(), values.device())?);
    }
    Ok(slot.clone().expect("just made"))
}

/// Stochastic gradient descent with momentum, as `torch.optim.SGD`.
#[derive(Default)]
pub struct Sgd {
    momentum: f64,
    nesterov: bool,
    weight_decay: f64,
    velocity: Option<Tensor>,
    steps: u64,
}

impl Sgd {
    /// `momentum` in [0, 1); `weight_decay` is added to the gradient (coupled).
    pub fn new(momentum: f64, nesterov: bool, weight_decay: f64) -> Result<Self> {
        check("sgd", "momentum", momentum, true)?;
        check("sgd", "weight decay", weight_decay, false)?;
        if nesterov && momentum == 0.0 {
            return Err(Error::Config {
                layer: "sgd",
                what: "momentum",
                value: "0".into(),
                rule: "Nesterov's form needs a momentum",
            });
        }
        Ok(Self { momentum, nesterov, weight_decay, ..Self::default() })
    }
}

impl Optimizer for Sgd {
    fn step(&mut self, parameters: &Parameters, learning_rate: f64) -> Result<()> {
        let (momentum, nesterov) = (self.momentum, self.nesterov);
        let velocity = match momentum {
            0.0 => None,
            _ => Some(buffer(&mut self.velocity, parameters)?),
        };
        let step = SgdStep { learning_rate, momentum, nesterov, weight_decay: self.weight_decay };
        let (values, grads) = (parameters.values(), parameters.grads()?);
        values.sgd_(grads, velocity.as_ref(), &step, &parameters.groups())?;
        self.steps += 1;
        Ok(())
    }

    fn name(&self) -> &'static str {
        "sgd"
    }

    fn steps(&self) -> u64 {
        self.steps
    }

    fn state(&mut self, parameters: &Parameters) -> Result<State> {
        if self.momentum == 0.0 {
            return Ok(Vec::new());
        }
        Ok(vec![("velocity".into(), buffer(&mut self.velocity, parameters)?)])
    }

    fn set_steps(&mut self, steps: u64) {
        self.steps = steps;
    }
}

/// AdamW (Loshchilov and Hutter 2019), as `torch.optim.AdamW`.
pub struct AdamW {
    beta1: f64,
    beta2: f64,
    epsilon: f64,
    weight_decay: f64,
    moments: [Option<Tensor>; 2],
    steps: u64,
}

impl AdamW {
    /// Betas in [0, 1); `weight_decay` is decoupled from the gradient.
    pub fn new(beta1: f64, beta2: f64, epsilon: f64, weight_decay: f64) -> Result<Self> {
        check("adamw", "beta1", beta1, true)?;
        check("adamw", "beta2", beta2, true)?;
        check("adamw", "epsilon", epsilon, false)?;
        check("adamw", "weight decay", weight_decay, false)?;
        Ok(Self { beta1, beta2, epsilon, weight_decay, moments: [None, None], steps: 0 })
    }

    /// The first and the second moment, of the parameters' shape.
    fn moments(&mut self, parameters: &Parameters) -> Result<[Tensor; 2]> {
        let [first, second] = &mut self.moments;
        Ok([buffer(first, parameters)?, buffer(second, parameters)?])
    }

    /// What is told to the next update.
    fn next(&self, learning_rate: f64) -> AdamWStep {
        AdamWStep {
            learning_rate,
            beta1: self.beta1,
            beta2: self.beta2,
            epsilon: self.epsilon,
            weight_decay: self.weight_decay,
            step: self.steps + 1,
        }
    }
}

impl Optimizer for AdamW {
    fn step(&mut self, parameters: &Parameters, learning_rate: f64) -> Result<()> {
        let ([first, second], step) = (self.moments(parameters)?, self.next(learning_rate));
        let (values, grads) = (parameters.values(), parameters.grads()?);
        values.adamw_(grads, &first, &second, &step, &parameters.groups())?;
        self.steps += 1;
        Ok(())
    }

    fn name(&self) -> &'static str {
        "adamw"
    }

    fn steps(&self) -> u64 {
        self.steps
    }

    fn state(&mut self, parameters: &Parameters) -> Result<State> {
        let [first, second] = self.moments(parameters)?;
        Ok(vec![("first_moment".into(), first), ("second_moment".into(), second)])
    }

    fn set_steps(&mut self, steps: u64) {
        self.steps = steps;
    }
}
