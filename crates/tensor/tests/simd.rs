//! Each set of vector instructions computes what the table says, and the loops of our own give the same bits with any.
//!
//! The set is chosen once in a process, so each runs in a process of its own: this very test program, started again
//! with `VITRINE_SIMD` set.

mod again;

use std::hash::{DefaultHasher, Hash, Hasher};

use vitrine_tensor::{CpuBackend, DType, Device};
use vitrine_testkit::operations;

const SETS: [&str; 4] = ["portable", "avx2", "avx512", "avx512bf16"];

/// The operations that multiply matrices: where there is an instruction for `a·b + c`, it rounds once.
const PRODUCTS: [&str; 10] = [
    "linear",
    "linear_grad_input",
    "linear_grad_activated",
    "linear_grad_weight",
    "matmul",
    "attention",
    "attention_grad",
    "convolution",
    "convolution_grad_input",
    "convolution_grad_weight",
];

/// One line a case: the operation, the case, and a hash of its results' bits. Fails where a result is out of bounds.
fn digest(dtype: DType) -> String {
    let device = Device::new(CpuBackend::default());
    let mut lines = String::new();
    for case in operations::cases() {
        let comparisons = case.run(&device, dtype).expect("the case runs");
        let mut hash = DefaultHasher::new();
        for comparison in &comparisons {
            if let Err(mismatch) = comparison.verdict() {
                panic!("{} [{}] {dtype}: {mismatch}", case.op, case.name);
            }
            comparison.actual().iter().for_each(|v| v.to_bits().hash(&mut hash));
        }
        if !PRODUCTS.contains(&case.op) {
            lines += &format!("digest {dtype} {} [{}] {:x}\n", case.op, case.name, hash.finish());
        }
    }
    lines
}

/// Does nothing but in the processes that the test below starts.
#[test]
fn digest_on_request() {
    if again::is_requested() {
        for dtype in [DType::F32, DType::F64, DType::BF16] {
            print!("{}", digest(dtype));
        }
    }
}

#[test]
fn every_set_gives_the_same_bits() {
    let run = |set: &str| -> Vec<String> {
        let text = again::run_with(set, "digest_on_request");
        text.lines().filter(|line| line.contains("digest ")).map(String::from).collect()
    };
    let expected = run(SETS[0]);
    assert!(expected.len() > 2000, "{} cases", expected.len());
    for set in &SETS[1..] {
        let found = run(set);
        assert_eq!(expected.len(), found.len());
        for (expected, found) in expected.iter().zip(&found) {
            assert_eq!(expected, found, "{set} (right) differs from {} (left)", SETS[0]);
        }
    }
}
