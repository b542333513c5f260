//! Shows that the table of cases can fail: on a backend that leaves out one operation, or that gets one element of one
//! result slightly wrong, every case that reaches the fault fails.

use std::collections::BTreeSet;

use vitrine_tensor::{DType, Device};
use vitrine_testkit::{Case, Fault, Faulty, operations};

/// Whether leaving out the operation changes nothing in this case.
fn does_nothing(case: &Case, fault: Fault) -> bool {
    let adds_nothing = ["linear_grad_weight", "layer_norm_grad", "convolution_grad_weight"]
        .contains(&case.op)
        && case.name.starts_with("[0, ");
    let keeps = case.op == "clip_norm" && case.name.ends_with("left alone");
    fault == Fault::Skip && (adds_nothing || keeps)
}

/// Runs the cases of each operation with a fault in that operation. Gives how many cases reached one.
fn every_fault_is_found(dtype: DType, fault: Fault) -> usize {
    let (mut reached, mut missed) = (0, Vec::new());
    for case in operations::cases().iter().filter(|case| !does_nothing(case, fault)) {
        let (backend, hits) = Faulty::new(case.op, fault);
        let result = case.run_poisoned(&Device::new(backend), dtype);
        let found = match &result {
            Ok(comparisons) => comparisons.iter().any(|c| c.verdict().is_err()),
            Err(_) => true,
        };
        if hits.load(std::sync::atomic::Ordering::Relaxed) > 0 {
            reached += 1;
            if !found {
                missed.push(format!("{} [{}]", case.op, case.name));
            }
        } else {
            assert!(!found, "{} [{}] fails without a fault", case.op, case.name);
        }
    }
    assert!(missed.is_empty(), "{dtype} {fault:?} is not found by {missed:#?}");
    reached
}

#[test]
fn every_operation_has_cases() {
    let tested: BTreeSet<_> = operations::cases().iter().map(|case| case.op).collect();
    assert_eq!(tested, operations::names().into_iter().collect());
}

#[test]
fn cases_have_names_of_their_own() {
    let mut seen = BTreeSet::new();
    for case in operations::cases() {
        assert!(seen.insert((case.op, case.name.clone())), "{} [{}] twice", case.op, case.name);
    }
}

#[test]
fn an_operation_left_out_is_found() {
    assert!(every_fault_is_found(DType::F32, Fault::Skip) > 1000);
}

#[test]
fn one_wrong_element_is_found_in_f32() {
    assert!(every_fault_is_found(DType::F32, Fault::Perturb(0)) > 1000);
}

#[test]
fn one_wrong_element_is_found_in_f64() {
    assert!(every_fault_is_found(DType::F64, Fault::Perturb(0)) > 1000);
}

#[test]
fn one_wrong_element_is_found_in_bf16() {
    assert!(every_fault_is_found(DType::BF16, Fault::Perturb(0)) > 1000);
}

#[test]
fn one_wrong_element_of_a_second_or_third_result_is_found() {
    assert!(every_fault_is_found(DType::F32, Fault::Perturb(1)) > 200);
    assert!(every_fault_is_found(DType::F32, Fault::Perturb(2)) > 50);
}
