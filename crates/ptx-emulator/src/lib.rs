//! Runs PTX on the CPU and checks it as it runs, like compute-sanitizer does. For tests.

// Loops over the lanes of a warp index several arrays at once, and vectorise as they are written.
#![allow(clippy::needless_range_loop)]

mod decode;
mod error;
mod exec;
mod fault;
mod instruction;
mod lanes;
mod launch;
mod memory;
mod program;
mod registers;
mod stats;
mod syntax;
mod types;

pub use error::{LoadError, OutOfMemory};
pub use exec::launch;
pub use fault::{Access, Conflict, Fault, FaultKind, FaultSite};
pub use lanes::{APPROXIMATIONS, Approximation, Bound};
pub use launch::{Checks, LaunchConfig};
pub use memory::{AccessError, Memory, Nearest};
pub use program::{Global, Kernel, Program};
pub use stats::{Stats, Traffic};
pub use syntax::Parameter;
pub use types::Space;
