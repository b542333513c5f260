//! SGD and AdamW one number at a time, as PyTorch's pages write the algorithms; and clipping by norm.

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
    let weight = decayed - step.learning_rate * corrected_m / (corrected_v.sqrt() + step.epsilon);
    (weight, m, v)
}

/// The factor that gradients are scaled by.
pub fn clip_factor(sum_squares: f64, max_norm: f64) -> f64 {
    (max_norm / (sum_squares.sqrt() + 1e-6)).min(1.0)
}
