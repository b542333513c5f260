//! Cases of attention: packed and split, masked by length, with dropout, in several shapes.

use vitrine_autodiff::{SelfAttention, Var};
use vitrine_tensor::Dropout;

use crate::check::{Case, case, integers};
use crate::linear::mask;

fn options(heads: usize, lens: Option<&[i64]>, dropout: Option<Dropout>) -> SelfAttention {
    SelfAttention { heads, valid_lens: lens.map(integers), dropout }
}

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    // Lengths of 0 (no key counts), 1, some, all and past all.
    let lens: [Option<&[i64]>; 3] = [None, Some(&[1, 4, 3]), Some(&[0, 5, 9])];
    for lens in lens {
        for dropout in [None, Some(mask(20))] {
            for heads in [1, 3] {
                let name = format!("{heads} heads, lens {lens:?}, dropout {}", dropout.is_some());
                let attend = options(heads, lens, dropout);
                cases.push(case(
                    "attention",
                    format!("packed, {name}"),
                    &[&[3, 5, 18]],
                    move |x| x[0].self_attention(&attend),
                ));
                for queries in [1, 2, 5, 7] {
                    let attend = options(heads, lens, dropout);
                    let name = format!("{queries} queries of 5 keys, {name}");
                    let shapes: [&[usize]; 2] = [&[3, queries, 6], &[3, 5, 12]];
                    cases.push(case("attention", name, &shapes, move |x| {
                        x[0].attention(&x[1], &attend)
                    }));
                }
            }
        }
    }
    let one = options(1, None, None);
    cases.push(case("attention", "one token of width 1", &[&[1, 1, 3]], move |x| {
        x[0].self_attention(&one)
    }));
    // More queries than a block of them holds.
    let long = options(2, Some(&[67]), Some(mask(21)));
    cases.push(case("attention", "67 tokens", &[&[1, 67, 6]], move |x| x[0].self_attention(&long)));
    let shared = options(2, None, Some(mask(22)));
    cases.push(case(
        "attention",
        "one variable as queries, keys and values",
        &[&[2, 3, 4]],
        move |x| {
            let key_value = Var::concat(&[&x[0], &x[0]], 2)?;
            x[0].attention(&key_value, &shared)?.add(&x[0])
        },
    ));
    let strided = options(2, None, None);
    cases.push(case(
        "attention",
        "queries cut out of a longer sequence",
        &[&[2, 5, 4], &[2, 5, 8]],
        move |x| x[0].narrow(1, 1, 2)?.attention(&x[1].narrow(1, 2, 3)?, &strided),
    ));
    cases
}
