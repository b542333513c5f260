//! Optimizers beyond the golden files: what decays, and that their state is all there is to save.

use vitrine_nn::{AdamW, Init, Optimizer, ParameterBuilder, Parameters, Sgd, clip_grad_norm};
use vitrine_tensor::{DType, Device, Tensor};

/// A weight, a bias, a norm's scale and another weight.
fn parameters() -> Parameters {
    let mut builder = ParameterBuilder::new(9);
    let init = Init::Normal { std: 1.0 };
    builder.scope("a").weight("weight", &[3, 2], &init);
    builder.scope("a").vector("bias", &[3], &init, 2);
    builder.scope("norm").vector("weight", &[2], &init, 2);
    builder.scope("b").weight("weight", &[1, 2], &init);
    builder.build(DType::F64, &Device::cpu()).unwrap()
}

fn values(parameters: &Parameters) -> Vec<f64> {
    parameters.values().to_vec().unwrap()
}

fn set_grads(parameters: &Parameters, step: usize) {
    let grads: Vec<f64> = (0..parameters.count()).map(|i| ((i + 31 * step) as f64).sin()).collect();
    parameters.grads().unwrap().copy_from_slice_(&grads).unwrap();
}

const WEIGHTS: [std::ops::Range<usize>; 2] = [0..6, 11..13];

#[test]
fn weight_decay_is_for_weights_alone() {
    let (decay, rate) = (0.1, 0.5);
    let optimizers: [(Box<dyn Optimizer>, f64); 4] = [
        (Box::new(Sgd::new(0.0, false, decay).unwrap()), 1.0 - rate * decay),
        (Box::new(Sgd::new(0.9, true, decay).unwrap()), 1.0 - rate * 1.9 * decay),
        (Box::new(AdamW::new(0.9, 0.999, 1e-8, decay).unwrap()), 1.0 - rate * decay),
        (Box::new(Sgd::new(0.9, false, 0.0).unwrap()), 1.0),
    ];
    for (mut optimizer, factor) in optimizers {
        let parameters = parameters();
        let before = values(&parameters);
        // Without a gradient, only decay moves anything.
        optimizer.step(&parameters, rate).unwrap();
        for (i, (before, after)) in before.iter().zip(values(&parameters)).enumerate() {
            let decays = WEIGHTS.iter().any(|range| range.contains(&i));
            let expected = if decays { before * factor } else { *before };
            assert!((after - expected).abs() < 1e-15, "{} at {i}", optimizer.name());
        }
    }
}

fn make(kind: usize) -> Box<dyn Optimizer> {
    match kind {
        0 => Box::new(Sgd::new(0.0, false, 0.01).unwrap()),
        1 => Box::new(Sgd::new(0.9, true, 0.01).unwrap()),
        _ => Box::new(AdamW::new(0.9, 0.99, 1e-8, 0.05).unwrap()),
    }
}

#[test]
fn a_saved_and_restored_optimizer_goes_on_to_the_bit() {
    for kind in 0..3 {
        let straight = parameters();
        let mut optimizer = make(kind);
        for step in 0..6 {
            set_grads(&straight, step);
            optimizer.step(&straight, 0.1).unwrap();
        }

        let resumed = parameters();
        let mut optimizer = make(kind);
        for step in 0..6 {
            if step == 2 {
                let mut fresh = make(kind);
                let saved = optimizer.state(&resumed).unwrap();
                let to = fresh.state(&resumed).unwrap();
                let names =
                    |s: &[(&'static str, Tensor)]| s.iter().map(|(n, _)| *n).collect::<Vec<_>>();
                assert_eq!(names(&saved), names(&to));
                assert_eq!(saved.len(), kind, "no buffer, the velocity, two moments");
                for ((_, from), (_, to)) in saved.iter().zip(&to) {
                    assert_eq!(from.shape(), resumed.values().shape());
                    assert_eq!(to.to_vec::<f64>().unwrap(), vec![0.0; resumed.count()]);
                    to.copy_(from).unwrap();
                }
                fresh.set_steps(optimizer.steps());
                optimizer = fresh;
            }
            set_grads(&resumed, step);
            optimizer.step(&resumed, 0.1).unwrap();
        }
        assert_eq!(values(&straight), values(&resumed), "{}", optimizer.name());
        assert_eq!(optimizer.steps(), 6);
    }
}

#[test]
fn a_fresh_optimizer_would_go_another_way() {
    // The control of the test above: momentum and AdamW depend on their state, AdamW on its count of steps too.
    for (kind, keep_buffers) in [(1, false), (2, false), (2, true)] {
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
        vec![0.0; 13],
        "0/0 is not NaN"
    );
}
