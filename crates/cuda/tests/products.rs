//! Matrix products beyond the table of cases: sizes that take each tile, each layout and sums cut into parts, with odd
//! ends and without, at addresses that are multiples of 16 bytes and at others; and tf32.
//!
//! Expected values are the testkit's, in `f64` from the same inputs. Each case runs twice, the second time in memory
//! full of NaN, and must give the same bits.

use vitrine_cuda::{Allocator, CudaBackend, MatmulPrecision, Options};
use vitrine_tensor::{Activation, DType, Device, Dropout, Epilogue, Result, Tensor};
use vitrine_testkit::inputs::{Input, Layout, Setup, key};
use vitrine_testkit::operations::linear::reference;
use vitrine_testkit::reference::{Array, Sum};
use vitrine_testkit::{Case, Comparison};

fn device(matmul: MatmulPrecision) -> Device {
    Device::new(CudaBackend::new(0, &Options { allocator: Allocator::Exact, matmul }).unwrap())
}

fn check(dtype: DType, cases: Vec<Case>) {
    let device = device(MatmulPrecision::Full);
    let mut failures = Vec::new();
    for case in cases {
        let found = match case.run_poisoned(&device, dtype) {
            Ok(comparisons) => comparisons
                .iter()
                .filter_map(|c| c.verdict().err().map(|wrong| format!("{}: {wrong}", c.output())))
                .collect(),
            Err(message) => vec![message],
        };
        failures.extend(found.into_iter().map(|f| format!("{} [{}]: {f}", case.op, case.name)));
    }
    assert!(failures.is_empty(), "{dtype}\n{}", failures.join("\n"));
}

/// What follows the product.
#[derive(Clone, Copy, Debug)]
enum Follows {
    Nothing,
    Everything,
    /// Everything, with the masks of the first rows of samples of so many elements.
    Strided(usize),
}

/// A forward product of `[samples, rows, inputs]` and `[outputs, inputs]`.
fn forward([samples, rows, inputs, outputs]: [usize; 4], layout: Layout, follows: Follows) -> Case {
    let name = format!("{samples}x{rows}x{inputs} to {outputs}, {layout:?}, {follows:?}");
    Case::new("linear", name, move |s| {
        let x = s.laid_out(1, &[samples, rows, inputs], layout)?;
        let w = s.laid_out(2, &[outputs, inputs], layout)?;
        let bias = s.laid_out(3, &[outputs], layout)?;
        let residual = s.laid_out(4, &[samples, rows, outputs], layout)?;
        let mut dropout = Dropout::new(0.3, key(5));
        if let Follows::Strided(stride) = follows {
            dropout.sample_stride = Some(stride);
        }
        let activation = Some(Activation::GeluErf);
        let (epilogue, expected) = match follows {
            Follows::Nothing => Default::default(),
            _ => (
                Epilogue {
                    bias: Some(&bias.tensor),
                    activation,
                    dropout: Some(dropout),
                    residual: Some(&residual.tensor),
                },
                reference::Epilogue {
                    bias: Some(&bias.values),
                    activation,
                    dropout: Some(&dropout),
                    residual: Some(&residual.values),
                },
            ),
        };
        let expected = reference::linear(&x.values, &w.values, &expected);
        let (y, derivative) = x.tensor.linear_with_derivative(&w.tensor, &epilogue)?;
        let mut found = vec![Comparison::of_sum("y", &y, &expected.y)?];
        if let Some(derivative) = derivative {
            found.push(Comparison::of_sum("derivative", &derivative, &expected.derivative)?);
        }
        Ok(found)
    })
}

/// The gradient for the input: `[rows, outputs]` by `[outputs, inputs]`.
fn grad_input([rows, outputs, inputs]: [usize; 3], layout: Layout) -> Case {
    let name = format!("{rows}x{outputs} by {outputs}x{inputs}, {layout:?}");
    Case::new("linear_grad_input", name, move |s| {
        let dy = s.laid_out(1, &[rows, outputs], layout)?;
        let w = s.laid_out(2, &[outputs, inputs], layout)?;
        let expected = reference::linear_grad_input(&dy.values, &w.values);
        Ok(vec![Comparison::of_sum("dx", &dy.tensor.linear_grad_input(&w.tensor)?, &expected)?])
    })
}

/// The gradient for what an activation made the input of, `[rows, outputs]` by `[outputs, inputs]`.
fn grad_activated([rows, outputs, inputs]: [usize; 3], layout: Layout) -> Case {
    let name = format!("{rows}x{outputs} by {outputs}x{inputs}, {layout:?}");
    Case::new("linear_grad_activated", name, move |s| {
        let dy = s.laid_out(1, &[rows, outputs], layout)?;
        let w = s.laid_out(2, &[outputs, inputs], layout)?;
        let derivative = s.laid_out(3, &[rows, inputs], layout)?;
        let expected = reference::linear_grad_activated(&dy.values, &w.values, &derivative.values);
        let found = dy.tensor.linear_grad_activated(&w.tensor, &derivative.tensor)?;
        Ok(vec![Comparison::of_sum("dpre", &found, &expected)?])
    })
}

/// The product of the transpose of one `[rows, ..]` with another.
fn transposed_product(dy: &Array, x: &Array) -> Sum {
    let turned = |a: &Array| a.t().as_standard_layout().into_owned();
    reference::linear(&turned(dy), &turned(x), &Default::default()).y
}

/// The gradient for the weight `[outputs, inputs]` over `rows`. With `wide`, it is `f32` whatever the inputs are.
fn grad_weight([rows, outputs, inputs]: [usize; 3], layout: Layout, wide: bool) -> Case {
    let name = format!("{rows} rows, {outputs} by {inputs}, {layout:?}, wide: {wide}");
    Case::new("linear_grad_weight", name, move |s| {
        let dy = s.laid_out(1, &[rows, outputs], layout)?;
        let x = s.laid_out(2, &[rows, inputs], layout)?;
        let dtype = if wide { DType::F32 } else { s.dtype };
        let dw = s.of(dtype).destination(3, &[outputs, inputs])?;
        dy.tensor.linear_grad_weight_(&x.tensor, &dw.tensor, None)?;
        let expected = transposed_product(&dy.values, &x.values);
        Ok(vec![dw.compare_added("dw", &expected)?])
    })
}

/// A batch of products of `[m, k]` and `[k, n]`. Transposed operands give the layouts of the other products.
fn matmul([batch, m, k, n]: [usize; 4], a: Layout, b: Layout) -> Case {
    let name = format!("{batch} times {m}x{k} {a:?} by {k}x{n} {b:?}");
    Case::new("matmul", name, move |s| {
        let (a, b) = (s.laid_out(1, &[batch, m, k], a)?, s.laid_out(2, &[batch, k, n], b)?);
        let expected = reference::matmul(&a.values, &b.values);
        Ok(vec![Comparison::of_sum("c", &a.tensor.matmul(&b.tensor)?, &expected)?])
    })
}

use Layout::{Dense, Narrowed, Offset, Transposed};

/// 12 x 11 and more tiles of 128 x 128: no part of the sum is apart.
fn large_tiles() -> Vec<Case> {
    vec![
        forward([3, 467, 72, 1344], Dense, Follows::Everything),
        forward([2, 701, 41, 1341], Offset, Follows::Everything),
        forward([1, 1409, 37, 1410], Offset, Follows::Nothing),
        grad_input([1409, 56, 1416], Dense),
        grad_input([1410, 39, 1411], Offset),
        grad_activated([1409, 40, 1344], Dense),
        grad_activated([1410, 39, 1411], Offset),
        grad_weight([72, 1416, 1410], Dense, false),
        grad_weight([72, 1416, 1416], Dense, true),
        grad_weight([33, 1409, 1411], Offset, false),
    ]
}

/// Few tiles and long sums: k is cut.
fn parts() -> Vec<Case> {
    vec![
        // Of large tiles, 11 times 12 parts.
        forward([1, 1288, 6152, 128], Dense, Follows::Everything),
        // Of small ones.
        forward([2, 37, 2048, 192], Dense, Follows::Everything),
        forward([2, 37, 1043, 66], Dense, Follows::Strided(40 * 66)),
        forward([1, 3, 1043, 67], Offset, Follows::Everything),
        grad_input([70, 1100, 130], Dense),
        grad_input([9, 1031, 61], Offset),
        grad_activated([70, 1100, 128], Dense),
        grad_activated([9, 1031, 61], Offset),
        grad_weight([1200, 72, 136], Dense, false),
        grad_weight([1200, 72, 136], Dense, true),
        grad_weight([1031, 61, 35], Offset, true),
    ]
}

/// Small tiles, each with one part.
fn small_tiles() -> Vec<Case> {
    let mut cases = vec![
        // Counters of the mask that are whole in each row, and such that are not.
        forward([3, 37, 64, 128], Dense, Follows::Everything),
        forward([3, 37, 64, 128], Dense, Follows::Strided(64 * 128)),
        forward([3, 37, 64, 128], Dense, Follows::Strided(37 * 128 + 24)),
        forward([3, 37, 64, 98], Dense, Follows::Everything),
        forward([3, 37, 64, 98], Offset, Follows::Everything),
        forward([3, 37, 65, 128], Dense, Follows::Everything),
    ];
    for k in [1, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 96, 97] {
        cases.push(forward([1, 66, k, 70], Dense, Follows::Nothing));
        cases.push(grad_input([66, k, 72], Dense));
        cases.push(grad_weight([k, 72, 64], Dense, true));
    }
    for n in [1, 2, 8, 63, 64, 65, 129] {
        cases.push(forward([1, n, 40, n + 1], Dense, Follows::Everything));
        cases.push(grad_input([n, 40, n + 1], Dense));
        cases.push(grad_activated([n, 40, n + 1], Dense));
        cases.push(grad_weight([40, n, n + 1], Dense, true));
    }
    cases
}

fn batches() -> Vec<Case> {
    let mut cases = Vec::new();
    for a in [Dense, Transposed, Narrowed] {
        for b in [Dense, Transposed, Narrowed] {
            cases.push(matmul([3, 72, 40, 136], a, b));
            cases.push(matmul([2, 67, 33, 71], a, b));
        }
    }
    // More matrices than a grid has blocks along its third axis. Each has no terms: all results are 0.
    cases.push(matmul([70_000, 1, 0, 1], Dense, Dense));
    cases
}

#[test]
fn large_tiles_f32() {
    check(DType::F32, large_tiles());
}

#[test]
fn large_tiles_bf16() {
    check(DType::BF16, large_tiles());
}

#[test]
fn parts_f32() {
    check(DType::F32, parts());
}

#[test]
fn parts_bf16() {
    check(DType::BF16, parts());
}

#[test]
fn small_tiles_f32() {
    check(DType::F32, small_tiles());
}

#[test]
fn small_tiles_bf16() {
    check(DType::BF16, small_tiles());
}

#[test]
fn batches_f32() {
    check(DType::F32, batches());
}

#[test]
fn batches_bf16() {
    check(DType::BF16, batches());
}

/// To 10 bits of mantissa, halves away from zero: PTX ISA, "cvt", `.rna.tf32`.
fn tf32(value: f32) -> f32 {
    f32::from_bits((value.to_bits() + 0x1000) & !0x1fff)
}

#[test]
fn tf32_rounds_each_factor_to_nearest() {
    let device = device(MatmulPrecision::Tf32);
    let x = Setup::new(&device, DType::F32).normal(1, &[300, 1]).unwrap();
    let one = Tensor::from_slice(&[1.0f32], &[1, 1], &device).unwrap();
    let values = x.tensor.to_vec::<f32>().unwrap();
    let rounded: Vec<f32> = values.iter().copied().map(tf32).collect();
    assert!(rounded.iter().zip(&values).filter(|(a, b)| a != b).count() > 250);
    let left = x.tensor.linear(&one, &Epilogue::default()).unwrap();
    assert_eq!(left.to_vec::<f32>().unwrap(), rounded);
    let right = one.linear(&x.tensor, &Epilogue::default()).unwrap();
    assert_eq!(right.to_vec::<f32>().unwrap(), rounded);
}

/// Each factor is off by at most 2⁻¹¹ of itself, so a product by 2⁻¹⁰ and a little; and the sum as any in `f32`.
fn compare_tf32(name: &'static str, actual: &Tensor, expected: &Sum) -> Comparison {
    let rounding = &expected.terms * (2f64.powi(-10) * (1.0 + 2f64.powi(-11)));
    // `loosened` adds four roundings' worth of what it is given.
    let slack = rounding / (4.0 * vitrine_testkit::tolerance::unit_roundoff(DType::F32));
    Comparison::of_sum(name, actual, expected).unwrap().loosened(DType::F32, &slack)
}

#[test]
fn tf32_products_are_as_exact_as_their_factors() -> Result<()> {
    let s = Setup::new(&device(MatmulPrecision::Tf32), DType::F32);
    let input = |stream, shape: [usize; 2], layout| s.laid_out(stream, &shape, layout);
    let rounded = |input: &Input| input.values.mapv(|v| f64::from(tf32(v as f32)));
    // Small and large tiles, whole and odd sizes, parts.
    for (m, k, n, layout) in [
        (70, 36, 72, Dense),
        (67, 37, 71, Offset),
        (65, 1040, 40, Dense),
        (1412, 40, 1416, Dense),
        (1409, 17, 1411, Offset),
    ] {
        let (x, w) = (input(1, [m, k], layout)?, input(2, [n, k], layout)?);
        let (dy, dw) = (input(3, [m, n], layout)?, s.destination(4, &[n, k])?);
        let y = x.tensor.linear(&w.tensor, &Epilogue::default())?;
        let dx = dy.tensor.linear_grad_input(&w.tensor)?;
        dy.tensor.linear_grad_weight_(&x.tensor, &dw.tensor, None)?;
        let dw = dw.tensor.to_f64_vec()?.into_iter().zip(&dw.before).map(|(a, b)| a - b);
        let dw = Tensor::from_slice(&dw.map(|v| v as f32).collect::<Vec<_>>(), &[n, k], &s.device)?;
        let exact = [
            reference::linear(&x.values, &w.values, &Default::default()).y,
            reference::linear_grad_input(&dy.values, &w.values),
            transposed_product(&dy.values, &x.values),
        ];
        let (xr, wr, dyr) = (rounded(&x), rounded(&w), rounded(&dy));
        let of_rounded = [
            reference::linear(&xr, &wr, &Default::default()).y,
            reference::linear_grad_input(&dyr, &wr),
            transposed_product(&dyr, &xr),
        ];
        for (i, (name, actual)) in [("y", &y), ("dx", &dx), ("dw", &dw)].into_iter().enumerate() {
            let verdict = compare_tf32(name, actual, &exact[i]).verdict();
            assert!(verdict.is_ok(), "{name} {m} {k} {n} {layout:?}: {verdict:?}");
            // Beside the rounded factors' own product there is nothing but the rounding of sums.
            let verdict = Comparison::of_sum(name, actual, &of_rounded[i])?.verdict();
            assert!(verdict.is_ok(), "{name} {m} {k} {n} {layout:?}, rounded: {verdict:?}");
        }
    }
    Ok(())
}
