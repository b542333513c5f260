//! Five steps of each optimizer, clipping by norm, and learning-rate schedules.

use vitrine_nn::schedule::{Form, Schedule};
use vitrine_nn::{AdamW, Init, Optimizer, ParameterBuilder, Parameters, Sgd, clip_grad_norm};
use vitrine_tensor::{DType, Device};
use vitrine_testkit::golden::FOLDER;

use crate::file::Golden;

/// The file's parameters in one buffer. All are declared as weights: PyTorch's weight decay applies to everything.
fn parameters(golden: &Golden) -> Parameters {
    let mut builder = ParameterBuilder::new(0);
    for name in golden.config()["parameters"].as_array().unwrap() {
        let name = name.as_str().unwrap();
        let shape = golden.tensor(&format!("initial.{name}")).shape().to_vec();
        builder.scope("").weight(name, &shape, &Init::ZEROS);
    }
    let parameters = builder.build(golden.dtype, &Device::cpu()).unwrap();
    golden.load(&parameters, "", "initial");
    parameters
}

fn set_grads(golden: &Golden, parameters: &Parameters, step: usize) {
    for name in parameters.names() {
        let grad = parameters.grad(parameters.find(name).unwrap()).unwrap();
        let row = golden.tensor(&format!("grads.{name}")).narrow(0, step, 1).unwrap();
        grad.copy_(&row.reshape(grad.shape()).unwrap()).unwrap();
    }
}

fn optimizer(golden: &Golden, name: &str) -> (Box<dyn Optimizer>, f64) {
    let options = &golden.config()["optimizers"][name];
    let option = |key: &str| options[key].as_f64().unwrap_or(0.0);
    let optimizer: Box<dyn Optimizer> = if name.starts_with("adamw") {
        let beta = |i: usize| options["betas"][i].as_f64().unwrap();
        let made = AdamW::new(beta(0), beta(1), option("eps"), option("weight_decay"));
        Box::new(made.unwrap())
    } else {
        let nesterov = options["nesterov"].as_bool().unwrap_or(false);
        Box::new(Sgd::new(option("momentum"), nesterov, option("weight_decay")).unwrap())
    };
    (optimizer, option("lr"))
}

fn steps(golden: &Golden) -> usize {
    golden.config()["steps"].as_u64().unwrap() as usize
}

fn every_optimizer(dtype: DType) {
    let golden = Golden::open("optim", dtype);
    let names = golden.config()["optimizers"].as_object().unwrap();
    assert_eq!(names.len(), 6);
    for name in names.keys() {
        let parameters = parameters(&golden);
        let (mut optimizer, learning_rate) = optimizer(&golden, name);
        for step in 0..steps(&golden) {
            set_grads(&golden, &parameters, step);
            optimizer.step(&parameters, learning_rate).unwrap();
            for (parameter, value) in parameters.named_values() {
                golden.compare_row(&format!("{name}.{parameter}"), step, &value.unwrap());
            }
        }
        assert_eq!(optimizer.steps(), 5);
    }
}

fn clipping(dtype: DType) {
    let golden = Golden::open("optim", dtype);
    for (name, max_norm) in golden.config()["clip_max_norm"].as_object().unwrap() {
        let parameters = parameters(&golden);
        set_grads(&golden, &parameters, 0);
        let sum_squares = clip_grad_norm(&parameters, max_norm.as_f64().unwrap()).unwrap();
        let norm = sum_squares.to_scalar().unwrap().sqrt();
        let expected = golden.tensor(&format!("{name}.norm")).to_scalar().unwrap();
        let relative = if dtype == DType::F64 { 1e-7 } else { 1.3e-6 };
        assert!((norm - expected).abs() <= relative * expected, "{norm} {expected}");
        golden.compare_grads(&parameters, "", name);
        // PyTorch gives the norm before clipping; that after it is what was asked for.
        let after = parameters.grad_sum_squares().unwrap().to_scalar().unwrap().sqrt();
        assert!(after <= max_norm.as_f64().unwrap().min(expected * (1.0 + relative)));
    }
}

#[test]
fn every_optimizer_in_f32() {
    every_optimizer(DType::F32);
}

#[test]
fn every_optimizer_in_f64() {
    every_optimizer(DType::F64);
}

#[test]
fn clipping_in_f32() {
    clipping(DType::F32);
}

#[test]
fn clipping_in_f64() {
    clipping(DType::F64);
}

#[test]
fn schedules() {
    let text = std::fs::read_to_string(format!("{FOLDER}/schedule.json")).unwrap();
    let file: serde_json::Value = serde_json::from_str(&text).unwrap();
    let multipliers = file["multipliers"].as_object().unwrap();
    assert_eq!(multipliers.len(), 4);
    for base in [1.0, 0.3] {
        for (name, multipliers) in multipliers {
            let schedule = match name.as_str() {
                "constant" => Schedule::constant(base),
                "step" => Schedule::step(base, 5, 0.1),
                "cosine" => Schedule::falling(Form::Cosine, base, 0.0, 20),
                "warmup_cosine" => Schedule::falling(Form::Cosine, base, 0.0, 20)
                    .and_then(|s| s.with_warmup(5, None)),
                other => panic!("schedule {other}"),
            };
            let schedule = schedule.unwrap();
            let multipliers = multipliers.as_array().unwrap();
            assert_eq!(multipliers.len(), 20);
            for (step, multiplier) in multipliers.iter().enumerate() {
                let (rate, expected) =
                    (schedule.learning_rate(step as u64), base * multiplier.as_f64().unwrap());
                assert!(
                    (rate - expected).abs() <= 1e-12 * expected + 1e-16,
                    "{name}, step {step}: {rate}, expected {expected}"
                );
            }
        }
    }
}
