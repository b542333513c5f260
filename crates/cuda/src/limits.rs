//! What a card can do at the most: its memory's bandwidth and its arithmetic, from what the driver tells.

use cust::device::{Device, DeviceAttribute};
use cust::error::CudaResult;

/// The limits of a card, a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Bytes that its memory moves.
    pub bytes: f64,
    /// Operations in `f32` outside of tensor cores.
    pub f32_operations: f64,
    /// Operations on `bf16` in tensor cores, sums in `f32`, without sparsity.
    pub bf16_operations: f64,
}

impl Limits {
    /// An H100 SXM5 (NVIDIA H100 Tensor Core GPU Architecture, table 1).
    pub const H100: Self =
        Self { bytes: 3.35e12, f32_operations: 66.9e12, bf16_operations: 989.4e12 };

    /// From clocks, width of the memory and number of multiprocessors.
    pub(crate) fn of(device: Device, (major, minor): (i32, i32)) -> CudaResult<Self> {
        let attribute = |which| device.get_attribute(which).map(f64::from);
        let memory_clock = 1e3 * attribute(DeviceAttribute::MemoryClockRate)?;
        let memory_bytes = attribute(DeviceAttribute::GlobalMemoryBusWidth)? / 8.0;
        let clock = 1e3 * attribute(DeviceAttribute::ClockRate)?;
        let cycles = clock * attribute(DeviceAttribute::MultiprocessorCount)?;
        let (f32_fmas, bf16_fmas) = per_cycle((major, minor));
        Ok(Self {
            // Two transfers a clock.
            bytes: 2.0 * memory_clock * memory_bytes,
            f32_operations: 2.0 * f32_fmas * cycles,
            bf16_operations: 2.0 * bf16_fmas * cycles,
        })
    }

    /// The least time for so many bytes and operations, in seconds, in `f32` or, for a kernel of `bf16`, tensor cores.
    pub fn floor(&self, bytes: u64, operations: u64, bf16: bool) -> f64 {
        let rate = if bf16 { self.bf16_operations } else { self.f32_operations };
        (bytes as f64 / self.bytes).max(operations as f64 / rate)
    }
}

/// Fused multiply-adds of a multiprocessor in a cycle, in `f32` and in tensor cores on `bf16` (CUDA C++ Programming
/// Guide, "Arithmetic instructions"; NVIDIA's papers on the Ampere, Ada, Hopper and Blackwell architectures).
fn per_cycle(capability: (i32, i32)) -> (f64, f64) {
    match capability {
        (8, 0) => (64.0, 1024.0),
        (8, _) => (128.0, 512.0),
        (9, _) => (128.0, 2048.0),
        (10, _) => (128.0, 4096.0),
        _ => (128.0, 512.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_is_set_by_bytes_or_by_operations() {
        let limits = Limits { bytes: 1e12, f32_operations: 1e13, bf16_operations: 1e14 };
        assert_eq!(limits.floor(2_000_000, 0, false), 2e-6);
        assert_eq!(limits.floor(0, 50_000_000, false), 5e-6);
        assert_eq!(limits.floor(1_000_000, 50_000_000, true), 1e-6);
    }

    #[test]
    fn an_h100s_cycles_give_its_published_rates() {
        // 132 multiprocessors at 1.98 and, with tensor cores busy, 1.83 GHz.
        let (f32_fmas, bf16_fmas) = per_cycle((9, 0));
        assert!((2.0 * f32_fmas * 132.0 * 1.98e9 / Limits::H100.f32_operations - 1.0).abs() < 0.01);
        assert!(
            (2.0 * bf16_fmas * 132.0 * 1.83e9 / Limits::H100.bf16_operations - 1.0).abs() < 0.01
        );
    }
}
