//! Learning-rate schedules: the learning rate of each optimizer step, as a function of the step
//! alone. There is no state to save: a resumed run asks for the step that it is at.
//!
//! Every schedule may begin with a linear warm-up (Goyal et al. 2017, "Accurate, Large Minibatch
//! SGD", section 2.2). With `w` warm-up steps, step `t < w` has the learning rate
//! `base · (t + 1) / w`; from step `w` on the main schedule runs, counted from `w`.

use std::f64::consts::PI;

use thiserror::Error;

/// The learning rate over a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    base: f64,
    warmup_steps: u64,
    decay: Decay,
}

/// What comes after warm-up.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Decay {
    Constant,
    Step { every: u64, gamma: f64 },
    Cosine { last: f64, total_steps: u64 },
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
    /// Nothing of a cosine is left after warm-up.
    #[error(
        "schedule: {warmup_steps} warm-up steps leave nothing of {total_steps} steps for the cosine"
    )]
    WarmupTooLong { warmup_steps: u64, total_steps: u64 },
}

impl Schedule {
    /// The same learning rate at every step.
    pub fn constant(learning_rate: f64) -> Result<Self, ScheduleError> {
        let base = checked("first", learning_rate)?;
        Ok(Self { base, warmup_steps: 0, decay: Decay::Constant })
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
        Ok(Self { base, warmup_steps: 0, decay: Decay::Step { every, gamma } })
    }

    /// Half a cosine from `learning_rate` down to `last` (Loshchilov & Hutter 2017, "SGDR",
    /// equation 5): `last + (learning_rate − last) · 0.5 · (1 + cos(π t / T))`. `T` is
    /// `total_steps` less warm-up. From `total_steps` on, the learning rate is `last`.
    pub fn cosine(learning_rate: f64, last: f64, total_steps: u64) -> Result<Self, ScheduleError> {
        let base = checked("first", learning_rate)?;
        let last = checked("final", last)?;
        let schedule = Self { base, warmup_steps: 0, decay: Decay::Cosine { last, total_steps } };
        schedule.with_warmup(0)
    }

    /// The same schedule behind so many steps of linear warm-up; 0 for none.
    pub fn with_warmup(self, warmup_steps: u64) -> Result<Self, ScheduleError> {
        match self.decay {
            Decay::Cosine { total_steps, .. } if warmup_steps >= total_steps => {
                Err(ScheduleError::WarmupTooLong { warmup_steps, total_steps })
            }
            _ => Ok(Self { warmup_steps, ..self }),
        }
    }

    /// The learning rate of an optimizer step, counted from 0.
    pub fn learning_rate(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return self.base * ((step + 1) as f64 / self.warmup_steps as f64);
        }
        let t = step - self.warmup_steps;
        match self.decay {
            Decay::Constant => self.base,
            Decay::Step { every, gamma } => self.base * gamma.powf((t / every) as f64),
            Decay::Cosine { last, total_steps } => {
                // Warm-up is shorter than the run (see `with_warmup`), so this is 1 or more.
                let main_steps = total_steps - self.warmup_steps;
                let progress = t.min(main_steps) as f64 / main_steps as f64;
                last + (self.base - last) * (0.5 * (1.0 + (PI * progress).cos()))
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
