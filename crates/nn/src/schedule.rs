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
pub enum ScheduleError {
    /// A learning rate is negative, NaN or infinite.
    #[error(
        "schedule: the {which} learning rate is {value}; it must be a finite number, 0 or more"
    )]
    LearningRate {
        /// Which one: `first` or `final`.
        which: &'static str,
        /// Its value.
        value: f64,
    },
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
    WarmupTooLong {
        /// Steps of warm-up.
        warmup_steps: u64,
        /// Steps of the whole run.
        total_steps: u64,
    },
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

#[cfg(test)]
mod tests {
    use super::*;

    fn close(value: f64, expected: f64) {
        assert!((value - expected).abs() <= 1e-15 * expected.abs().max(1e-3), "{value} {expected}");
    }

    #[test]
    fn constant_is_constant() {
        let schedule = Schedule::constant(0.1).unwrap();
        for step in [0, 1, 469, u64::MAX] {
            assert_eq!(schedule.learning_rate(step), 0.1);
        }
    }

    #[test]
    fn warmup_climbs_to_the_base_at_its_last_step() {
        let schedule = Schedule::constant(0.8).unwrap().with_warmup(4).unwrap();
        for (step, rate) in [(0, 0.2), (1, 0.4), (2, 0.6), (3, 0.8), (4, 0.8), (1000, 0.8)] {
            close(schedule.learning_rate(step), rate);
        }
    }

    #[test]
    fn step_multiplies_at_each_multiple_counted_from_the_end_of_warmup() {
        let schedule = Schedule::step(1.0, 10, 0.5).unwrap();
        for (step, rate) in [(0, 1.0), (9, 1.0), (10, 0.5), (19, 0.5), (20, 0.25), (30, 0.125)] {
            close(schedule.learning_rate(step), rate);
        }
        let warm = schedule.with_warmup(5).unwrap();
        for (step, rate) in [(4, 1.0), (5, 1.0), (14, 1.0), (15, 0.5), (25, 0.25)] {
            close(warm.learning_rate(step), rate);
        }
        // So many reductions that nothing is left must not turn into NaN.
        assert_eq!(schedule.learning_rate(u64::MAX), 0.0);
    }

    #[test]
    fn cosine_passes_the_points_that_can_be_worked_out_by_hand() {
        // cos(0), cos(π/3), cos(π/2), cos(2π/3), cos(π).
        let schedule = Schedule::cosine(1.0, 0.0, 12).unwrap();
        for (step, rate) in [(0, 1.0), (4, 0.75), (6, 0.5), (8, 0.25), (12, 0.0), (99, 0.0)] {
            close(schedule.learning_rate(step), rate);
        }
        let schedule = Schedule::cosine(0.5, 0.1, 12).unwrap();
        for (step, rate) in [(0, 0.5), (4, 0.4), (6, 0.3), (8, 0.2), (12, 0.1), (u64::MAX, 0.1)] {
            close(schedule.learning_rate(step), rate);
        }
    }

    #[test]
    fn cosine_after_warmup_spans_the_remaining_steps() {
        let schedule = Schedule::cosine(1.0, 0.0, 16).unwrap().with_warmup(4).unwrap();
        for (step, rate) in
            [(0, 0.25), (3, 1.0), (4, 1.0), (8, 0.75), (10, 0.5), (12, 0.25), (16, 0.0)]
        {
            close(schedule.learning_rate(step), rate);
        }
        let falls = (4..16).all(|t| schedule.learning_rate(t + 1) < schedule.learning_rate(t));
        assert!(falls);
    }

    #[test]
    fn senseless_schedules_are_refused() {
        for rate in [-0.1, f64::NAN, f64::INFINITY] {
            let error = Schedule::constant(rate).unwrap_err();
            assert!(matches!(error, ScheduleError::LearningRate { which: "first", .. }));
            assert!(Schedule::step(rate, 1, 0.1).is_err());
            assert!(Schedule::cosine(rate, 0.0, 10).is_err());
            let error = Schedule::cosine(0.1, rate, 10).unwrap_err();
            assert!(matches!(error, ScheduleError::LearningRate { which: "final", .. }));
        }
        assert_eq!(Schedule::step(0.1, 0, 0.1), Err(ScheduleError::NoSteps));
        for gamma in [0.0, -1.0, 1.5, f64::NAN] {
            assert!(matches!(Schedule::step(0.1, 1, gamma), Err(ScheduleError::Gamma(_))));
        }
        let too_long = ScheduleError::WarmupTooLong { warmup_steps: 10, total_steps: 10 };
        let cosine = Schedule::cosine(0.1, 0.0, 10).unwrap();
        assert_eq!(cosine.with_warmup(10), Err(too_long.clone()));
        assert!(cosine.with_warmup(9).is_ok());
        assert!(too_long.to_string().contains("10 warm-up steps leave nothing of 10 steps"));
        assert!(Schedule::cosine(0.1, 0.0, 0).is_err());
    }
}
