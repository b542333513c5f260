//! The emulated device: the driver's functions on top of `vitrine-ptx-emulator`, for tests.
//!
//! One device of compute capability 8.0 with one context, the primary one. It does what a driver
//! does in the order that streams allow, checks what a driver checks, and gives the codes a driver
//! gives; a launch that fails is the failure of every later call, until the context is released.
//!
//! Beside the calls, tests read here what happened ([`last_fault`], [`leaks`],
//! [`uninitialised_downloads`], [`statistics`]) and set how the device behaves. The environment sets
//! the same at the first call:
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
mod occupancy;
mod operation;
mod records;
mod schedule;
mod settings;
mod stream;

use std::collections::BTreeMap;

pub use vitrine_ptx_emulator::{Checks, Stats};

pub use records::{Allocation, KernelStatistics, UninitialisedDownload};
pub use settings::StreamMode;

pub(crate) use context::*;
pub(crate) use device::*;
pub(crate) use event::*;
pub(crate) use host::*;
pub(crate) use launch::*;
pub(crate) use memory::*;
pub(crate) use module::*;
pub(crate) use occupancy::*;
pub(crate) use stream::*;

use crate::choice::DriverError;
use crate::codes::CUDA_SUCCESS;
use crate::types::CUresult;
use machine::{EmulatedMachine, Status, machine};
use settings::Settings;

/// Sets the device up as the environment says, when it is chosen.
pub(crate) fn start() -> Result<(), DriverError> {
    let settings = Settings::from_environment()?;
    with_machine(|machine| machine.settings = settings);
    Ok(())
}

/// The code of a result.
pub(crate) fn code(status: Status) -> CUresult {
    status.err().unwrap_or(CUDA_SUCCESS)
}

/// What the driver's functions do not offer. A host function that a stream calls has no access
/// either, and gets the default.
fn with_machine<T: Default>(action: impl FnOnce(&mut EmulatedMachine) -> T) -> T {
    machine().map(|mut machine| action(&mut machine)).unwrap_or_default()
}

/// As [`with_machine`], when the environment has been read: it sets what a test does not.
fn started<T: Default>(action: impl FnOnce(&mut EmulatedMachine) -> T) -> T {
    // Without this device in use, what a test sets or reads has no effect.
    let _ = crate::choice::driver();
    with_machine(action)
}

/// Sets what the launches from now on are checked for.
pub fn set_checks(checks: Checks) {
    started(|machine| machine.settings.checks = checks);
}

/// Sets when work in streams is done, from now on. What waits is done first.
pub fn set_streams(mode: StreamMode) {
    started(|machine| {
        if let Some(mut session) = machine.session() {
            session.force_all();
        }
        machine.settings.streams = mode;
    });
}

/// Sets the device memory, in bytes, of contexts that are made from now on.
pub fn set_memory(bytes: u64) {
    started(|machine| machine.settings.memory = bytes);
}

/// The latest fault of a launch in words: kernel, block and thread, source line, what it did.
pub fn last_fault() -> Option<String> {
    started(|machine| machine.records.last_fault.clone())
}

/// What was wrong with the latest module that could not be loaded.
pub fn last_load_error() -> Option<String> {
    started(|machine| machine.records.last_load_error.clone())
}

/// The copies to the host, since the process began, of memory that nothing had written.
pub fn uninitialised_downloads() -> Vec<UninitialisedDownload> {
    started(|machine| machine.records.downloads.clone())
}

/// Device memory in use: allocated by calls and not yet freed.
pub fn allocations() -> Vec<Allocation> {
    started(|machine| machine.context.as_ref().map(|context| context.leaks()).unwrap_or_default())
}

/// Device memory that had not been freed when the context was released for good the last time.
pub fn leaks() -> Vec<Allocation> {
    started(|machine| machine.records.leaks.clone())
}

/// What each kernel's launches cost, by the kernel's name.
pub fn statistics() -> BTreeMap<String, KernelStatistics> {
    started(|machine| machine.records.kernels.clone())
}

/// Forgets faults, downloads, leaks and statistics.
pub fn clear_records() {
    started(|machine| machine.records = records::Records::default());
}
