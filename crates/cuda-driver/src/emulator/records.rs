//! What the emulated device has noticed, for tests to read: faults, leaks, unwritten data, costs.

use std::collections::BTreeMap;

use vitrine_ptx_emulator::Stats;

/// Device memory that was not given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// Its address on the device.
    pub address: u64,
    /// Its size.
    pub bytes: u64,
}

/// A copy to the host of memory that nothing had written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UninitialisedDownload {
    /// Where the copy began on the device.
    pub address: u64,
    /// How many bytes were copied.
    pub bytes: u64,
    /// The first of these, counted from 0, that had not been written.
    pub first: u64,
}

/// What the launches of one kernel cost the emulator.
#[derive(Clone, Debug, Default)]
pub struct KernelStatistics {
    /// How often the kernel was launched to its end.
    pub launches: u64,
    /// What was counted, over all of these launches.
    pub counts: Stats,
    /// The time it took here. It says nothing about the time on a GPU.
    pub seconds: f64,
}

#[derive(Default)]
pub(super) struct Records {
    pub last_fault: Option<String>,
    pub last_load_error: Option<String>,
    pub downloads: Vec<UninitialisedDownload>,
    pub leaks: Vec<Allocation>,
    pub kernels: BTreeMap<String, KernelStatistics>,
}
