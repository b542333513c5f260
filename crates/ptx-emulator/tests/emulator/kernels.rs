//! Kernels that nvcc compiled, against the same arithmetic in Rust: `fixtures/kernels.cu`.

use crate::device::{Argument, EmulatedDevice, KERNELS, noise};

use Argument::{Float, Int, Long, Pointer};

fn bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

fn widened(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

fn assert_close(found: &[f32], wanted: &[f32], relative: f32, absolute: f32) {
    assert_eq!(found.len(), wanted.len());
    for (index, (f, w)) in found.iter().zip(wanted).enumerate() {
        let allowed = absolute + relative * w.abs();
        assert!((f - w).abs() <= allowed, "{index}: {f} in place of {w}");
    }
}

#[test]
fn axpy_writes_each_element_once() {
    let mut device = EmulatedDevice::new(KERNELS);
    for n in [1, 31, 32, 100, 1000] {
        let (x, y) = (noise(n, 1), noise(n, 2));
        let (px, py) = (device.floats(&x), device.floats(&y));
        let parameters = [Float(1.5), Pointer(px), Pointer(py), Int(n as i32)];
        device.launch("axpy", [n.div_ceil(64) as u32, 1, 1], [64, 1, 1], &parameters).unwrap();
        let wanted: Vec<f32> = x.iter().zip(&y).map(|(x, y)| 1.5f32.mul_add(*x, *y)).collect();
        assert_eq!(device.read_floats(py, n), wanted);
    }
}

#[test]
fn transpose_through_shared_memory() {
    let mut device = EmulatedDevice::new(KERNELS);
    for (rows, columns) in [(32, 32), (33, 70), (1, 5)] {
        let input = noise(rows * columns, 3);
        let (from, to) = (device.floats(&input), device.empty(4 * (rows * columns) as u64));
        let parameters = [Pointer(from), Pointer(to), Int(rows as i32), Int(columns as i32)];
        let grid = [columns.div_ceil(32) as u32, rows.div_ceil(32) as u32, 1];
        device.launch("transpose", grid, [32, 8, 1], &parameters).unwrap();
        let found = device.read_floats(to, rows * columns);
        for row in 0..rows {
            for column in 0..columns {
                assert_eq!(found[column * rows + row], input[row * columns + column]);
            }
        }
    }
}

#[test]
fn softmax_with_warp_shuffles() {
    let mut device = EmulatedDevice::new(KERNELS);
    for (rows, columns) in [(1, 1), (5, 17), (9, 100)] {
        let input: Vec<f32> = noise(rows * columns, 4).iter().map(|x| 8.0 * x).collect();
        let from = device.floats(&input);
        let (to, sums) = (device.empty(4 * (rows * columns) as u64), device.empty(4 * rows as u64));
        let sizes = [Int(rows as i32), Int(columns as i32)];
        let parameters = [Pointer(from), Pointer(to), Pointer(sums), sizes[0], sizes[1]];
        let grid = [rows.div_ceil(4) as u32, 1, 1];
        device.launch("softmax", grid, [128, 1, 1], &parameters).unwrap();
        let (found, sums) =
            (device.read_floats(to, rows * columns), device.read_floats(sums, rows));
        for row in 0..rows {
            let x = &input[row * columns..][..columns];
            let total: f64 = x.iter().map(|&x| f64::from(x).exp()).sum();
            let wanted: Vec<f32> = x.iter().map(|&x| (f64::from(x).exp() / total) as f32).collect();
            assert_close(&found[row * columns..][..columns], &wanted, 1e-6, 0.0);
            assert_close(&sums[row..=row], &[total.ln() as f32], 1e-6, 1e-6);
        }
    }
}

#[test]
fn philox_gives_the_known_words() {
    let mut device = EmulatedDevice::new(KERNELS);
    let out = device.empty(16 * 40);
    let parameters = [Pointer(out), Long(0), Long(0), Int(40)];
    device.launch("philox", [2, 1, 1], [32, 1, 1], &parameters).unwrap();
    // The known answer of Random123 for a counter and a key of zeros.
    let known = [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8];
    assert_eq!(device.read_words(out, 160)[..4], known);
    let again = device.empty(16 * 40);
    let parameters = [Pointer(again), Long(0), Long(3), Int(1)];
    device.launch("philox", [1, 1, 1], [32, 1, 1], &parameters).unwrap();
    assert_eq!(device.read_words(again, 4), device.read_words(out, 160)[12..16]);
}

#[test]
fn a_product_with_tensor_cores() {
    let mut device = EmulatedDevice::new(KERNELS);
    for (m, n, k) in [(32, 32, 16), (64, 32, 48), (40, 50, 24), (5, 7, 8)] {
        let a: Vec<u16> = noise(m * k, 6).into_iter().map(bf16).collect();
        let b: Vec<u16> = noise(n * k, 7).into_iter().map(bf16).collect();
        let (pa, pb) = (device.halves(&a), device.halves(&b));
        let pc = device.empty(4 * (m * n) as u64);
        let sizes = [m, n, k].map(|size| Int(size as i32));
        let parameters = [Pointer(pa), Pointer(pb), Pointer(pc), sizes[0], sizes[1], sizes[2]];
        let grid = [n.div_ceil(32) as u32, m.div_ceil(32) as u32, 1];
        device.launch("matmul_bf16", grid, [128, 1, 1], &parameters).unwrap();
        let found = device.read_floats(pc, m * n);
        for row in 0..m {
            for column in 0..n {
                let product = |i: usize| (widened(a[row * k + i]), widened(b[column * k + i]));
                let wanted = (0..k).map(product).fold(0.0f32, |sum, (a, b)| a.mul_add(b, sum));
                assert_eq!(found[row * n + column], wanted, "{row}, {column}");
            }
        }
    }
}

#[test]
fn a_product_in_tf32() {
    let mut device = EmulatedDevice::new(KERNELS);
    let (a, b) = (noise(16 * 8, 8), noise(8 * 8, 9));
    let (pa, pb, pc) = (device.floats(&a), device.floats(&b), device.empty(4 * 128));
    device
        .launch("matmul_tf32", [1, 1, 1], [32, 1, 1], &[Pointer(pa), Pointer(pb), Pointer(pc)])
        .unwrap();
    let rounded = |x: f32| f32::from_bits((x.to_bits() + 0x1000) & !0x1fff);
    let found = device.read_floats(pc, 128);
    for row in 0..16 {
        for column in 0..8 {
            let wanted = (0..8).fold(0.0f32, |sum, i| {
                rounded(a[row * 8 + i]).mul_add(rounded(b[column * 8 + i]), sum)
            });
            assert_eq!(found[row * 8 + column], wanted);
        }
    }
}
