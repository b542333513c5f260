//! Graphs drawn at random: whatever a person wires together, gradients agree with central differences.

use vitrine_autodiff::{Result, Var};
use vitrine_tensor::{Activation, Epilogue, StreamKey};

use crate::check::{Case, PassThrough, case};
use crate::linear::mask;

const SHAPE: [usize; 2] = [3, 4];

/// Numbers that say which operation takes which of the values so far.
struct Choices(Vec<f64>);

impl Choices {
    fn next(&mut self, below: usize) -> usize {
        (self.0.pop().expect("enough numbers were drawn") * below as f64) as usize
    }
}

/// Adds 14 operations of shape [3, 4]; the inputs are two of that shape and a weight [4, 4].
fn wire(seed: u64, x: &[Var]) -> Result<Var> {
    let mut choices = Choices(StreamKey { seed, step: 9, stream: 0 }.uniform().take(200).collect());
    let weight = &x[2];
    let mut values = vec![x[0].clone(), x[1].clone()];
    for step in 0..14 {
        // Near the last ones, so that the graph is deep, and any one, so that values are shared.
        let recent = values.len() - 1 - choices.next(values.len().min(3));
        let (a, b) = (values[recent].clone(), values[choices.next(values.len())].clone());
        let linear = Epilogue { residual: Some(&b), ..Default::default() };
        let y = match choices.next(12) {
            0 => a.add(&b)?,
            1 => a.sub(&b)?,
            2 => a.mul(&b.softmax()?)?,
            3 => a.activate(Activation::GeluErf)?.add(&a)?,
            4 => a.linear(weight, &linear)?.scale(0.5)?,
            5 => Var::concat(&[&b.narrow(0, 1, 2)?, &a.narrow(0, 0, 1)?], 0)?,
            6 => a.permute(&[1, 0])?.reshape(&SHAPE)?,
            7 => Var::custom(PassThrough, &[&a])?,
            8 => a.dropout(mask(50 + step))?.add(&b)?,
            9 => Var::concat(&[&a, &b], 1)?.narrow(1, 2, 4)?,
            10 => a
                .reshape(&[1, 3, 4])?
                .embed_tokens(&[], Some(&b.reshape(&[1, 3, 4])?), None)?
                .reshape(&SHAPE)?,
            _ => a
                .layer_norm(&b.sum_axis(0)?, &weight.narrow(0, 0, 1)?.reshape(&[4])?, 0.1)?
                .scale(0.3)?,
        };
        values.push(y);
    }
    // The result is the last value plus a few others, as they are. Not all, and not scaled: backward comes here first,
    // and a value that got a gradient of its own here would never hold one that it shares.
    let mut result = values.pop().expect("values were added").add(&weight.narrow(0, 0, 3)?)?;
    for (i, value) in values.iter().enumerate() {
        if i < 2 || choices.next(4) == 0 {
            result = result.add(value)?;
        }
    }
    Ok(result)
}

fn graph(seed: u64) -> Case {
    let name = format!("random graph {seed}");
    case("add", name, &[&SHAPE, &SHAPE, &[4, 4]], move |x| wire(seed, x))
}

#[test]
fn random_graphs_agree_with_central_differences() {
    let cases: Vec<Case> = (0..100).map(graph).collect();
    let recorded = crate::check_all(&cases);
    assert!(recorded.len() >= 14, "the graphs are too much alike: {recorded:?}");
}
