//! The same bits on any number of threads, for every case of the table.

use rayon::ThreadPoolBuilder;
use vitrine_tensor::{CpuBackend, DType, Device};
use vitrine_testkit::operations;

/// The bits of all results of all cases, computed on `threads` threads.
fn results(threads: usize, dtype: DType) -> Vec<(String, Vec<u64>)> {
    let pool = ThreadPoolBuilder::new().num_threads(threads).build().expect("threads can start");
    pool.install(|| {
        assert_eq!(rayon::current_num_threads(), threads);
        let device = Device::new(CpuBackend::default());
        let bits = |case: &vitrine_testkit::Case| {
            let comparisons = case.run(&device, dtype).expect("the case runs");
            comparisons.iter().flat_map(|c| c.actual().iter().map(|v| v.to_bits())).collect()
        };
        let all = operations::cases();
        all.iter().map(|case| (format!("{} [{}]", case.op, case.name), bits(case))).collect()
    })
}

fn same_on_any_number_of_threads(dtype: DType) {
    let one = results(1, dtype);
    assert!(one.len() > 1000);
    for threads in [2, 3, 7] {
        for ((case, expected), (_, found)) in one.iter().zip(&results(threads, dtype)) {
            assert!(expected == found, "{case} in {dtype} differs on {threads} threads");
        }
    }
}

#[test]
fn f32() {
    same_on_any_number_of_threads(DType::F32);
}

#[test]
fn f64() {
    same_on_any_number_of_threads(DType::F64);
}

#[test]
fn bf16() {
    same_on_any_number_of_threads(DType::BF16);
}
