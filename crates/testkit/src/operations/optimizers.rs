//! Optimizer updates, the norm of the gradient, and clipping.

use vitrine_tensor::backend::Optimizers;
use vitrine_tensor::{AdamWStep, DType, ParameterGroup, Result, SgdStep, Tensor};

use crate::case::Case;
use crate::compare::Comparison;
use crate::faulty::faults;
use crate::inputs::{Layout, Setup, random, rounded};
use crate::reference::{Sum, array};
use crate::sweep::{Axis, FLAT, Reach, over, pick};

/// What they mean, in plain `f64` loops.
pub mod reference {
    use vitrine_tensor::{AdamWStep, SgdStep};

    /// The new weight and velocity.
    pub fn sgd(weight: f64, grad: f64, velocity: f64, step: &SgdStep) -> (f64, f64) {
        let g = grad + step.weight_decay * weight;
        if step.momentum == 0.0 {
            return (weight - step.learning_rate * g, velocity);
        }
        let velocity = step.momentum * velocity + g;
        let direction = if step.nesterov { g + step.momentum * velocity } else { velocity };
        (weight - step.learning_rate * direction, velocity)
    }

    /// The new weight, first and second moment.
    pub fn adamw(weight: f64, grad: f64, m: f64, v: f64, step: &AdamWStep) -> (f64, f64, f64) {
        let decayed = weight - step.learning_rate * step.weight_decay * weight;
        let m = step.beta1 * m + (1.0 - step.beta1) * grad;
        let v = step.beta2 * v + (1.0 - step.beta2) * grad * grad;
        let corrected_m = m / (1.0 - step.beta1.powf(step.step as f64));
        let corrected_v = v / (1.0 - step.beta2.powf(step.step as f64));
        let weight =
            decayed - step.learning_rate * corrected_m / (corrected_v.sqrt() + step.epsilon);
        (weight, m, v)
    }

    /// The factor that gradients are scaled by.
    pub fn clip_factor(sum_squares: f64, max_norm: f64) -> f64 {
        (max_norm / (sum_squares.sqrt() + 1e-6)).min(1.0)
    }
}

/// Lengths of the flat buffers; 40,000 makes several blocks.
const LENGTHS: [usize; 5] = [0, 1, 7, 1000, 40_000];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for n in LENGTHS {
        for (momentum, nesterov, weight_decay) in [
            (0.0, false, 0.0),
            (0.0, false, 0.1),
            (0.9, false, 0.0),
            (0.9, true, 0.0),
            (0.9, true, 0.05),
        ] {
            let step = SgdStep { learning_rate: 0.1, momentum, nesterov, weight_decay };
            cases.push(Case::new("sgd", format!("{n}, {step:?}"), move |s| sgd(s, n, &step, &[])));
            for (what, groups) in groups(n) {
                cases.push(Case::new("sgd", format!("{n} with {what}, {step:?}"), move |s| {
                    sgd(s, n, &step, &groups)
                }));
            }
        }
        for (step, weight_decay) in [(1, 0.0), (1, 0.05), (2, 0.05), (1000, 0.05)] {
            let (beta1, beta2, epsilon) = (0.9, 0.999, 1e-8);
            let step = AdamWStep { learning_rate: 1e-2, beta1, beta2, epsilon, weight_decay, step };
            cases.push(Case::new("adamw", format!("{n}, {step:?}"), move |s| {
                adamw(s, n, &step, &[])
            }));
            for (what, groups) in groups(n) {
                cases.push(Case::new("adamw", format!("{n} with {what}, {step:?}"), move |s| {
                    adamw(s, n, &step, &groups)
                }));
            }
        }
        for layout in [Layout::Dense, Layout::Offset, Layout::Narrowed] {
            let name = format!("{n}, {layout:?}");
            cases.push(Case::new("sum_squares", name, move |s| sum_squares(s, n, layout, 1.0)));
        }
        for (max_norm, what) in [(0.5, "clipped"), (1e6, "left alone")] {
            let name = format!("{n}, {what}");
            cases.push(Case::new("clip_norm", name, move |s| clip_norm(s, n, max_norm, 1.0)));
        }
    }
    // Their squares are beyond `f32`, their norm is not.
    cases.push(Case::new("sum_squares", "large", |s| sum_squares(s, 1000, Layout::Dense, 1e30)));
    cases.push(Case::new("clip_norm", "large", |s| clip_norm(s, 1000, 0.5, 1e30)));
    cases.push(Case::new("sgd", "three steps with momentum", three_steps));
    cases
}

/// Groups at the start of a buffer, of single elements, of none, and up to the end.
fn groups(n: usize) -> [(&'static str, Vec<ParameterGroup>); 2] {
    let at = |share: usize| n * share / 8;
    let ranges =
        [0..at(1), at(2)..at(2) + usize::from(n > 8), at(3)..at(3), at(4)..at(5), at(7)..n];
    let groups = ranges.map(ParameterGroup::plain);
    let undecayed = groups.clone().map(|group| ParameterGroup { decay: false, ..group });
    let mut mixed = groups;
    (mixed[0].rate_scale, mixed[0].decay) = (0.0, false);
    mixed[1].frozen = true;
    mixed[3].frozen = true;
    mixed[4].rate_scale = 0.3;
    [("parts without decay", undecayed.into()), ("scaled and frozen parts", mixed.into())]
}

/// The group of an element.
fn group_of(i: usize, groups: &[ParameterGroup]) -> ParameterGroup {
    let group = groups.iter().find(|group| group.range.contains(&i));
    group.cloned().unwrap_or(ParameterGroup::plain(0..0))
}

fn sum_squares(s: &Setup, n: usize, layout: Layout, scale: f64) -> Result<Vec<Comparison>> {
    let x = s.placed(&(random(1, &[n]) * scale), layout)?;
    let expected = array(&[], vec![x.values.mapv(|v| v * v).sum()]);
    let sum = Sum { terms: expected.clone(), value: expected };
    Ok(vec![Comparison::of_sum("sum", &x.tensor.sum_squares()?, &sum)?])
}

fn clip_norm(s: &Setup, n: usize, max_norm: f64, scale: f64) -> Result<Vec<Comparison>> {
    let x = s.destination_of(&(random(1, &[n]) * scale))?;
    let squares = x.before.mapv(|v| v * v).sum();
    let squares = s.placed_as(&array(&[], vec![squares]), Layout::Offset, DType::F64)?;
    let factor = reference::clip_factor(squares.values.sum(), max_norm);
    x.tensor.clip_norm_(&squares.tensor, max_norm)?;
    Ok(vec![x.compare("x", &(&x.before * factor))?])
}

fn sgd(s: &Setup, n: usize, step: &SgdStep, groups: &[ParameterGroup]) -> Result<Vec<Comparison>> {
    let (w, v, g) = (s.destination(1, &[n])?, s.destination(2, &[n])?, s.normal(3, &[n])?);
    let moving = step.momentum != 0.0;
    w.tensor.sgd_(&g.tensor, moving.then_some(&v.tensor), step, groups)?;
    let (mut new_w, mut new_v, mut terms) = (w.before.clone(), v.before.clone(), v.before.clone());
    for i in 0..n {
        let (weight, velocity, grad) = (w.before[[i]], v.before[[i]], g.values[[i]]);
        let group = group_of(i, groups);
        if group.frozen {
            continue;
        }
        let step = SgdStep {
            learning_rate: step.learning_rate * group.rate_scale,
            weight_decay: if group.decay { step.weight_decay } else { 0.0 },
            ..*step
        };
        (new_w[[i]], new_v[[i]]) = reference::sgd(weight, grad, velocity, &step);
        terms[[i]] = weight.abs() + velocity.abs() + grad.abs();
    }
    let added = |before: &_, new: &_| Sum { value: new - before, terms: terms.clone() };
    Ok(vec![
        w.compare_added("weights", &added(&w.before, &new_w))?,
        v.compare_added("velocity", &added(&v.before, &new_v))?,
    ])
}

fn adamw(
    s: &Setup,
    n: usize,
    step: &AdamWStep,
    groups: &[ParameterGroup],
) -> Result<Vec<Comparison>> {
    let (w, m, g) = (s.destination(1, &[n])?, s.destination(2, &[n])?, s.normal(3, &[n])?);
    let v = s.destination_of(&random(4, &[n]).mapv(|v| v * v))?;
    w.tensor.adamw_(&g.tensor, &m.tensor, &v.tensor, step, groups)?;
    let mut new = [w.before.clone(), m.before.clone(), v.before.clone()];
    let mut terms = [(); 3].map(|()| w.before.mapv(f64::abs));
    for i in 0..n {
        let (weight, grad) = (w.before[[i]], g.values[[i]]);
        let (first, second) = (m.before[[i]], v.before[[i]]);
        let group = group_of(i, groups);
        if group.frozen {
            continue;
        }
        let step = AdamWStep {
            learning_rate: step.learning_rate * group.rate_scale,
            weight_decay: if group.decay { step.weight_decay } else { 0.0 },
            ..*step
        };
        let (a, b, c) = reference::adamw(weight, grad, first, second, &step);
        for (new, value) in new.iter_mut().zip([a, b, c]) {
            new[[i]] = value;
        }
        // The update divides by the root of the second moment, and so do its rounding errors.
        let moment = first.abs() + grad.abs();
        terms[0][[i]] += (a - weight).abs() + moment * (a - weight).abs() / b.abs().max(1e-3);
        terms[1][[i]] = moment;
        terms[2][[i]] = second + grad * grad;
    }
    let buffers = [("weights", &w), ("first moment", &m), ("second moment", &v)];
    let compared = buffers.into_iter().zip(new.iter().zip(&terms));
    compared
        .map(|((output, buffer), (new, terms))| {
            let sum = Sum { value: new - &buffer.before, terms: terms.clone() };
            buffer.compare_added(output, &sum)
        })
        .collect()
}

fn three_steps(s: &Setup) -> Result<Vec<Comparison>> {
    let step = SgdStep { learning_rate: 0.1, momentum: 0.9, nesterov: true, weight_decay: 0.01 };
    let (w, g) = (s.destination(1, &[50])?, s.normal(2, &[50])?);
    let v = s.destination_of(&crate::reference::zeros(&[50]))?;
    let (mut weights, mut velocities) = (w.before.clone(), v.before.clone());
    for _ in 0..3 {
        w.tensor.sgd_(&g.tensor, Some(&v.tensor), &step, &[])?;
        for i in 0..50 {
            let (weight, velocity) =
                reference::sgd(weights[[i]], g.values[[i]], velocities[[i]], &step);
            // The state is stored in the element type after each step.
            weights[[i]] = rounded(weight, s.dtype);
            velocities[[i]] = rounded(velocity, s.dtype);
        }
    }
    // One rounding that falls on the other side moves a stored value by a unit in the last place.
    let terms = w.before.mapv(|w| w.abs() + 1.0);
    let sum = |before: &_, after: &_| Sum { value: after - before, terms: terms.clone() };
    Ok(vec![
        w.compare_added("weights", &sum(&w.before, &weights))?,
        v.compare_added("velocity", &sum(&v.before, &velocities))?,
    ])
}

/// The same at many sizes.
pub(super) fn sweep(reach: Reach) -> Vec<Case> {
    let axes = [Axis::new(&[1], FLAT)];
    let groups = |n, turn: usize| match turn % 3 {
        0 => Vec::new(),
        turn => groups(n)[turn - 1].1.clone(),
    };
    let mut cases = over(reach, "sgd", &axes, move |s, [n], turn| {
        let (momentum, nesterov) = pick(turn, &[(0.0, false), (0.9, false), (0.9, true)]);
        let step = SgdStep { learning_rate: 0.1, momentum, nesterov, weight_decay: 0.05 };
        sgd(s, n, &step, &groups(n, turn / 3))
    });
    cases.extend(over(reach, "adamw", &axes, move |s, [n], turn| {
        let (beta1, beta2, epsilon) = (0.9, 0.999, 1e-8);
        let (learning_rate, weight_decay, step) = (1e-2, 0.05, 1 + turn as u64);
        let step = AdamWStep { learning_rate, beta1, beta2, epsilon, weight_decay, step };
        adamw(s, n, &step, &groups(n, turn))
    }));
    cases.extend(over(reach, "sum_squares", &axes, |s, [n], turn| {
        sum_squares(s, n, pick(turn, &Layout::ALL), 1.0)
    }));
    cases.extend(over(reach, "clip_norm", &axes, |s, [n], turn| {
        clip_norm(s, n, pick(turn, &[0.5, 1e6]), 1.0)
    }));
    cases
}

faults! {
    Optimizers {
        sgd(
            parameters: &Tensor, grads: &Tensor, velocity: Option<&Tensor>, step: &SgdStep,
            groups: &[ParameterGroup]
        ) writes [Some(parameters), velocity];
        adamw(
            parameters: &Tensor, grads: &Tensor, first_moment: &Tensor, second_moment: &Tensor,
            step: &AdamWStep, groups: &[ParameterGroup]
        ) writes [Some(parameters), Some(first_moment), Some(second_moment)];
        sum_squares(x: &Tensor, to: &Tensor) writes [Some(to)];
        clip_norm(x: &Tensor, sum_squares: &Tensor, max_norm: f64) writes [Some(x)];
    }
}
