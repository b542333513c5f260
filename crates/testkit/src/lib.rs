//! What every backend must compute, as one table of cases, and the tools that tests compare with. For development only.
//!
//! ```
//! use vitrine_tensor::{CpuBackend, DType, Device};
//!
//! let device = Device::new(CpuBackend::default());
//! let report = vitrine_testkit::run(&device, DType::F64, |case| case.op == "softmax");
//! assert!(report.failures.is_empty(), "{report}");
//! ```
//!
//! - [`operations`] has one file a topic: what each operation means in plain `f64` loops, and below it the cases,
//!   forward and gradient beside each other. A case makes its inputs from Philox, runs the operation on a device, and
//!   compares with the reference on the same rounded inputs.
//! - [`sweep`] has the same operations at many sizes.
//! - [`run_all`] runs the table on a device for an element type and gives a [`Report`].
//! - [`Faulty`] is a backend that gets one operation wrong: cases that do not notice are no cases.
//! - [`tolerance`] says how far a result may be off, and why.
//! - [`gradcheck`] compares gradients with central differences.
//! - [`golden`] reads what PyTorch and timm computed.

mod case;
mod compare;
mod faulty;
pub mod golden;
pub mod gradcheck;
pub mod inputs;
pub mod operations;
pub mod reference;
mod report;
pub mod sweep;
pub mod tolerance;

pub use case::Case;
pub use compare::{Comparison, Mismatch};
pub use faulty::{Fault, Faulty};
pub use inputs::{Destination, Input, Layout, Setup};
pub use report::{Failure, Report, run, run_all, run_cases, run_nonfinite};
