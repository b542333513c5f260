//! The functions of the CUDA driver that `cust` links against, forwarded to the system's driver or to an emulator.
//!
//! A program that is linked against `libcuda.so.1` does not start on a machine without the NVIDIA
//! driver. This crate stands in between: it exports the `cu*` functions itself, opens the driver at
//! the first call, and says in words what is missing. `vitrine-cuda` links it in with
//! `use vitrine_cuda_driver as _;`, and `cust` finds its functions here.
//!
//! # Which driver
//!
//! Decided once, at the first call of any function, by [`choose`] or else by the environment
//! variable `VITRINE_CUDA_DRIVER`:
//!
//! | value | driver |
//! |---|---|
//! | unset, or `system` | the system's `libcuda.so.1` |
//! | a path | that library |
//! | `emulated` | the emulated device (feature `emulator`, for tests) |
//!
//! Without a driver every function gives `CUDA_ERROR_NO_DEVICE`, and [`status`] says why. Where the
//! driver lacks a function, that function gives `CUDA_ERROR_NOT_SUPPORTED`.
//!
//! # Result codes
//!
//! The `CUresult` of `cust` is a Rust enum of CUDA 11.4, and a value outside of it is undefined
//! behaviour. A code that it does not have is returned as `CUDA_ERROR_UNKNOWN`, and
//! [`last_unmapped_code`] gives the original.
//!
//! # Example
//!
//! ```
//! use vitrine_cuda_driver::{DriverKind, devices, status};
//!
//! match status() {
//!     Ok(DriverKind::System { path, version }) => {
//!         println!("{}, up to CUDA {version}", path.display());
//!         match devices() {
//!             Ok(count) => println!("{count} devices"),
//!             Err(error) => println!("{error}"),
//!         }
//!     }
//!     Ok(DriverKind::Emulated) => println!("the emulated device"),
//!     Err(error) => println!("{error}"), // no CUDA driver: libcuda.so.1 could not be opened ...
//! }
//! ```

#[macro_use]
mod table;

pub mod api;
mod choice;
pub mod codes;
#[cfg(feature = "emulator")]
pub mod emulator;
mod system;
pub mod types;
mod version;

pub use choice::{Choice, DriverError, DriverKind, VARIABLE, choose, status};
pub use codes::last_unmapped_code;
pub use version::{KernelForm, Version, devices, require};
