//! Products that are larger than any block they are cut into, against `ndarray` in `f64`: on each set of vector
//! instructions, in each element type, and with the same bits on any number of threads.
//!
//! The set is chosen once in a process, so each runs in a process of its own, as in `simd.rs`.

mod again;

use ndarray::{Array1, Array2, Axis};
use vitrine_tensor::{Activation, DType, Device, Dropout, Epilogue, StreamKey, Tensor, composed};

/// Rows, inputs and outputs of a linear layer: many rows, few rows, and an odd number on each axis. The second has
/// tasks of several blocks side by side, for one thread only.
const SIZES: [[usize; 3]; 5] =
    [[2311, 515, 77], [530, 515, 1030], [300, 70, 1100], [67, 1030, 563], [1, 257, 33]];

/// Numbers that `bf16` holds exactly.
fn draw(shape: [usize; 2], stream: u32, dtype: DType) -> (Array2<f64>, Tensor) {
    let uniform = StreamKey { seed: 3, step: 0, stream }.uniform().take(shape[0] * shape[1]);
    let values: Vec<f64> = uniform.map(|v| (v * 256.0).floor() / 128.0 - 1.0).collect();
    let tensor = Tensor::from_slice(&values, &shape, &Device::cpu()).unwrap();
    (Array2::from_shape_vec(shape, values).unwrap(), tensor.to_dtype(dtype).unwrap())
}

/// The values of a product.
fn values(product: Array2<f64>) -> Vec<f64> {
    product.into_iter().collect()
}

fn assert_close(what: &str, found: &Tensor, expected: &[f64], depth: usize) {
    // Of the type's rounding, and of a sum of `depth` numbers below 1.
    let (relative, sum) = match found.dtype() {
        DType::F64 => (1e-14, 1e-15),
        DType::BF16 => (4e-3, 6e-8),
        _ => (1e-7, 6e-8),
    };
    for (i, (f, e)) in found.to_f64_vec().unwrap().iter().zip(expected).enumerate() {
        let bound = relative * e.abs() + sum * depth as f64;
        assert!((f - e).abs() <= bound, "{what}[{i}]: {f}, expected {e}");
    }
}

fn check(dtype: DType, [rows, inputs, outputs]: [usize; 3]) -> Vec<f64> {
    let ((x, x_tensor), (w, w_tensor)) =
        (draw([rows, inputs], 1, dtype), draw([outputs, inputs], 2, dtype));
    let (dy, dy_tensor) = draw([rows, outputs], 3, dtype);
    let what = |op: &str| format!("{op} of {rows}x{inputs}x{outputs} {dtype}");

    let y = x_tensor.linear(&w_tensor, &Epilogue::default()).unwrap();
    assert_close(&what("linear"), &y, &values(x.dot(&w.t())), inputs);

    let dx = dy_tensor.linear_grad_input(&w_tensor).unwrap();
    assert_close(&what("linear_grad_input"), &dx, &values(dy.dot(&w)), outputs);

    let [derivative, dpre] = check_fused(&x_tensor, &w_tensor, &dy_tensor);

    // Gradients of weights are sums in the accumulator's type, on top of what is there.
    let sums = dtype.accumulator();
    let dw = Tensor::full(&[outputs, inputs], 1.0, sums, &Device::cpu()).unwrap();
    let db = Tensor::full(&[outputs], 1.0, sums, &Device::cpu()).unwrap();
    dy_tensor.linear_grad_weight_(&x_tensor, &dw, Some(&db)).unwrap();
    assert_close(&what("linear_grad_weight"), &dw, &values(dy.t().dot(&x) + 1.0), rows);
    let exact: Array1<f64> = dy.sum_axis(Axis(0)) + 1.0;
    assert_close(&what("the bias' gradient"), &db, &exact.to_vec(), rows);

    [y, dx, derivative, dpre, dw, db].iter().flat_map(|t| t.to_f64_vec().unwrap()).collect()
}

/// The derivative of an activation with dropout, and a gradient through it, fused and composed: of the same bits,
/// unless `bf16` rounds between the parts.
fn check_fused(x: &Tensor, w: &Tensor, dy: &Tensor) -> [Tensor; 2] {
    let (activation, key) = (Activation::GeluErf, StreamKey { seed: 3, step: 1, stream: 4 });
    let dropout = Dropout::new(0.2, key);
    let epilogue =
        Epilogue { activation: Some(activation), dropout: Some(dropout), ..Default::default() };
    let (y, derivative) = x.linear_with_derivative(w, &epilogue).unwrap();
    let derivative = derivative.expect("there is an activation");
    assert_same(&y, &x.linear(w, &epilogue).unwrap(), 0.0);
    let product = x.linear(w, &Epilogue::default()).unwrap();
    let one = Tensor::full(product.shape(), 1.0, product.dtype(), &Device::cpu()).unwrap();
    let parts = product.activate_grad(activation, &one).unwrap().dropout(dropout).unwrap();
    // The product is rounded to 8 bits where it is up to 8, the derivative is no steeper than 0.8 there, and the mask
    // scales by 1.25.
    assert_same(&derivative, &parts, 0.03);

    let fused = dy.linear_grad_activated(w, x).unwrap();
    let parts = Tensor::full(fused.shape(), f64::NAN, fused.dtype(), &Device::cpu()).unwrap();
    let backend = Device::cpu();
    composed::linear_grad_activated(backend.backend(), dy, w, x, &parts).unwrap();
    assert_same(&fused, &parts, 0.0);
    [derivative, fused]
}

/// Asserts that two results have the same bits; in `bf16`, that they differ by two roundings of 8 bits and `absolute`.
fn assert_same(found: &Tensor, expected: &Tensor, absolute: f64) {
    let pairs = [found, expected].map(|t| t.to_f64_vec().unwrap());
    match found.dtype() {
        DType::BF16 => {
            let near = |f: f64, e: f64| (f - e).abs() <= 8e-3 * e.abs() + absolute;
            assert!(pairs[0].iter().zip(&pairs[1]).all(|(&f, &e)| near(f, e)));
        }
        _ => assert!(pairs[0] == pairs[1], "the fused result has other bits"),
    }
}

/// Does nothing but in the processes that the test below starts.
#[test]
fn check_on_request() {
    if !again::is_requested() {
        return;
    }
    for dtype in [DType::F32, DType::BF16, DType::F64] {
        for sizes in SIZES {
            let [first, second, third] = [1, 2, 5].map(|threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| check(dtype, sizes))
            });
            assert!(first == second && first == third, "{sizes:?} {dtype}: threads change bits");
        }
    }
    println!("checked");
}

#[test]
fn large_products_on_each_instruction_set() {
    for set in ["portable", "avx2", "avx512", "avx512bf16"] {
        let text = again::run_with(set, "check_on_request");
        assert!(text.contains("checked"), "with {set}:\n{text}");
    }
}
