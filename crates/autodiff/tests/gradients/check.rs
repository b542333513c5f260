//! How a case is checked: against central differences, with some inputs held constant, and with inputs as parameters.

use std::collections::BTreeSet;

use vitrine_autodiff::{CustomOp, Error, Result, Tape, Var};
use vitrine_tensor::{Device, StreamKey, Tensor};
use vitrine_testkit::gradcheck;

type Function = Box<dyn Fn(&[Var]) -> Result<Var>>;

/// A function of `f64` tensors whose gradients are checked.
pub struct Case {
    /// The recorded operation that the case is for.
    pub op: &'static str,
    pub name: String,
    pub inputs: Vec<Tensor>,
    f: Function,
}

/// A case with standard normal inputs of these shapes.
pub fn case(
    op: &'static str,
    name: impl Into<String>,
    shapes: &[&[usize]],
    f: impl Fn(&[Var]) -> Result<Var> + 'static,
) -> Case {
    let inputs = shapes.iter().enumerate().map(|(i, shape)| normal(100 + i as u32, shape));
    Case { op, name: name.into(), inputs: inputs.collect(), f: Box::new(f) }
}

/// Standard normal values in `f64`.
pub fn normal(stream: u32, shape: &[usize]) -> Tensor {
    let key = StreamKey { seed: 5, step: 0, stream };
    let values = key.normal().take(shape.iter().product()).collect::<Vec<_>>();
    Tensor::from_slice(&values, shape, &Device::cpu()).unwrap()
}

/// Lengths, labels and the like.
pub fn integers(values: &[i64]) -> Tensor {
    Tensor::from_slice(values, &[values.len()], &Device::cpu()).unwrap()
}

/// What an input is on the tape.
#[derive(Clone, Copy, PartialEq)]
enum Role {
    Constant,
    Variable,
    Parameter,
}

/// What a parameter's gradient buffer holds before backward.
const BEFORE: f64 = 0.75;

/// The gradients of one run, and the operations it recorded.
struct Run {
    gradients: Vec<Option<Tensor>>,
    operations: String,
}

impl Case {
    /// Checks every gradient; gives the names of the operations that were recorded on the way.
    pub fn check(&self) -> std::result::Result<BTreeSet<String>, String> {
        let failed = |error: Error| error.to_string();
        let count = self.inputs.len();
        let all = self.run(|_| Role::Variable, None).map_err(failed)?;
        let gradients: Option<Vec<Tensor>> = all.gradients.iter().cloned().collect();
        let gradients = gradients.ok_or("an input got no gradient")?;
        let value = |inputs: &[Tensor]| {
            let tape = Tape::inference();
            let inputs: Vec<Var> = inputs.iter().map(|x| tape.constant(x.clone())).collect();
            self.loss(&inputs).map(Var::into_value).map_err(tensor_error)
        };
        gradcheck::check(value, &self.inputs, &gradients).map_err(|error| error.to_string())?;

        for alone in 0..count {
            for held in [true, false] {
                let role = |i| match (i == alone) == held {
                    true => Role::Constant,
                    false => Role::Variable,
                };
                if (0..count).all(|i| role(i) == Role::Constant) {
                    continue;
                }
                let run = self.run(role, None).map_err(failed)?;
                for (i, (found, expected)) in run.gradients.iter().zip(&gradients).enumerate() {
                    let expected = (role(i) == Role::Variable).then_some(expected);
                    if !close(found.as_ref(), expected, 0.0) {
                        return Err(format!(
                            "gradient of input {i} differs where input {alone} is apart (constant: {held})"
                        ));
                    }
                }
            }
        }
        let run = self.run(|_| Role::Parameter, None).map_err(failed)?;
        for (i, (found, expected)) in run.gradients.iter().zip(&gradients).enumerate() {
            if !close(found.as_ref(), Some(expected), BEFORE) {
                return Err(format!("gradient of input {i} differs where it is a parameter"));
            }
        }
        for changed in 0..count {
            // What was needed is missed; what was not changes nothing.
            match self.run(|_| Role::Variable, Some(changed)) {
                Err(Error::ChangedInPlace { .. }) => {}
                Err(other) => return Err(failed(other)),
                Ok(run) => {
                    let same = run.gradients.iter().zip(&gradients);
                    if !same.into_iter().all(|(found, g)| close(found.as_ref(), Some(g), 0.0)) {
                        return Err(format!(
                            "a write to input {changed} changed a gradient unseen"
                        ));
                    }
                }
            }
        }
        let names =
            all.operations.split(|c: char| !c.is_alphanumeric() && c != '_').map(str::to_owned);
        Ok(names.filter(|name| !name.is_empty() && name != "Tape").collect())
    }

    /// A scalar that weighs each element of the result differently, so that no two errors cancel in the sum.
    fn loss(&self, inputs: &[Var]) -> Result<Var> {
        let y = (self.f)(inputs)?;
        let weights = y.tape().constant(normal(99, y.shape()));
        y.mul(&weights)?.sum()
    }

    /// Gradients with inputs in these roles; one of them may be written to before backward.
    fn run(&self, role: impl Fn(usize) -> Role, changed: Option<usize>) -> Result<Run> {
        let tape = Tape::new();
        let (mut inputs, mut buffers) = (Vec::new(), Vec::new());
        for (i, x) in self.inputs.iter().enumerate() {
            let buffer = Tensor::full(x.shape(), BEFORE, x.dtype(), x.device())?;
            inputs.push(match role(i) {
                Role::Constant => tape.constant(x.copy()?),
                Role::Variable => tape.variable(x.copy()?),
                Role::Parameter => tape.parameter(x.copy()?, buffer.clone())?,
            });
            buffers.push(buffer);
        }
        let y = self.loss(&inputs)?;
        let operations = format!("{tape:?}");
        if let Some(i) = changed {
            inputs[i].value().fill_(1e3)?;
        }
        let gradients = tape.backward(&y)?;
        let found =
            inputs.iter().zip(buffers).enumerate().map(|(i, (input, buffer))| match role(i) {
                Role::Parameter => Some(buffer),
                Role::Constant | Role::Variable => gradients.get(input).cloned(),
            });
        Ok(Run { gradients: found.collect(), operations })
    }
}

/// The same within rounding, or both absent. `before` was in the buffer of the one found.
fn close(found: Option<&Tensor>, expected: Option<&Tensor>, before: f64) -> bool {
    match (found, expected) {
        (None, None) => true,
        (Some(found), Some(expected)) => {
            let (found_values, expected_values) =
                (found.to_vec::<f64>().unwrap(), expected.to_vec::<f64>().unwrap());
            let largest = expected_values.iter().fold(1.0, |top: f64, g| top.max(g.abs()));
            found.shape() == expected.shape()
                && found_values
                    .iter()
                    .zip(&expected_values)
                    .all(|(a, b)| (a - before - b).abs() <= 1e-13 * largest)
        }
        _ => false,
    }
}

fn tensor_error(error: Error) -> vitrine_tensor::Error {
    match error {
        Error::Tensor(error) => error,
        other => panic!("the function failed: {other}"),
    }
}

/// `y = x`, whose gradient is the very tensor that came in: the hardest one for code that adds in place.
pub struct PassThrough;

impl CustomOp for PassThrough {
    fn name(&self) -> &str {
        "pass through"
    }

    fn forward(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        Ok(inputs[0].clone())
    }

    fn backward(&self, _: &[Tensor], _: &Tensor, dy: &Tensor) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(dy.clone())])
    }
}

/// `y = a·b + a³`
pub struct ProductAndCube;

impl CustomOp for ProductAndCube {
    fn name(&self) -> &str {
        "product and cube"
    }

    fn forward(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let [a, b] = inputs else { panic!("two inputs are given") };
        Ok(a.mul(b)?.add(&a.mul(a)?.mul(a)?)?)
    }

    fn backward(&self, inputs: &[Tensor], _: &Tensor, dy: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let [a, b] = inputs else { panic!("two inputs are given") };
        let da = b.add(&a.mul(a)?.scale(3.0)?)?.mul(dy)?;
        Ok(vec![Some(da), Some(a.mul(dy)?)])
    }
}
