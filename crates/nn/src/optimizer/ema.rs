//! [`Ema`]: an average of the weights over the steps, beside any optimizer.

use super::{Optimizer, State, check};
use crate::error::Result;
use crate::parameters::Parameters;

/// An exponential moving average of weights and buffers beside an optimizer (Polyak and Juditsky 1992; timm's
/// `ModelEmaV3`): after each update `average += (1 − d)·(weights − average)`.
pub struct Ema {
    inner: Box<dyn Optimizer>,
    decay: f64,
    warm_up: bool,
    average: Option<Parameters>,
}

impl Ema {
    /// `decay` in [0, 1). With `warm_up`, it begins lower: after update `t` it is at most `1 − t^(−2/3)`.
    pub fn new(inner: Box<dyn Optimizer>, decay: f64, warm_up: bool) -> Result<Self> {
        check("ema", "decay", decay, true)?;
        Ok(Self { inner, decay, warm_up, average: None })
    }

    /// The share of the average that an update keeps, counted from 1; the first one keeps none.
    fn kept(&self, step: u64) -> f64 {
        match step {
            ..=1 => 0.0,
            _ if self.warm_up => self.decay.min(1.0 - (step as f64).powf(-2.0 / 3.0)),
            _ => self.decay,
        }
    }

    fn average(&mut self, parameters: &Parameters) -> Result<Parameters> {
        if self.average.is_none() {
            self.average = Some(parameters.zeros_like()?);
        }
        Ok(self.average.clone().expect("just made"))
    }
}

impl Optimizer for Ema {
    fn step(&mut self, parameters: &Parameters, learning_rate: f64) -> Result<()> {
        self.inner.step(parameters, learning_rate)?;
        let rest = 1.0 - self.kept(self.inner.steps());
        let average = self.average(parameters)?;
        average.values().lerp_(parameters.values(), rest)?;
        Ok(average.buffers().lerp_(parameters.buffers(), rest)?)
    }

    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn steps(&self) -> u64 {
        self.inner.steps()
    }

    fn state(&mut self, parameters: &Parameters) -> Result<State> {
        let mut state = self.inner.state(parameters)?;
        let average = self.average(parameters)?;
        state.push(("ema".into(), average.values().clone()));
        if average.buffers().elements() > 0 {
            state.push(("ema_buffers".into(), average.buffers().clone()));
        }
        Ok(state)
    }

    fn set_steps(&mut self, steps: u64) {
        self.inner.set_steps(steps);
    }

    fn averaged(&mut self, parameters: &Parameters) -> Result<Option<Parameters>> {
        self.average(parameters).map(Some)
    }
}
