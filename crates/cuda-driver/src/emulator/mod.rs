//! The emulated device: the driver's functions on top of `vitrine-ptx-emulator`, for tests.
//!
//! One device of compute capability 8.0 with one context, the primary one, and of the driver's
//! functions those that this repository calls. It does what a driver does in the order that streams
//! allow, checks what a driver checks, and gives the codes a driver gives; a launch that fails is the
//! failure of every later call, until the context is released. What is not there, such as the default
//! stream, gives `CUDA_ERROR_NOT_SUPPORTED`.
//!
//! Beside the calls, tests read here what went wrong ([`last_fault`]) and set how the device behaves.
//! The environment sets the same at the first call:
//!
//! - `VITRINE_CUDA_EMULATED_MEMORY`: bytes of device memory, 2 GiB by default;
//! - `VITRINE_CUDA_EMULATED_STREAMS`: `synchronous` (the default), `deferred`, or `shuffled=SEED`,
//!   as [`StreamMode`] says;
//! - `VITRINE_CUDA_EMULATED_CHECKS`: a list, with commas, of `none`, `all`, `uninitialised`,
//!   `shared-races`, `global-races`, `approximate=SEED`, `schedule=SEED`, as [`Checks`] says; without
//!   it the first three are on.
//!
//! # Example
//!
//! ```
//! use vitrine_cuda_driver::{Choice, api, choose, emulator};
//!
//! choose(Choice::Emulated)?;
//! emulator::set_streams(emulator::StreamMode::Deferred);
//! // SAFETY: cuInit takes a number.
//! assert_eq!(unsafe { api::cuInit(0) }, 0);
//! assert_eq!(emulator::last_fault(), None);
//! # Ok::<(), vitrine_cuda_driver::DriverError>(())
//! ```
#![allow(non_snake_case, reason = "the functions have the names of cuda.h")]
#![allow(
    clippy::missing_safety_doc,
    reason = "the driver's documentation says what a caller of a function of that name promises"
)]

mod context;
mod device;
mod event;
mod host;
mod launch;
mod machine;
mod memory;
mod module;
mod operation;
mod schedule;
mod settings;
mod stream;

pub use vitrine_ptx_emulator::Checks;

pub use settings::StreamMode;

pub(crate) use context::*;
pub(crate) use device::*;
pub(crate) use event::*;
pub(crate) use host::*;
pub(crate) use launch::*;
pub(crate) use memory::*;
pub(crate) use module::*;
pub(crate) use stream::*;

use std::sync::MutexGuard;

use crate::choice::DriverError;
use crate::codes::CUDA_SUCCESS;
use crate::types::CUresult;
use machine::{EmulatedMachine, Status, machine};
use settings::Settings;

/// Sets the device up as the environment says, when it is chosen.
pub(crate) fn start() -> Result<(), DriverError> {
    let settings = Settings::from_environment()?;
    machine().settings = settings;
    Ok(())
}

/// The code of a result.
pub(crate) fn code(status: Status) -> CUresult {
    status.err().unwrap_or(CUDA_SUCCESS)
}

/// The machine, when the environment has been read: it sets what a test does not.
fn started() -> MutexGuard<'static, EmulatedMachine> {
    // Without this device in use, what a test sets or reads has no effect.
    let _ = crate::choice::driver();
    machine()
}

/// Sets what the launches from now on are checked for. Without the check of uninitialised reads,
/// copies to the host are not checked for it either.
pub fn set_checks(checks: Checks) {
    started().settings.checks = checks;
}

/// Sets when work in streams is done, from now on. What waits is done first.
pub fn set_streams(mode: StreamMode) {
    let mut machine = started();
    if let Some(mut session) = machine.session() {
        session.force_all();
    }
    machine.settings.streams = mode;
}

/// Sets the device memory, in bytes, of contexts that are made from now on.
pub fn set_memory(bytes: u64) {
    started().settings.memory = bytes;
}

/// What went wrong last, in words. Of a launch: kernel, block and thread, source line, what it did. Of
/// a module that could not be loaded: the line of the PTX, and what is not known there.
pub fn last_fault() -> Option<String> {
    started().last_fault.clone()
}

/// Forgets what went wrong.
pub fn clear_fault() {
    started().last_fault = None;
}
