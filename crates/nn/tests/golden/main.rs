//! Layers, loss, optimizers and schedules against what PyTorch computes (`crates/testkit/golden`), in `f32` and `f64`.

mod file;
mod layers;
mod optimizers;
