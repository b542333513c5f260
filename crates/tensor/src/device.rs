//! [`Device`]: a handle to a backend. Two handles are equal when they share the backend.

use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::backend::Backend;
use crate::cpu::CpuBackend;

/// Where a tensor's memory is and its operations run.
#[derive(Clone)]
pub struct Device(Arc<dyn Backend>);

impl Device {
    /// The CPU: one backend, and so one pool of buffers, for the whole process.
    pub fn cpu() -> Self {
        static CPU: OnceLock<Device> = OnceLock::new();
        CPU.get_or_init(|| Self::new(CpuBackend::default())).clone()
    }

    /// A device that runs its operations on `backend`.
    pub fn new(backend: impl Backend) -> Self {
        Self(Arc::new(backend))
    }

    /// The backend behind this device.
    pub fn backend(&self) -> &dyn Backend {
        &*self.0
    }
}

impl PartialEq for Device {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.name())
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({self})")
    }
}
