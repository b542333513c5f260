//! Cases of activations, dropout, norms, softmax, cross-entropy, tokens, and operations of one's own.

use vitrine_autodiff::Var;
use vitrine_tensor::{Activation, BatchNorm, Device, Dropout, Rotation, Tensor};

use crate::check::{Case, PassThrough, ProductAndCube, case, integers, normal};
use crate::linear::{ACTIVATIONS, mask};

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for activation in ACTIVATIONS {
        for shape in [&[37][..], &[2, 3, 5], &[]] {
            let name = format!("{activation:?} {shape:?}");
            cases.push(case("activate", name, &[shape], move |x| x[0].activate(activation)));
        }
        let name = format!("{activation:?}, transposed, dropped out, twice");
        cases.push(case("activate", name, &[&[4, 7]], move |x| {
            let y = x[0].permute(&[1, 0])?.activate(activation)?.dropout(mask(4))?;
            y.activate(activation)
        }));
    }
    cases.extend([
        case("dropout", "a vector of more than a block of masks", &[&[131]], |x| {
            x[0].dropout(mask(5))
        }),
        case("dropout", "transposed", &[&[3, 5]], |x| x[0].permute(&[1, 0])?.dropout(mask(6))),
        case("dropout", "the first rows of longer samples", &[&[3, 2, 5]], |x| {
            x[0].dropout(Dropout { sample_stride: Some(35), ..mask(7) })
        }),
        case("dropout", "two masks on one variable", &[&[4, 4]], |x| {
            x[0].dropout(mask(8))?.mul(&x[0].dropout(mask(9))?)
        }),
        case("softmax", "[3, 5]", &[&[3, 5]], |x| x[0].softmax()),
        case("softmax", "a vector", &[&[7]], |x| x[0].softmax()),
        case("softmax", "width 1", &[&[2, 3, 1]], |x| x[0].softmax()),
        case("softmax", "transposed, twice", &[&[3, 5]], |x| {
            x[0].permute(&[1, 0])?.softmax()?.softmax()
        }),
    ]);
    cases.extend(layer_norm());
    cases.extend(batch_norm());
    cases.extend(cross_entropy());
    cases.extend(tokens());
    cases.extend(rotations());
    cases.extend([
        case("custom", "product and cube", &[&[3, 5], &[3, 5]], |x| {
            Var::custom(ProductAndCube, &[&x[0], &x[1]])
        }),
        case("custom", "both inputs are one variable", &[&[3, 5]], |x| {
            Var::custom(ProductAndCube, &[&x[0], &x[0]])
        }),
        case("custom", "that hands on the gradient itself", &[&[3, 5]], |x| {
            Var::custom(PassThrough, &[&x[0]])?.add(&x[0])
        }),
    ]);
    cases
}

fn layer_norm() -> Vec<Case> {
    let norm = |x: &[Var]| x[0].layer_norm(&x[1], &x[2], 1e-5);
    vec![
        case("layer_norm", "[3, 5, 7]", &[&[3, 5, 7], &[7], &[7]], norm),
        case("layer_norm", "a vector", &[&[19], &[19], &[19]], norm),
        case("layer_norm", "width 1", &[&[5, 1], &[1], &[1]], norm),
        case("layer_norm", "width 2, large ε", &[&[4, 2], &[2], &[2]], |x| {
            x[0].layer_norm(&x[1], &x[2], 0.5)
        }),
        case("layer_norm", "transposed", &[&[7, 3], &[7], &[7]], |x| {
            x[0].permute(&[1, 0])?.layer_norm(&x[1], &x[2], 1e-6)
        }),
        case("layer_norm", "one variable as scale and shift", &[&[3, 7], &[7]], |x| {
            x[0].layer_norm(&x[1], &x[1], 1e-5)
        }),
        case("layer_norm", "scale and shift used before", &[&[3, 7], &[7]], |x| {
            let y = x[0].mul(&x[1])?.layer_norm(&x[1], &x[1], 1e-5)?;
            y.layer_norm(&x[1], &x[1], 1e-5)
        }),
        case("layer_norm", "one variable everywhere", &[&[7]], |x| {
            x[0].layer_norm(&x[0], &x[0], 1e-5)
        }),
        case("layer_norm", "x is the shift", &[&[7], &[7]], |x| {
            x[0].layer_norm(&x[1], &x[0], 1e-5)
        }),
    ]
}

fn batch_norm() -> Vec<Case> {
    let norm = |x: &[Var], residual: Option<usize>, activation| {
        let residual = residual.map(|input| &x[input]);
        let norm = BatchNorm { scale: &x[1], shift: &x[2], epsilon: 1e-2, residual, activation };
        x[0].batch_norm(None, &norm).map(|(y, _)| y)
    };
    let (silu, shapes): (_, [&[usize]; 4]) =
        (Some(Activation::Silu), [&[3, 2, 5], &[5], &[5], &[3, 2, 5]]);
    vec![
        case("batch_norm", "alone", &shapes[..3], move |x| norm(x, None, None)),
        case("batch_norm", "activation", &shapes[..3], move |x| norm(x, None, silu)),
        case("batch_norm", "residual", &shapes, move |x| norm(x, Some(3), None)),
        case("batch_norm", "all", &shapes, move |x| norm(x, Some(3), silu)),
        case("batch_norm", "x is the residual", &shapes[..3], move |x| norm(x, Some(0), silu)),
        case("batch_norm", "one variable as scale and shift", &shapes[..2], move |x| {
            norm(&[x[0].clone(), x[1].clone(), x[1].clone()], None, silu)
        }),
        case("batch_norm", "fixed statistics", &shapes, move |x| {
            let values = [0.1, -0.2, 0.3, -0.4, 0.5, 1.0, 2.0, 0.3, 0.4, 0.5];
            let statistics = Tensor::from_slice(&values, &[2, 5], &Device::cpu())?;
            let residual = Some(&x[3]);
            let activation = silu;
            let norm =
                BatchNorm { scale: &x[1], shift: &x[2], epsilon: 1e-2, residual, activation };
            Ok(x[0].batch_norm(Some(&statistics), &norm)?.0)
        }),
    ]
}

fn cross_entropy() -> Vec<Case> {
    let mut cases = Vec::new();
    for smoothing in [0.0, 0.1] {
        for (batch, classes) in [(5, 3), (1, 7), (4, 1), (9, 20)] {
            let labels: Vec<i64> = (0..batch).map(|i| (7 * i + 2) % classes).collect();
            let shape = [batch as usize, classes as usize];
            let name = format!("{shape:?}, smoothing {smoothing}");
            cases.push(case("cross_entropy", name, &[&shape], move |x| {
                x[0].cross_entropy(&integers(&labels), smoothing)
            }));
        }
    }
    cases.push(case("cross_entropy", "of transposed logits, scaled", &[&[4, 5]], |x| {
        let logits = x[0].permute(&[1, 0])?;
        logits.cross_entropy(&integers(&[0, 3, 3, 1, 2]), 0.2)?.scale(-2.5)
    }));
    cases.push(case("soft_target_cross_entropy", "targets of any sum", &[&[4, 5]], |x| {
        let targets = normal(9, &[4, 5]);
        x[0].soft_target_cross_entropy(&targets.mul(&targets)?)?.scale(-2.5)
    }));
    cases
}

fn tokens() -> Vec<Case> {
    let mut cases = Vec::new();
    for (dropout, stride) in [(None, None), (Some(mask(10)), None), (Some(mask(11)), Some(50))] {
        let dropout = dropout.map(|d| Dropout { sample_stride: stride, ..d });
        for batch in [1, 3] {
            let name = format!("batch {batch}, dropout {}", dropout.is_some());
            let shapes: [&[usize]; 3] = [&[batch, 4, 5], &[1, 5, 5], &[1, 1, 5]];
            cases.push(case("embed_tokens", format!("{name}, class"), &shapes, move |x| {
                x[0].embed_tokens(&[&x[2]], Some(&x[1]), dropout)
            }));
            let shapes: [&[usize]; 2] = [&[batch, 4, 5], &[1, 4, 5]];
            cases.push(case("embed_tokens", name, &shapes, move |x| {
                x[0].embed_tokens(&[], Some(&x[1]), dropout)
            }));
            let name = format!("batch {batch}, dropout {}, registers", dropout.is_some());
            let shapes: [&[usize]; 4] = [&[batch, 4, 5], &[1, 1, 5], &[1, 3, 5], &[1, 8, 5]];
            cases.push(case("embed_tokens", name.clone(), &shapes, move |x| {
                x[0].embed_tokens(&[&x[1], &x[2]], Some(&x[3]), dropout)
            }));
            let shapes: [&[usize]; 4] = [&[batch, 4, 5], &[1, 1, 5], &[1, 3, 5], &[1, 4, 5]];
            let bare = format!("{name} without positions");
            cases.push(case("embed_tokens", bare, &shapes, move |x| {
                x[0].embed_tokens(&[&x[1], &x[2]], Some(&x[3]), dropout)
            }));
            let shapes: [&[usize]; 3] = [&[batch, 4, 5], &[1, 1, 5], &[1, 3, 5]];
            cases.push(case(
                "embed_tokens",
                format!("{name}, no positions at all"),
                &shapes,
                move |x| x[0].embed_tokens(&[&x[1], &x[2]], None, dropout),
            ));
        }
    }
    cases.extend([
        case(
            "embed_tokens",
            "no patches, only the class",
            &[&[2, 1, 5], &[1, 1, 5], &[1, 1, 5]],
            |x| {
                let none = x[0].narrow(1, 0, 0)?;
                none.embed_tokens(&[&x[1]], Some(&x[2]), None)?.add(&x[0])
            },
        ),
        case("embed_tokens", "patches are the positions", &[&[1, 4, 5]], |x| {
            x[0].embed_tokens(&[], Some(&x[0]), None)
        }),
        case("embed_tokens", "the class is a position", &[&[2, 3, 5], &[1, 4, 5]], |x| {
            x[0].embed_tokens(&[&x[1].narrow(1, 2, 1)?], Some(&x[1]), None)
        }),
        case("embed_tokens", "patches used again after", &[&[2, 3, 5], &[1, 3, 5]], |x| {
            let tokens = x[0].embed_tokens(&[], Some(&x[1]), None)?;
            tokens.add(&x[0])?.mul(&x[1])
        }),
        case("embed_tokens", "one variable as two prefixes", &[&[2, 3, 5], &[1, 2, 5]], |x| {
            x[0].embed_tokens(&[&x[1], &x[1]], None, None)
        }),
        case("embed_tokens", "nothing to add, and dropout alone", &[&[2, 3, 5]], |x| {
            x[0].embed_tokens(&[], None, None)?.embed_tokens(&[], None, Some(mask(12)))
        }),
    ]);
    cases
}

/// Any numbers will do for cosines and sines.
fn rotation(heads: usize) -> Rotation {
    Rotation { cos: normal(20, &[3, 2]), sin: normal(21, &[3, 2]), heads }
}

fn rotations() -> Vec<Case> {
    vec![
        case("rotate", "queries and keys, a token in front", &[&[2, 4, 12]], |x| {
            x[0].rotate(&rotation(2))
        }),
        case("rotate", "all", &[&[1, 3, 8]], |x| x[0].rotate(&rotation(2))),
        case("rotate", "nothing", &[&[2, 4, 8]], |x| x[0].rotate(&rotation(0))),
        case("rotate", "transposed, used again after", &[&[2, 4, 4]], |x| {
            let x = x[0].permute(&[0, 2, 1])?;
            x.rotate(&rotation(1))?.mul(&x)
        }),
    ]
}
