//! Learning-rate schedules: the learning rate of each optimizer step, as a function of the step
//! alone. There is no state to save: a resumed run asks for the step that it is at.
//!
//! Every schedule may begin with a linear warm-up (Goyal et al. 2017, "Accurate, Large Minibatch
//! SGD", section 2.2). With `w` warm-up steps, step `t < w` has the learning rate
//! `base · (t + 1) / w`, or `from + (base − from) · t / w` where it begins from a rate that is given, as
//! timm's; from step `w` on the main schedule runs, counted from `w` (timm's `warmup_prefix`).

use std::f64::consts::PI;

use thiserror::Error;

/// The learning rate over a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    base: f64,
    warmup_steps: u64,
    /// The rate that warm-up begins from; without it, that of the step before the first is 0.
    warmup_from: Option<f64>,
    decay: Decay,
}

/// What comes after warm-up.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Decay {
    Constant,
    Step { every: u64, gamma: f64 },
    Fall { form: Form, last: f64, total_steps: u64 },
}

/// How a learning rate falls to its last value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Along half a cosine (Loshchilov & Hutter 2017, "SGDR", equation 5).
    Cosine,
    /// Along a line.
    Linear,
}

impl Form {
    /// What is left of the fall, from 1 to 0, at a share of its steps.
    fn left(self, share: f64) -> f64 {
        match self {
            Self::Cosine => 0.5 * (1.0 + (PI * share).cos()),
            Self::Linear => 1.0 - share,
        }
    }
}

/// A schedule that makes no sense.
#[derive(Clone, Debug, PartialEq, Error)]
#[expect(missing_docs, reason = "the message says what each field is")]
pub enum ScheduleError {
    /// A learning rate is negative, NaN or infinite.
    #[error(
        "schedule: the {which} learning rate is {value}; it must be a finite number, 0 or more"
    )]
    LearningRate { which: &'static str, value: f64 },
    /// The factor of a step schedule is not in (0, 1].
    #[error("schedule: gamma is {0}; it must be over 0 and at most 1")]
    Gamma(f64),
    /// A step schedule reduces every 0 steps.
    #[error("schedule: the steps from one reduction to the next are 0; they must be 1 or more")]
    NoSteps,
    /// Nothing of the fall is left after warm-up.
    #[error("schedule: {warmup_steps} warm-up steps leave nothing of {total_steps} to fall")]
    WarmupTooLong { warmup_steps: u64, total_steps: u64 },
}

impl Schedule {
    /// The same learning rate at every step.
    pub fn constant(learning_rate: f64) -> Result<Self, ScheduleError> {
        let base = checked("first", learning_rate)?;
        Ok(Self::without_warmup(base, Decay::Constant))
    }

    /// `learning_rate · gamma^⌊t / every⌋`: multiplied by `gamma` once every so many steps.
    pub fn step(learning_rate: f64, every: u64, gamma: f64) -> Result<Self, ScheduleError> {
        let base = checked("first", learning_rate)?;
        if every == 0 {
            return Err(ScheduleError::NoSteps);
        }
        if !(gamma > 0.0 && gamma <= 1.0) {
            return Err(ScheduleError::Gamma(gamma));
        }
        Ok(Self::without_warmup(base, Decay::Step { every, gamma }))
    }

    /// From `learning_rate` down to `last`: `last + (learning_rate − last) · left(t / T)`, with T the `total_steps`
    /// less warm-up, and `left(x)` half a cosine, `0.5 · (1 + cos(π x))`, or `1 − x`. From `total_steps` on, the
    /// learning rate is `last`.
    pub fn falling(
        form: Form,
        learning_rate: f64,
        last: f64,
        total_steps: u64,
    ) -> Result<Self, ScheduleError> {
        let base = checked("first", learning_rate)?;
        let last = checked("final", last)?;
        Self::without_warmup(base, Decay::Fall { form, last, total_steps }).with_warmup(0, None)
    }

    fn without_warmup(base: f64, decay: Decay) -> Self {
        Self { base, warmup_steps: 0, warmup_from: None, decay }
    }

    /// The same schedule behind so many steps of linear warm-up, 0 for none, from a learning rate on.
    pub fn with_warmup(self, warmup_steps: u64, from: Option<f64>) -> Result<Self, ScheduleError> {
        let warmup_from = from.map(|rate| checked("warm-up's", rate)).transpose()?;
        match self.decay {
            Decay::Fall { total_steps, .. } if warmup_steps >= total_steps => {
                Err(ScheduleError::WarmupTooLong { warmup_steps, total_steps })
            }
            _ => Ok(Self { warmup_steps, warmup_from, ..self }),
        }
    }

    /// The learning rate of an optimizer step, counted from 0.
    pub fn learning_rate(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            let share = |steps: u64| steps as f64 / self.warmup_steps as f64;
            return match self.warmup_from {
                None => self.base * share(step + 1),
                Some(from) => from + (self.base - from) * share(step),
            };
        }
        let t = step - self.warmup_steps;
        match self.decay {
            Decay::Constant => self.base,
            Decay::Step { every, gamma } => self.base * gamma.powf((t / every) as f64),
            Decay::Fall { form, last, total_steps } => {
                // Warm-up is shorter than the run (see `with_warmup`), so this is 1 or more.
                let main_steps = total_steps - self.warmup_steps;
                let share = t.min(main_steps) as f64 / main_steps as f64;
                last + (self.base - last) * form.left(share)
            }
        }
    }
}

fn checked(which: &'static str, value: f64) -> Result<f64, ScheduleError> {
    if value.is_finite() && value >= 0.0 {
        Ok(value)
    } else {
        Err(ScheduleError::LearningRate { which, value })
    }
}
