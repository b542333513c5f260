//! Steps of each optimizer, averages of weights, clipping by norm, and learning-rate schedules.

use serde_json::Value;
use vitrine_nn::schedule::{Form, Schedule};
use vitrine_nn::{
    AdamW, Ema, Init, Muon, Optimizer, ParameterBuilder, Parameters, Pass, ScheduleFreeAdamW, Sgd,
    clip_grad_norm,
};
use vitrine_tensor::{DType, Device};
use vitrine_testkit::golden::FOLDER;

use crate::file::Golden;

/// The file's parameters in one buffer. All are declared as weights: PyTorch's weight decay applies to everything.
fn parameters(golden: &Golden, names: &str) -> Parameters {
    let mut builder = ParameterBuilder::new(0);
    for name in golden.config()[names].as_array().unwrap() {
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
        let parameters = parameters(&golden, "parameters");
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

/// Twenty steps with a learning rate that changes, by the reference implementations of `make_optimizers.py`.
fn reference(dtype: DType, name: &str, names: &str, make: impl Fn(&Value) -> Box<dyn Optimizer>) {
    let golden = Golden::open("optimizers", dtype);
    let parameters = parameters(&golden, names);
    let mut optimizer = make(&golden.config()["optimizers"][name]);
    assert_eq!(steps(&golden), 20);
    for step in 0..20 {
        set_grads(&golden, &parameters, step);
        let rate = golden.config()["rates"][name][step].as_f64().unwrap();
        optimizer.step(&parameters, rate).unwrap();
        for (parameter, value) in parameters.named_values() {
            golden.compare_row(&format!("{name}.{parameter}"), step, &value.unwrap());
        }
    }
    let judged = optimizer.averaged(&parameters).unwrap();
    assert_eq!(judged.is_some(), name == "schedule_free");
    for (parameter, value) in judged.iter().flat_map(Parameters::named_values) {
        golden.compare_row(&format!("{name}.x.{parameter}"), 0, &value.unwrap());
    }
}

fn number(options: &Value, key: &str) -> f64 {
    options[key].as_f64().unwrap()
}

fn betas(options: &Value) -> [f64; 2] {
    [0, 1].map(|i| options["betas"][i].as_f64().unwrap())
}

#[test]
fn muon() {
    for dtype in [DType::F32, DType::F64] {
        for (name, parameters) in [("muon", "parameters"), ("muon_nesterov", "muon_nesterov")] {
            reference(dtype, name, parameters, |options| {
                let number = |key: &str| number(options, key);
                let ([beta1, beta2], eps) = (betas(options), number("eps"));
                let nesterov = options["nesterov"].as_bool().unwrap();
                let (momentum, decay) = (number("momentum"), number("weight_decay"));
                Box::new(Muon::new(momentum, nesterov, beta1, beta2, eps, decay).unwrap())
            });
        }
    }
}

#[test]
fn schedule_free_adamw() {
    for dtype in [DType::F32, DType::F64] {
        reference(dtype, "schedule_free", "parameters", |options| {
            let ([beta1, beta2], decay) = (betas(options), number(options, "weight_decay"));
            let eps = number(options, "eps");
            Box::new(ScheduleFreeAdamW::new(beta1, beta2, eps, decay).unwrap())
        });
    }
}

#[cfg(feature = "linalg")]
#[test]
fn soap() {
    for dtype in [DType::F32, DType::F64] {
        reference(dtype, "soap", "soap", |options| {
            let ([beta1, beta2], decay) = (betas(options), number(options, "weight_decay"));
            let whole = |key: &str| options[key].as_u64().unwrap();
            let (eps, every) = (number(options, "eps"), whole("precondition_frequency"));
            let longest = whole("max_precond_dim") as usize;
            Box::new(vitrine_nn::Soap::new(beta1, beta2, eps, decay, every, longest).unwrap())
        });
    }
}

#[test]
fn averages_of_weights_and_buffers() {
    for dtype in [DType::F32, DType::F64] {
        for (name, warm_up) in [("ema", false), ("ema_warm_up", true)] {
            let golden = Golden::open("optimizers", dtype);
            let mut builder = ParameterBuilder::new(0);
            let weight = builder.scope("").weight("weight", &[4, 3], &Init::ZEROS);
            let running = builder.scope("").buffer("running", &[5], 0.0);
            let parameters = builder.build(dtype, &Device::cpu()).unwrap();
            golden.load(&parameters, "", "moves.first");
            let sgd = Box::new(Sgd::new(0.0, false, 0.0).unwrap());
            let mut optimizer = Ema::new(sgd, 0.9, warm_up).unwrap();
            for step in 0..steps(&golden) {
                let row = |key: &str| golden.tensor(key).narrow(0, step, 1).unwrap();
                let grad = row("moves.weight").reshape(&[4, 3]).unwrap();
                parameters.grad(weight).unwrap().copy_(&grad).unwrap();
                let buffer = Pass::inference(&parameters).buffer(running).unwrap();
                buffer.add_scaled_(&row("moves.running").reshape(&[5]).unwrap(), 1.0).unwrap();
                optimizer.step(&parameters, 0.1).unwrap();
                let average = optimizer.averaged(&parameters).unwrap().unwrap();
                for (parameter, value) in average.named_values() {
                    golden.compare_row(&format!("{name}.{parameter}"), step, &value.unwrap());
                }
            }
        }
    }
}

fn clipping(dtype: DType) {
    let golden = Golden::open("optim", dtype);
    for (name, max_norm) in golden.config()["clip_max_norm"].as_object().unwrap() {
        let parameters = parameters(&golden, "parameters");
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
    let file: Value = serde_json::from_str(&text).unwrap();
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
