//! Running the table: [`run_all`] and the [`Report`] it gives.

use std::collections::BTreeMap;
use std::fmt;

use vitrine_tensor::{DType, Device};

use crate::case::Case;
use crate::operations;

/// A case that failed.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// The operation.
    pub op: &'static str,
    /// The case.
    pub case: String,
    /// Which output, and what is wrong with it; or the error or panic.
    pub message: String,
}

/// What a run of the table found.
#[derive(Clone, Debug)]
pub struct Report {
    /// The device's name.
    pub device: String,
    /// The element type.
    pub dtype: DType,
    /// How many cases ran.
    pub cases: usize,
    /// How many numbers were compared.
    pub elements: usize,
    /// For each operation, the largest error in parts of what is allowed.
    pub worst: BTreeMap<&'static str, f64>,
    /// What failed.
    pub failures: Vec<Failure>,
}

impl Report {
    fn new(device: &Device, dtype: DType) -> Self {
        let (worst, failures) = (BTreeMap::new(), Vec::new());
        Self { device: device.to_string(), dtype, cases: 0, elements: 0, worst, failures }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { device, dtype, cases, elements, worst, failures } = self;
        let failed = failures.len();
        writeln!(f, "{device}, {dtype}: {cases} cases, {elements} numbers, {failed} failures")?;
        for Failure { op, case, message } in failures {
            writeln!(f, "  {op} [{case}] {dtype}: {message}")?;
        }
        for (op, worst) in worst {
            writeln!(f, "  {op}: worst error {worst:.3} of what is allowed")?;
        }
        Ok(())
    }
}

/// Runs the whole table on a device for an element type.
pub fn run_all(device: &Device, dtype: DType) -> Report {
    run(device, dtype, |_| true)
}

/// Runs the cases of the table that `choose` picks.
pub fn run(device: &Device, dtype: DType, choose: impl Fn(&Case) -> bool) -> Report {
    run_cases(device, dtype, operations::cases().into_iter().filter(choose))
}

/// Runs cases on a device for an element type with NaN and infinities among their inputs, one at a time: they must
/// come out where the reference has them, and nowhere else.
pub fn run_nonfinite(
    device: &Device,
    dtype: DType,
    cases: impl IntoIterator<Item = Case>,
) -> Report {
    let mut report = Report::new(device, dtype);
    for case in cases {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let runs = (0..).map_while(|i| case.run_spoiled((device, dtype), i, value));
            for (input, comparisons) in runs.enumerate() {
                report.cases += 1;
                let verdict = comparisons.and_then(|comparisons| {
                    report.elements += comparisons.iter().map(|c| c.actual().len()).sum::<usize>();
                    let failed = comparisons.iter().find_map(|c| {
                        c.verdict_nonfinite().err().map(|wrong| format!("{}: {wrong}", c.output()))
                    });
                    failed.map_or(Ok(()), Err)
                });
                if let Err(message) = verdict {
                    let case_name = format!("{}, {value} in input {input}", case.name);
                    report.failures.push(Failure { op: case.op, case: case_name, message });
                }
            }
        }
    }
    report
}

/// Runs cases on a device for an element type.
pub fn run_cases(device: &Device, dtype: DType, cases: impl IntoIterator<Item = Case>) -> Report {
    let mut report = Report::new(device, dtype);
    for case in cases {
        report.cases += 1;
        let mut fail = |message| {
            report.failures.push(Failure { op: case.op, case: case.name.clone(), message });
        };
        let comparisons = match case.run_poisoned(device, dtype) {
            Ok(comparisons) => comparisons,
            Err(message) => {
                fail(message);
                continue;
            }
        };
        for comparison in &comparisons {
            report.elements += comparison.actual().len();
            match comparison.verdict() {
                Ok(ratio) => {
                    let worst = report.worst.entry(case.op).or_default();
                    *worst = worst.max(ratio);
                }
                Err(mismatch) => fail(format!("{}: {mismatch}", comparison.output())),
            }
        }
    }
    report
}
