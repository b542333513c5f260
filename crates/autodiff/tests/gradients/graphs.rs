//! Cases where one gradient reaches several places: code that adds in place must not change what another place holds.

use vitrine_autodiff::{Result, SelfAttention, Var};
use vitrine_tensor::{Activation, Epilogue};

use crate::check::{Case, PassThrough, case};
use crate::linear::mask;

pub fn cases() -> Vec<Case> {
    vec![
        case("add", "x + x", &[&[3, 4]], |x| x[0].add(&x[0])),
        case("add", "x + x, doubled ten times", &[&[3]], |x| {
            (0..10).try_fold(x[0].clone(), |sum, _| sum.add(&sum))
        }),
        case("sub", "x − x + x", &[&[3]], |x| x[0].sub(&x[0])?.add(&x[0])),
        case("add", "a diamond", &[&[3, 4], &[4, 4]], |x| {
            let top = x[0].linear(&x[1], &Epilogue::default())?;
            let (left, right) = (top.activate(Activation::GeluErf)?, top.scale(0.5)?);
            left.add(&right)?.mul(&left)?.add(&top)
        }),
        case("add", "diamonds, one below another", &[&[3, 4]], |x| {
            let mut y = x[0].clone();
            for _ in 0..5 {
                let (left, right) = (y.scale(0.5)?, y.activate(Activation::GeluTanh)?);
                y = left.add(&right)?.add(&y)?.add(&left)?;
            }
            Ok(y)
        }),
        case("add", "one gradient for three sums", &[&[3, 4], &[3, 4], &[3, 4]], |x| {
            let (ab, bc) = (x[0].add(&x[1])?, x[1].add(&x[2])?);
            ab.add(&bc)?.add(&ab)?.add(&x[0])
        }),
        case("add", "deep residual chain by add", &[&[2, 3, 4], &[4, 4], &[4], &[4]], |x| {
            let mut y = x[0].clone();
            for _ in 0..8 {
                let f = y.layer_norm(&x[2], &x[3], 1e-5)?;
                let f = f.linear(&x[1], &Epilogue { bias: Some(&x[3]), ..Default::default() })?;
                y = y.add(&f.scale(0.3)?)?;
            }
            Ok(y)
        }),
        case(
            "linear",
            "deep residual chain by epilogue",
            &[&[2, 3, 4], &[4, 4], &[4], &[4]],
            |x| {
                let mut y = x[0].clone();
                for layer in 0..8 {
                    let f = y.layer_norm(&x[2], &x[3], 1e-5)?;
                    let (bias, dropout) = (Some(&x[3]), (layer % 2 == 0).then(|| mask(30 + layer)));
                    let options =
                        Epilogue { bias, dropout, residual: Some(&y), ..Default::default() };
                    y = f.linear(&x[1], &options)?;
                }
                Ok(y)
            },
        ),
        case("linear", "every residual is kept and used at the end", &[&[3, 4], &[4, 4]], |x| {
            let (mut y, mut all) = (x[0].clone(), Vec::new());
            for _ in 0..4 {
                let options = Epilogue { residual: Some(&y), ..Default::default() };
                y = y.activate(Activation::GeluErf)?.linear(&x[1], &options)?.scale(0.5)?;
                all.push(y.clone());
            }
            all.iter().try_fold(x[0].clone(), |sum, y| sum.add(y))
        }),
        case(
            "attention",
            "two transformer blocks",
            &[&[2, 3, 4], &[12, 4], &[4, 4], &[4], &[4]],
            |x| {
                let mut y = x[0].clone();
                for block in 0..2 {
                    y = transformer_block(&y, &x[1..], block)?;
                }
                Ok(y)
            },
        ),
        case("narrow", "of a variable used before and after", &[&[4, 3]], |x| {
            let before = x[0].mul(&x[0])?;
            let part = x[0].narrow(0, 1, 2)?.activate(Activation::GeluErf)?;
            let after = x[0].scale(3.0)?;
            before.add(&after)?.narrow(0, 2, 2)?.add(&part)
        }),
        case("narrow", "of a sum whose gradient is shared", &[&[4, 3], &[4, 3]], |x| {
            let sum = x[0].add(&x[1])?;
            let same = sum.add(&x[0])?;
            same.narrow(0, 0, 2)?.add(&sum.narrow(0, 2, 2)?)?.sum()?.add(&same.mul(&sum)?.sum()?)
        }),
        case("narrow", "first, then the gradient of the whole", &[&[4, 3], &[4, 3]], |x| {
            // Backward comes to the whole first: its gradient is shared with x[1] when the part's is added.
            let part = x[0].narrow(0, 1, 2)?;
            let whole = x[0].add(&x[1])?;
            Var::concat(&[&part, &whole, &whole], 0)
        }),
        case(
            "narrow",
            "a variable twice, the gradient of the whole shared",
            &[&[4, 3], &[4, 3]],
            |x| {
                let y = x[0].scale(2.0)?;
                let (part, end) = (y.narrow(0, 1, 2)?, y.narrow(0, 3, 1)?);
                let whole = y.add(&x[1])?;
                Var::concat(&[&part, &end, &whole], 0)
            },
        ),
        case("concat", "of variables and their sum", &[&[2, 3], &[2, 3]], |x| {
            let sum = x[0].add(&x[1])?;
            Var::concat(&[&x[0], &sum, &x[1], &sum], 0)
        }),
        case("reshape", "views of one gradient", &[&[2, 6]], |x| {
            let (a, b) = (x[0].reshape(&[3, 4])?, x[0].reshape(&[12])?);
            a.reshape(&[12])?.add(&b)?.add(&x[0].reshape(&[12])?)
        }),
        case("permute", "a gradient and its transpose", &[&[3, 3]], |x| {
            let y = x[0].scale(2.0)?;
            y.add(&y.permute(&[1, 0])?)?.add(&y)
        }),
        case("permute", "a strided gradient is added to", &[&[3, 3], &[3, 3]], |x| {
            let y = x[0].scale(2.0)?;
            let part = y.narrow(1, 1, 2)?;
            Var::concat(&[&y.permute(&[1, 0])?, &part.permute(&[1, 0])?, &y.add(&x[1])?], 0)
        }),
        case("custom", "a gradient handed on, to two places", &[&[3, 4], &[3, 4]], |x| {
            let a = Var::custom(PassThrough, &[&x[0]])?;
            let b = Var::custom(PassThrough, &[&a.add(&x[1])?])?;
            b.add(&a)?.add(&x[0])?.mul(&b)
        }),
        case("embed_tokens", "a gradient handed on", &[&[1, 3, 4], &[1, 3, 4]], |x| {
            let tokens = x[0].embed_tokens(&[], Some(&x[1]), None)?;
            tokens.add(&x[0])?.add(&x[1])?.add(&tokens)
        }),
        case("sum_axis", "a mean added back to each row", &[&[3, 4]], |x| {
            let mean = x[0].mean_axis(0)?;
            x[0].sub(&mean)?.mul(&x[0])?.add(&mean)
        }),
    ]
}

/// `w`: `qkv [12, 4]`, a projection `[4, 4]`, scale and shift of the norms.
fn transformer_block(x: &Var, w: &[Var], block: u32) -> Result<Var> {
    let qkv = x.layer_norm(&w[2], &w[3], 1e-5)?.linear(&w[0], &Epilogue::default())?;
    let attention = SelfAttention { heads: 2, dropout: Some(mask(40 + block)), valid_lens: None };
    let mixed = qkv.self_attention(&attention)?;
    let options = Epilogue { residual: Some(x), ..Default::default() };
    let x = mixed.linear(&w[1], &options)?;
    let hidden = x.layer_norm(&w[2], &w[3], 1e-5)?;
    let activation = Some(Activation::GeluErf);
    let hidden = hidden.linear(&w[1], &Epilogue { activation, ..Default::default() })?;
    hidden.linear(&w[1], &Epilogue { residual: Some(&x), ..Default::default() })
}
