//! Optimizers beyond the golden files: what decays, and that their state is all there is to save.

use vitrine_nn::{
    AdamW, Ema, Init, Muon, Optimizer, ParameterBuilder, Parameters, ScheduleFreeAdamW, Sgd,
    clip_grad_norm,
};
use vitrine_tensor::{DType, Device};

/// A weight, a bias, a norm's scale and another weight.
fn parameters() -> Parameters {
    let mut builder = ParameterBuilder::new(9);
    let init = Init::Normal { std: 1.0 };
    builder.scope("a").weight("weight", &[5, 4], &init);
    builder.scope("a").vector("bias", &[3], &init, 2);
    builder.scope("norm").vector("weight", &[2], &init, 2);
    builder.scope("b").weight("weight", &[1, 2], &init);
    builder.scope("c").weight("weight", &[4, 4], &init);
    builder.scope("d").weight("weight", &[4, 5], &init);
    builder.build(DType::F64, &Device::cpu()).unwrap()
}

fn values(parameters: &Parameters) -> Vec<f64> {
    parameters.values().to_vec().unwrap()
}

fn set_grads(parameters: &Parameters, step: usize) {
    let grads: Vec<f64> = (0..parameters.count()).map(|i| ((i + 31 * step) as f64).sin()).collect();
    parameters.grads().unwrap().copy_from_slice_(&grads).unwrap();
}

const WEIGHTS: [std::ops::Range<usize>; 2] = [0..20, 25..63];

/// Each optimizer, by its number.
fn make(kind: usize) -> Option<Box<dyn Optimizer>> {
    Some(match kind {
        0 => Box::new(Sgd::new(0.0, false, 0.1).unwrap()),
        1 => Box::new(Sgd::new(0.9, true, 0.1).unwrap()),
        2 => Box::new(AdamW::new(0.9, 0.99, 1e-8, 0.1).unwrap()),
        3 => Box::new(ScheduleFreeAdamW::new(0.9, 0.99, 1e-8, 0.1).unwrap()),
        4 => Box::new(Muon::new(0.9, true, 0.9, 0.95, 1e-8, 0.1).unwrap()),
        5 => Box::new(Ema::new(Box::new(Sgd::new(0.9, false, 0.1).unwrap()), 0.9, true).unwrap()),
        #[cfg(feature = "linalg")]
        6 => Box::new(vitrine_nn::Soap::new(0.9, 0.95, 1e-8, 0.1, 2, 100).unwrap()),
        // With both sides too long, and with the rows alone.
        #[cfg(feature = "linalg")]
        7 => Box::new(vitrine_nn::Soap::new(0.9, 0.95, 1e-8, 0.1, 2, 3).unwrap()),
        #[cfg(feature = "linalg")]
        8 => Box::new(vitrine_nn::Soap::new(0.9, 0.95, 1e-8, 0.1, 2, 4).unwrap()),
        _ => return None,
    })
}

#[test]
fn weight_decay_is_for_weights_alone() {
    let (decay, rate) = (0.1, 0.5);
    for (kind, mut optimizer) in (0..).map_while(make).enumerate() {
        let parameters = parameters();
        if optimizer.name() == "soap" {
            // Its first step changes nothing.
            optimizer.step(&parameters, rate).unwrap();
        }
        let before = values(&parameters);
        // Without a gradient, only decay moves anything.
        optimizer.step(&parameters, rate).unwrap();
        let factor = if kind == 1 { 1.0 - rate * 1.9 * decay } else { 1.0 - rate * decay };
        for (i, (before, after)) in before.iter().zip(values(&parameters)).enumerate() {
            let decays = WEIGHTS.iter().any(|range| range.contains(&i));
            let expected = if decays { before * factor } else { *before };
            assert!((after - expected).abs() < 1e-15, "{} at {i}", optimizer.name());
        }
    }
}

#[test]
fn what_is_frozen_stays_and_a_rate_scale_of_nothing_too() {
    for mut optimizer in (0..).map_while(make) {
        let mut parameters = parameters();
        parameters.regroup(|name, group| {
            group.frozen = name.starts_with("a.");
            let stays = ["norm.weight", "c.weight"].contains(&name);
            group.rate_scale = if stays { 0.0 } else { 1.0 };
        });
        let before = values(&parameters);
        for step in 0..4 {
            set_grads(&parameters, step);
            optimizer.step(&parameters, 0.1).unwrap();
        }
        let after = values(&parameters);
        for (i, (before, after)) in before.iter().zip(&after).enumerate() {
            let stays = i < 25 || (27..43).contains(&i);
            assert_eq!(before == after, stays, "{} at {i}", optimizer.name());
        }
    }
}

/// Puts a fresh optimizer with what a checkpoint holds in the place of one.
fn resumed(kind: usize, mut optimizer: Box<dyn Optimizer>, of: &Parameters) -> Box<dyn Optimizer> {
    let mut fresh = make(kind).unwrap();
    let (saved, to) = (optimizer.state(of).unwrap(), fresh.state(of).unwrap());
    assert_eq!(saved.len(), to.len());
    for ((name, from), (other, to)) in saved.iter().zip(&to) {
        assert_eq!((name, from.shape()), (other, to.shape()));
        to.copy_(from).unwrap();
    }
    fresh.set_steps(optimizer.steps());
    fresh
}

#[test]
fn a_saved_and_restored_optimizer_goes_on_to_the_bit() {
    for kind in (0..).take_while(|&kind| make(kind).is_some()) {
        let run = |resumes: &[usize]| {
            let (parameters, mut optimizer) = (parameters(), make(kind).unwrap());
            for step in 0..6 {
                if resumes.contains(&step) {
                    optimizer = resumed(kind, optimizer, &parameters);
                }
                set_grads(&parameters, step);
                optimizer.step(&parameters, 0.1).unwrap();
            }
            assert_eq!(optimizer.steps(), 6);
            let judged = optimizer.averaged(&parameters).unwrap();
            (values(&parameters), judged.as_ref().map(values))
        };
        assert_eq!(run(&[]), run(&[0, 1, 2, 5]), "{}", make(kind).unwrap().name());
    }
}

#[test]
fn a_fresh_optimizer_would_go_another_way() {
    // The control of the test above: momentum and AdamW depend on their state, AdamW on its count of steps too.
    for (kind, keep_buffers) in [(1, false), (2, false), (2, true)] {
        let make = |kind| make(kind).unwrap();
        let run = |forget: bool| {
            let parameters = parameters();
            let mut optimizer = make(kind);
            for step in 0..4 {
                if step == 2 && forget {
                    let mut fresh = make(kind);
                    if keep_buffers {
                        let saved = optimizer.state(&parameters).unwrap();
                        for ((_, from), (_, to)) in
                            saved.iter().zip(fresh.state(&parameters).unwrap())
                        {
                            to.copy_(from).unwrap();
                        }
                    }
                    optimizer = fresh;
                }
                set_grads(&parameters, step);
                optimizer.step(&parameters, 0.1).unwrap();
            }
            values(&parameters)
        };
        assert_ne!(run(true), run(false));
    }
}

#[test]
fn clipping_leaves_a_small_gradient_alone() {
    let parameters = parameters();
    set_grads(&parameters, 0);
    let before = parameters.grads().unwrap().to_vec::<f64>().unwrap();
    let norm = before.iter().map(|g| g * g).sum::<f64>().sqrt();
    clip_grad_norm(&parameters, norm * 1.01).unwrap();
    assert_eq!(parameters.grads().unwrap().to_vec::<f64>().unwrap(), before);
    let given = clip_grad_norm(&parameters, norm / 4.0).unwrap().to_scalar().unwrap().sqrt();
    assert!((given - norm).abs() < 1e-12, "the norm before is given");
    for (before, after) in before.iter().zip(parameters.grads().unwrap().to_vec::<f64>().unwrap()) {
        assert!((after - before / 4.0).abs() < 1e-6);
    }
    parameters.zero_grads().unwrap();
    clip_grad_norm(&parameters, 1.0).unwrap();
    assert_eq!(
        parameters.grads().unwrap().to_vec::<f64>().unwrap(),
        vec![0.0; 63],
        "0/0 is not NaN"
    );
}
