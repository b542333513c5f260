//! Attention beyond the table of cases: every family of kernels, over several tiles with odd ends.
//!
//! Expected values are the testkit's, in `f64` from the same inputs. What differs from its rule is the bound where
//! tensor cores serve: weights and the gradients of scores are rounded to `bf16` before they are multiplied.

use ndarray::{ArrayD, IxDyn, s};
use vitrine_cuda::{Allocator, CudaBackend, Options};
use vitrine_tensor::{Attention, AttentionInputs, AttentionOutput, DType, Device, Dropout};
use vitrine_tensor::{Result, Tensor};
use vitrine_testkit::inputs::{Input, Layout, Setup, key};
use vitrine_testkit::operations::attention::reference;
use vitrine_testkit::reference::Array;
use vitrine_testkit::{Case, Comparison};

/// How queries, keys and values lie in memory.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    /// Side by side in one tensor.
    Packed,
    /// Queries alone, keys beside values.
    Split,
    /// Each a part of a wider tensor, from its second column on: no row begins at a multiple of 16 bytes.
    Unaligned,
}

#[derive(Clone, Copy, Debug)]
struct Plan {
    batch: usize,
    queries: usize,
    keys: usize,
    heads: usize,
    /// Of a head.
    width: usize,
    form: Form,
    valid_lens: Option<&'static [i64]>,
    /// Whether there is a bias, of each image's own.
    bias: bool,
    dropout: Option<Dropout>,
}

impl Plan {
    /// Both without and with a mask of keys, and without and with dropout.
    fn all(extents: [usize; 5], form: Form, lens: &'static [i64]) -> [Self; 4] {
        let [batch, queries, keys, heads, width] = extents;
        let dropout = Dropout::new(0.3, key(7));
        [(None, None), (None, Some(dropout)), (Some(lens), None), (Some(lens), Some(dropout))].map(
            |(valid_lens, dropout)| Self {
                batch,
                queries,
                keys,
                heads,
                width,
                form,
                valid_lens,
                bias: false,
                dropout,
            },
        )
    }

    /// Queries, keys and values.
    fn inputs(&self, s: &Setup) -> Result<[Input; 3]> {
        let (batch, width) = (self.batch, self.heads * self.width);
        let part = |input: &Input, number: usize| -> Result<Input> {
            let (start, end) = (number * width, (number + 1) * width);
            let values = input.values.slice(s![.., .., start..end]).to_owned().into_dyn();
            Ok(Input { tensor: input.tensor.narrow(2, start, width)?, values })
        };
        match self.form {
            Form::Packed => {
                let all = s.normal(1, &[batch, self.keys, 3 * width])?;
                Ok([part(&all, 0)?, part(&all, 1)?, part(&all, 2)?])
            }
            Form::Split => {
                let both = s.normal(2, &[batch, self.keys, 2 * width])?;
                let queries = s.normal(1, &[batch, self.queries, width])?;
                Ok([queries, part(&both, 0)?, part(&both, 1)?])
            }
            Form::Unaligned => Ok([
                s.laid_out(1, &[batch, self.queries, width], Layout::Narrowed)?,
                s.laid_out(2, &[batch, self.keys, width], Layout::Narrowed)?,
                s.laid_out(3, &[batch, self.keys, width], Layout::Narrowed)?,
            ]),
        }
    }

    fn bias(&self, s: &Setup) -> Result<Option<Input>> {
        let shape = [self.batch, self.heads, self.queries, self.keys];
        self.bias.then(|| s.normal(5, &shape)).transpose()
    }

    fn reference<'a>(&'a self, bias: Option<&'a Input>) -> reference::Attention<'a> {
        reference::Attention {
            heads: self.heads,
            valid_lens: self.valid_lens,
            bias: bias.map(|bias| &bias.values),
            dropout: self.dropout.as_ref(),
        }
    }

    /// Whether tensor cores serve.
    fn rounds_weights(&self, dtype: DType) -> bool {
        let fits = self.width.is_multiple_of(16) && self.width <= 128;
        dtype == DType::BF16 && fits && self.form != Form::Unaligned && !self.bias
    }
}

/// Result and gradients beside what is expected of `expected`, which is `plan` but for tests of the test.
fn compare(s: &Setup, plan: &Plan, expected: &Plan) -> Result<Vec<Comparison>> {
    let [query, key, value] = &plan.inputs(s)?;
    let [q, k, v] = [query, key, value].map(|input| &input.values);
    let lens = plan.valid_lens.map(|lens| Tensor::from_slice(lens, &[plan.batch], &s.device));
    let lens = lens.transpose()?;
    let bias = plan.bias(s)?;
    let attention = Attention {
        heads: plan.heads,
        valid_lens: lens.as_ref(),
        bias: bias.as_ref().map(|bias| &bias.tensor),
        dropout: plan.dropout,
    };
    let inputs = AttentionInputs { query: &query.tensor, key: &key.tensor, value: &value.tensor };
    let output = inputs.attend(&attention)?;

    // The gradient starts from the expected result, rounded as it is stored.
    let reference = expected.reference(bias.as_ref());
    let (y, log_sums) = reference::attend(q, k, v, &reference);
    let saved = s.placed(&y, Layout::Dense)?;
    let saved_sums = s.placed_as(&log_sums, Layout::Dense, DType::F32)?;
    let dy = s.normal(4, y.shape())?;
    let given = AttentionOutput { y: saved.tensor, log_sums: saved_sums.tensor };
    let grads = inputs.attend_grad(&attention, &given, &dy.tensor, false)?;
    let width = plan.heads * plan.width;
    let dk = grads[1].narrow(2, 0, width)?;
    let dv = grads[1].narrow(2, width, width)?;
    let (sums, scores) = reference::attend_grad(q, k, v, &reference, &saved.values, &dy.values);

    // As in the testkit: a mean of values is as exact as its largest value allows.
    let largest = v.iter().fold(0.0, |top: f64, v| top.max(v.abs()));
    let terms = y.mapv(|y| if y == 0.0 { 0.0 } else { 4.0 * largest });
    let mut comparisons = vec![
        Comparison::new("y", &output.y, &y)?.loosened(DType::F32, &terms),
        Comparison::of_sum("dq", &grads[0], &sums[0])?,
        Comparison::of_sum("dk", &dk, &sums[1])?,
        Comparison::of_sum("dv", &dv, &sums[2])?,
    ];
    if plan.rounds_weights(s.dtype) {
        let reference::Spread { y, grads: [dq, dk, dv] } =
            reference::spread([q, k, v], &reference, &saved.values, &dy.values);
        let spreads = [y, dq, dk, dv];
        let loosen = |(c, spread): (Comparison, Array)| c.loosened(DType::BF16, &spread);
        comparisons = comparisons.into_iter().zip(spreads).map(loosen).collect();
    }
    comparisons.push(Comparison::new("log_sums", &output.log_sums, &log_sums)?);
    if plan.bias {
        comparisons.push(Comparison::of_sum("dbias", &grads[2], &scores)?);
    }
    if plan.form == Form::Packed {
        let packed = inputs.attend_grad(&attention, &given, &dy.tensor, true)?;
        let apart = [&grads[0], &dk, &dv].map(Tensor::to_f64_vec);
        for (number, part) in apart.into_iter().enumerate() {
            let there = packed[0].narrow(2, number * width, width)?;
            let part = ArrayD::from_shape_vec(IxDyn(there.shape()), part?).unwrap();
            comparisons.push(Comparison::new("packed", &there, &part)?.exact());
        }
    }
    Ok(comparisons)
}

fn device() -> Device {
    let options = Options { allocator: Allocator::Exact, ..Options::default() };
    Device::new(CudaBackend::new(0, &options).unwrap())
}

/// Runs each plan twice: the bits must be the same, and the values those expected.
fn check(dtype: DType, plans: impl IntoIterator<Item = Plan>) {
    let device = device();
    for plan in plans {
        let case = Case::new("attention", format!("{plan:?}"), move |s| compare(s, &plan, &plan));
        let comparisons = case.run_poisoned(&device, dtype).unwrap_or_else(|error| {
            panic!("{plan:?}: {error}");
        });
        for comparison in comparisons {
            let output = comparison.output();
            match comparison.verdict() {
                Ok(share) => println!("{plan:?}: {output} {share:.2} of what is allowed"),
                Err(mismatch) => panic!("{plan:?}: {output}: {mismatch}"),
            }
        }
    }
}

#[test]
fn tensor_cores_with_heads_of_64() {
    let plans = [
        Plan::all([1, 197, 197, 2, 64], Form::Packed, &[150]),
        Plan::all([2, 37, 37, 1, 64], Form::Packed, &[0, 16]),
        Plan::all([2, 1, 64, 2, 64], Form::Split, &[64, 63]),
        Plan::all([1, 70, 256, 1, 64], Form::Split, &[129]),
    ];
    check(DType::BF16, plans.into_iter().flatten());
}

#[test]
fn tensor_cores_with_heads_of_32() {
    let plans = [
        Plan::all([3, 130, 130, 1, 32], Form::Packed, &[-1, 64, 1000]),
        Plan::all([2, 65, 129, 2, 32], Form::Split, &[1, 128]),
    ];
    check(DType::BF16, plans.into_iter().flatten());
}

#[test]
fn tensor_cores_with_heads_of_other_multiples_of_16() {
    let plans = [
        Plan::all([2, 100, 100, 1, 16], Form::Packed, &[17, 99]),
        Plan::all([2, 66, 70, 1, 48], Form::Split, &[70, 5]),
        Plan::all([1, 33, 97, 2, 80], Form::Split, &[65]),
        Plan::all([2, 65, 65, 1, 96], Form::Packed, &[33, 32]),
        Plan::all([1, 130, 70, 1, 112], Form::Split, &[40]),
        Plan::all([2, 67, 67, 1, 128], Form::Packed, &[66, 0]),
    ];
    check(DType::BF16, plans.into_iter().flatten());
}

#[test]
fn floats_with_heads_that_fit_a_tile() {
    let plans = [
        Plan::all([1, 100, 100, 2, 64], Form::Packed, &[65]),
        Plan::all([2, 33, 130, 1, 32], Form::Split, &[128, 0]),
        Plan::all([2, 70, 31, 2, 48], Form::Split, &[31, 30]),
        Plan::all([2, 40, 40, 2, 20], Form::Packed, &[33, 32]),
    ];
    check(DType::F32, plans.into_iter().flatten());
}

#[test]
fn floats_with_odd_or_wide_heads() {
    let plans = [
        Plan::all([1, 65, 70, 2, 33], Form::Split, &[64]),
        Plan::all([2, 35, 67, 1, 64], Form::Unaligned, &[1, 66]),
        Plan::all([1, 40, 70, 1, 130], Form::Unaligned, &[69]),
        Plan::all([2, 33, 33, 1, 200], Form::Packed, &[5, 0]),
    ];
    check(DType::F32, plans.into_iter().flatten());
}

#[test]
fn bf16_where_tensor_cores_do_not_serve() {
    let plans = [
        Plan::all([1, 65, 70, 2, 64], Form::Unaligned, &[64]),
        Plan::all([2, 66, 66, 1, 8], Form::Packed, &[65, 0]),
        Plan::all([1, 33, 40, 1, 72], Form::Split, &[39]),
        Plan::all([1, 34, 33, 1, 144], Form::Split, &[7]),
    ];
    check(DType::BF16, plans.into_iter().flatten());
}

#[test]
fn biases_in_tiles_and_in_parts_of_wide_heads() {
    for (dtype, extents, form) in [
        (DType::F32, [2, 65, 65, 2, 32], Form::Packed),
        (DType::F32, [2, 35, 70, 1, 130], Form::Split),
        (DType::BF16, [2, 67, 67, 1, 64], Form::Packed),
        (DType::BF16, [2, 33, 100, 1, 144], Form::Unaligned),
    ] {
        let plans = Plan::all(extents, form, &[33, 0]);
        check(dtype, plans.map(|plan| Plan { bias: true, ..plan }));
    }
}

/// A bias of −∞ takes keys away, be they all of a tile.
#[test]
fn keys_may_be_masked_by_the_bias() {
    const KEYS: usize = 70;
    let device = device();
    let s = Setup::new(&device, DType::F32);
    let [query, key, value] = [1, 2, 3].map(|seed| s.normal(seed, &[1, KEYS, 8]).unwrap().tensor);
    let attend = |first: usize, bias: Option<&Tensor>| {
        let [key, value] = [&key, &value].map(|t| t.narrow(1, first, KEYS - first).unwrap());
        let attention = Attention { heads: 1, valid_lens: None, bias, dropout: None };
        let inputs = AttentionInputs { query: &query, key: &key, value: &value };
        let output = inputs.attend(&attention).unwrap();
        [output.y, output.log_sums].map(|t| t.to_f64_vec().unwrap()).concat()
    };
    for masked in [5, 32, 65] {
        let row = (0..KEYS).map(|key| if key < masked { f32::NEG_INFINITY } else { 0.0 });
        let bias: Vec<f32> = std::iter::repeat_n(row, KEYS).flatten().collect();
        let bias = Tensor::from_slice(&bias, &[1, 1, KEYS, KEYS], &device).unwrap();
        for (found, expected) in attend(0, Some(&bias)).into_iter().zip(attend(masked, None)) {
            assert!((found - expected).abs() < 1e-5, "{masked}: {found}, not {expected}");
        }
    }
}

/// The bounds are narrow enough: a key that is left out, and a mask that is drawn for another address, are seen.
#[test]
fn wrong_results_are_seen() {
    let [plain, dropped, ..] = Plan::all([1, 80, 80, 1, 64], Form::Packed, &[]);
    let one_key_less = Plan { valid_lens: Some(&[79]), ..plain };
    let other_mask = Plan { dropout: Some(Dropout::new(0.3, key(8))), ..dropped };
    for dtype in [DType::F32, DType::BF16] {
        let setup = Setup::new(&device(), dtype);
        for (plan, expected) in [(plain, one_key_less), (dropped, other_mask)] {
            for comparison in compare(&setup, &plan, &expected).unwrap() {
                let checked = ["y", "dq", "dk", "dv"].contains(&comparison.output());
                assert!(!checked || comparison.verdict().is_err(), "{}", comparison.output());
            }
        }
    }
}
