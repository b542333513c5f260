//! Every operation's gradient against central differences in `f64`, and a control that no operation is left out.

mod attention;
mod check;
mod convolution;
mod elementwise;
mod graphs;
mod layers;
mod linear;
mod random_graphs;
mod views;

use std::collections::BTreeSet;

use check::Case;

fn all_cases() -> Vec<Case> {
    let mut cases = elementwise::cases();
    cases.extend(views::cases());
    cases.extend(linear::cases());
    cases.extend(layers::cases());
    cases.extend(convolution::cases());
    cases.extend(attention::cases());
    cases.extend(graphs::cases());
    cases
}

/// Checks cases; gives the operations recorded by them.
fn check_all(cases: &[Case]) -> BTreeSet<String> {
    let mut recorded = BTreeSet::new();
    let mut failures = Vec::new();
    for case in cases {
        match case.check() {
            Ok(operations) => {
                let has = operations.contains(case.op);
                assert!(has, "{} does not record {}: {operations:?}", case.name, case.op);
                recorded.extend(operations);
            }
            Err(error) => failures.push(format!("{}, {}: {error}", case.op, case.name)),
        }
    }
    assert!(failures.is_empty(), "{} cases failed:\n{}", failures.len(), failures.join("\n"));
    recorded
}

/// The operations that are recorded, read from the source, so that a new one cannot be forgotten here.
fn operations() -> BTreeSet<String> {
    let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/ops")).unwrap();
    let texts = folder.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap());
    let source: String = texts.collect();
    let source = source.replace("self.record", "Self::record");
    let recorded = source.split("::record").skip(1);
    let named = recorded.filter_map(|call| call.split_once('"')?.1.split_once('"'));
    named.map(|(name, _)| name.to_owned()).chain(["leaf".to_owned()]).collect()
}

#[test]
fn every_gradient_agrees_with_central_differences_and_no_operation_is_left_out() {
    let cases = all_cases();
    check_all(&cases);
    let claimed: BTreeSet<String> = cases.iter().map(|case| case.op.to_owned()).collect();
    let operations = operations();
    assert!(operations.len() >= 20, "the source was not read in full: {operations:?}");
    // `check_all` saw each case record the operation it claims, and its name comes from the source.
    assert_eq!(claimed, operations, "left: operations with a case; right: those of the source");
}

#[test]
fn a_wrong_gradient_is_found() {
    let wrong = check::case("custom", "cube with the gradient of a square", &[&[5]], |x| {
        vitrine_autodiff::Var::custom(WrongCube, &[&x[0]])
    });
    let error = wrong.check().unwrap_err();
    assert!(error.contains("by central differences"), "{error}");
}

struct WrongCube;

impl vitrine_autodiff::CustomOp for WrongCube {
    fn name(&self) -> &str {
        "wrong cube"
    }

    fn forward(
        &self,
        inputs: &[&vitrine_tensor::Tensor],
    ) -> vitrine_autodiff::Result<vitrine_tensor::Tensor> {
        Ok(inputs[0].mul(inputs[0])?.mul(inputs[0])?)
    }

    fn backward(
        &self,
        inputs: &[vitrine_tensor::Tensor],
        _: &vitrine_tensor::Tensor,
        dy: &vitrine_tensor::Tensor,
    ) -> vitrine_autodiff::Result<Vec<Option<vitrine_tensor::Tensor>>> {
        Ok(vec![Some(inputs[0].scale(2.0)?.mul(dy)?)])
    }
}
